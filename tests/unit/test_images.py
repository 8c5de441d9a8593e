"""The images are built from locks that agree, by a Dockerfile that leaves nothing behind."""

import re

import pytest

from lab import context, images

NAMES = ("dask", "notebook")


def locked(name):
    """Return the version of every package in a lock."""
    text = (context.SOURCE / f"{name}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)", text, re.MULTILINE))


def wanted(name):
    """Return the packages that an input file names."""
    text = (context.SOURCE / f"{name}.in").read_text()
    return set(re.findall(r"^([a-z0-9][a-z0-9-]*)", text, re.MULTILINE))


def instructions():
    """Return the instructions of the Dockerfile, a line each."""
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
        """A package that was tampered with is not installed."""
        blocks = re.split(r"\n(?=\S)", (context.SOURCE / f"{name}.txt").read_text())
        packages = [block for block in blocks if not block.startswith("#")]
        assert [] == [block for block in packages if "--hash=sha256:" not in block]
        assert len(locked(name)) == len(packages)

    @pytest.mark.parametrize("name", NAMES)
    def test_no_index_is_named(self, name):
        """The lock holds wherever the packages are fetched from."""
        text = (context.SOURCE / f"{name}.txt").read_text()
        assert not re.search(r"://|^--?(index|extra|find|trusted)", text, re.MULTILINE)

    @pytest.mark.parametrize("name", NAMES)
    def test_what_is_wanted_is_locked(self, name):
        """A package added to an input file is missed until the locks are renewed."""
        assert wanted(name) <= locked(name).keys()

    def test_the_dashboard_is_safe(self):
        """Releases before 2026.1.1 run a stranger's code (CVE-2026-23528)."""
        version = tuple(int(part) for part in locked("dask")["distributed"].split("."))
        assert (2026, 1, 1) <= version

    @pytest.mark.parametrize("name", NAMES)
    def test_nothing_reaches_around_the_proxy(self, name):
        """jupyter-server-proxy would open every port of the cluster to a browser."""
        assert "jupyter-server-proxy" not in locked(name)

    def test_dask_and_distributed_are_of_one_release(self):
        """The two are released together and fail apart."""
        assert locked("dask")["dask"] == locked("dask")["distributed"]


class TestDockerfile:
    @pytest.mark.parametrize("target", images.TARGETS)
    def test_no_target_runs_as_root(self, target):
        """The last word of each target is an ordinary user."""
        assert "USER 1000:1000" == stage(target)[-1]

    @pytest.mark.parametrize("target", images.TARGETS)
    def test_only_build_stages_see_this_machine(self, target):
        """How the index is reached stays out of what is published."""
        assert [] == [line for line in stage(target) if "pip.con" in line or "ca.pe" in line]

    @pytest.mark.parametrize("target", images.TARGETS)
    def test_nothing_is_started_by_default(self, target):
        """An image that is run without a command prints its version."""
        assert any(re.fullmatch(r'CMD \["\w+", "--version"\]', line) for line in stage(target))

    def test_tini_does_not_forward_to_the_group(self):
        """`tini -g` would stop a worker's process before its nanny has drained it."""
        assert 'ENTRYPOINT ["tini", "-s", "--"]' in stage("dask")

    def test_every_install_demands_hashes(self):
        """No install bypasses the locks, and none brings a compiler's work along."""
        installs = [line for line in instructions() if "bin/python install" in line]
        assert 2 == len(installs)
        for line in installs:
            assert {"--require-hashes", "--no-deps", "--only-binary"} <= set(line.split())
