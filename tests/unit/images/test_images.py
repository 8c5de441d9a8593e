"""The images are built from consistent locks, by a Dockerfile without leftovers."""

import json
import re
import tarfile

import pytest

from lab import context, images

NAMES = ("dask", "notebook")


def locked(name):
    """Return the version of every package in a lock."""
    text = (context.SOURCE / f"{name}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)", text, re.MULTILINE))


def inputs(name):
    """Return the packages that an input file names."""
    text = (context.SOURCE / f"{name}.in").read_text()
    return set(re.findall(r"^([a-z0-9][a-z0-9-]*)", text, re.MULTILINE))


def instructions():
    """Return the instructions of the Dockerfile, one a line."""
    text = (context.SOURCE / "Dockerfile").read_text().replace("\\\n", "")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def stage(name):
    """Return the instructions of one stage."""
    lines = instructions()
    begin = next(i for i, line in enumerate(lines) if re.fullmatch(rf"FROM .* AS {name}", line))
    rest = lines[begin + 1 :]
    return rest[: next((i for i, line in enumerate(rest) if line.startswith("FROM")), len(rest))]


class TestLocks:
    def test_both_agree(self):
        """The notebook has every package of the workers, in the same version."""
        assert locked("dask").items() <= locked("notebook").items()

    @pytest.mark.parametrize("name", NAMES)
    def test_every_package_has_a_hash(self, name):
        """A changed package is not installed."""
        blocks = re.split(r"\n(?=\S)", (context.SOURCE / f"{name}.txt").read_text())
        packages = [block for block in blocks if not block.startswith("#")]
        assert [] == [block for block in packages if "--hash=sha256:" not in block]
        assert len(locked(name)) == len(packages)

    @pytest.mark.parametrize("name", NAMES)
    def test_no_index_is_named(self, name):
        """The lock is valid for every package index."""
        text = (context.SOURCE / f"{name}.txt").read_text()
        assert not re.search(r"://|^--?(index|extra|find|trusted)", text, re.MULTILINE)

    @pytest.mark.parametrize("name", NAMES)
    def test_all_inputs_are_locked(self, name):
        """A package in an input file needs renewed locks."""
        assert inputs(name) <= locked(name).keys()

    def test_the_dashboard_is_safe(self):
        """Releases before 2026.1.1 run foreign code (CVE-2026-23528)."""
        version = tuple(int(part) for part in locked("dask")["distributed"].split("."))
        assert (2026, 1, 1) <= version

    def test_scheduler_and_workers_proxy_nothing(self):
        """With jupyter-server-proxy beside it, distributed proxies every port to a browser."""
        assert not {"jupyter-server-proxy", "dask-labextension"} & locked("dask").keys()

    def test_the_notebooks_proxy_is_safe(self):
        """Releases before 4.2.0 proxied anonymous websockets (CVE-2024-28179)."""
        version = tuple(map(int, locked("notebook")["jupyter-server-proxy"].split(".")))
        assert (4, 2, 0) <= version

    def test_prefects_server_can_be_imported(self):
        """Releases before 3.9 admit any FastAPI, also those that break its server."""
        version = tuple(map(int, locked("dask")["prefect"].split(".")[:2]))
        assert (3, 9) <= version

    def test_dask_and_distributed_are_of_one_release(self):
        """Different releases of the two fail together."""
        assert locked("dask")["dask"] == locked("dask")["distributed"]


class TestExamples:
    @pytest.mark.parametrize("path", sorted(context.SOURCE.glob("examples/*.ipynb")), ids=str)
    def test_each_is_clean(self, path):
        """It has no output and no personal data."""
        notebook = json.loads(path.read_text())
        code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        assert code
        assert [] == [cell for cell in code if cell["outputs"] or cell["execution_count"]]
        assert {"kernelspec", "language_info"} == notebook["metadata"].keys()

    def test_all_are_in_the_image(self):
        """The build context has them, so that the Dockerfile can copy them."""
        names = [path.name for path in (context.SOURCE / "examples").iterdir()]
        with tarfile.open(fileobj=context.archive()) as tar:
            assert {f"examples/{name}" for name in names} <= set(tar.getnames())


class TestDockerfile:
    @pytest.mark.parametrize("target", images.TARGETS)
    def test_no_target_runs_as_root(self, target):
        """Every target ends with an ordinary user."""
        assert "USER 1000:1000" == stage(target)[-1]

    def test_no_program_is_setuid(self):
        """Debian packages are installed in two stages, and each removes the bits."""
        stages = [" ".join(stage(name)) for name in ("base", "notebook")]
        for text in stages:
            assert text.rindex("apt-get install") < text.index("-perm /6000 -exec chmod a-s {} +")

    @pytest.mark.parametrize("target", images.TARGETS)
    def test_only_build_stages_see_this_machine(self, target):
        """The index's settings stay out of published images."""
        assert [] == [line for line in stage(target) if "pip.con" in line or "ca.pe" in line]

    @pytest.mark.parametrize("target", images.TARGETS)
    def test_nothing_is_started_by_default(self, target):
        """An image that is run without a command prints its version."""
        assert any(re.fullmatch(r'CMD \["\w+", "--version"\]', line) for line in stage(target))

    def test_tini_does_not_forward_to_the_group(self):
        """`tini -g` would stop a worker's process before its nanny has drained it."""
        assert 'ENTRYPOINT ["tini", "-s", "--"]' in stage("dask")

    def test_every_install_demands_hashes(self):
        """No install bypasses the locks or compiles a package."""
        installs = [line for line in instructions() if "bin/python install" in line]
        assert 2 == len(installs)
        for line in installs:
            assert {"--require-hashes", "--no-deps", "--only-binary"} <= set(line.split())
