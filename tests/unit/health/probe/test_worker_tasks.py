"""A worker's checks of its packages."""

import socket
import subprocess
import time

import pytest

from health.probe import UnprovenError, worker_tasks
from health.probe.members import workers_of


@pytest.mark.parametrize(
    ("name", "expected"),
    [("pytest", ["_pytest", "py", "pytest"]), ("PyYAML", ["_yaml", "yaml"]), ("absent", None)],
)
def test_modules_of_a_distribution(name, expected):
    """The names of distribution and modules often differ."""
    if expected is None:
        with pytest.raises(ImportError):
            worker_tasks.modules(name)
        return
    assert expected == worker_tasks.modules(name)


def test_modules_are_found_without_import():
    """An import may take seconds."""
    assert worker_tasks.is_installed("json")
    assert not worker_tasks.is_installed("no_such_module")
    assert not worker_tasks.is_installed("no_such_package.module")


def test_a_failed_import_is_reported():
    """The error is the last line of the traceback."""
    assert "" == worker_tasks.import_error(["json", "csv"])
    assert "No module named 'no_such_module'" in worker_tasks.import_error(["no_such_module"])


def test_an_import_that_hangs_is_ended(monkeypatch, tmp_path):
    """Otherwise it would keep a thread of the worker for ever."""
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(5)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(worker_tasks, "TASK_SECONDS", 0.3)
    with pytest.raises(subprocess.TimeoutExpired):
        worker_tasks.import_error(["slow"])


def test_only_packages_installed_at_start_are_imported(monkeypatch, tmp_path):
    """The mark is as old as the container."""
    mark = tmp_path / "mark"
    monkeypatch.setattr(worker_tasks, "CONTAINER_MARK", mark)
    assert not worker_tasks.installed_at_start("pytest")
    mark.touch()
    assert not worker_tasks.installed_at_start("pytest")
    made = tmp_path / "made-1.0.dist-info"
    made.mkdir()
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: made\nVersion: 1.0\n")
    (made / "RECORD").write_text("made-1.0.dist-info/METADATA,,\nmade.py,,\n")
    (tmp_path / "made.py").write_text("raise ValueError('broken')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    described = worker_tasks.describe(["made", "pytest"])
    assert ([], "ValueError: broken") == (described["missing"], described["error"])


ROW = "195 177 254:0 {}/containers/c820faafbaf2/hostname /etc/hostname rw,relatime - ext4 /dev/vda"
ROOT_ROW = "177 60 0:51 / / rw,relatime - overlay overlay rw,lowerdir=/var/lib/docker/l/ABC"


@pytest.mark.parametrize(
    ("boot", "row", "same"),
    [
        ("one", ROW.format("/var/lib/docker").replace("c820", "dddd"), True),
        ("one", ROW.format("/srv/docker"), False),
        ("one", ROW.format("/var/lib/docker").replace("254:0", "254:1"), False),
        ("other", ROW.format("/var/lib/docker"), False),
    ],
    ids=["another container", "another engine", "another disk", "another machine"],
)
def test_containers_of_an_engine_have_it_in_common(monkeypatch, tmp_path, boot, row, same):
    """All that they share is the kernel, and the folder where the engine keeps them."""

    def engine_at(boot, row):
        for name, text in (("BOOT", f"{boot}\n"), ("MOUNTS", f"{ROOT_ROW}\n{row}\n")):
            path = tmp_path / name
            path.write_text(text)
            monkeypatch.setattr(worker_tasks, name, path)
        return worker_tasks.engine()

    here = engine_at("one", ROW.format("/var/lib/docker"))
    assert same == (here == engine_at(boot, row))


@pytest.mark.parametrize("row", [ROOT_ROW, None], ids=["no container", "no file"])
def test_a_worker_without_an_engine_has_its_host_name(monkeypatch, tmp_path, row):
    """It is no container, or one of another engine."""
    path = tmp_path / "mounts"
    if row:
        path.write_text(row)
    monkeypatch.setattr(worker_tasks, "MOUNTS", path)
    assert socket.gethostname() == worker_tasks.engine()


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ({"missing": ["s3fs"], "error": ""}, "no module s3fs"),
        ({"missing": [], "error": "ImportError: broken"}, "ImportError: broken"),
    ],
)
def test_a_worker_that_cannot_import_a_package_fails(client, monkeypatch, answer, found):
    """It is not installed, or its import fails."""
    monkeypatch.setattr(worker_tasks, "describe", lambda _: answer | {"engine": "e"})
    workers = sorted(workers_of(client))
    message = f"expected {workers[0]} to import s3fs, found {found}"
    with pytest.raises(UnprovenError, match=message):
        worker_tasks.run_tasks(client, workers, ["s3fs"])


def test_a_worker_that_does_not_run_its_task_fails(client, monkeypatch):
    """It is stuck, or raises an error."""
    monkeypatch.setattr(worker_tasks, "TASK_SECONDS", 0)
    monkeypatch.setattr(worker_tasks, "describe", lambda _: time.sleep(0.5))
    workers = sorted(workers_of(client))
    with pytest.raises(UnprovenError, match="found no result after 0 s: its state is"):
        worker_tasks.run_tasks(client, workers, [])
    monkeypatch.setattr(worker_tasks, "TASK_SECONDS", 30)
    monkeypatch.setattr(worker_tasks, "describe", lambda _: 1 / 0)
    with pytest.raises(UnprovenError, match="to run a task, found ZeroDivisionError"):
        worker_tasks.run_tasks(client, workers, [])
