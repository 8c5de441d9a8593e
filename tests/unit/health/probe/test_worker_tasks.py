"""A worker's checks of its packages."""

import pytest

from health.probe import worker_tasks


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
    (made / "RECORD").write_text("made-1.0.dist-info/METADATA,,\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert worker_tasks.installed_at_start("made")
