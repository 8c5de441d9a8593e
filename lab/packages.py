"""Debian packages that the lab needs, installed when they are missing."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which

from lab.shell import LabError, run, say, step

_PACKAGE_OF = {
    "debootstrap": "debootstrap",
    "docker-registry": "docker-registry",
    "dockerd": "docker.io",
    "ip": "iproute2",
    "iptables": "iptables",
    "modprobe": "kmod",
}
_FOR_TESTS = {"chromium": "chromium", "sshd": "openssh-server"}
_POLICY = Path("/usr/sbin/policy-rc.d")
_DENY = "#!/bin/sh\n# Until the dask-swarm lab has installed its packages.\nexit 101\n"


def ensure_packages(commands: Iterable[str] = tuple(_PACKAGE_OF)) -> None:
    """Install what lacks of these commands; `LabError` without apt-get or when it fails."""
    package_of = _PACKAGE_OF | _FOR_TESTS
    missing = [package_of[command] for command in commands if not which(command)]
    if not missing:
        return
    if not which("apt-get"):
        raise LabError(f"{', '.join(missing)} missing and no apt-get here: install them yourself")
    with step(f"installing {' '.join(missing)}"), _services_kept_still():
        _install(missing)


def _install(packages: list[str]) -> None:
    try:
        _apt_get("install", "--no-install-recommends", *packages)
    except LabError:
        say("not in the package lists as they are: updating them")
        _apt_get("update")
        _apt_get("install", "--no-install-recommends", *packages)


def _apt_get(*words: str) -> None:
    quiet = ["env", "DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_SUSPEND=1"]
    run([*quiet, "apt-get", "--yes", "--quiet", *words], seconds=600)


@contextmanager
def _services_kept_still() -> Iterator[None]:
    """Debian starts a service as it installs it; the lab starts its own engines."""
    if not _POLICY.exists():
        _POLICY.write_text(_DENY)
        _POLICY.chmod(0o755)
    try:
        yield
    finally:
        let_services_start()


def let_services_start() -> None:
    """Take back what kept services still, also that of an installation cut short."""
    if _POLICY.exists() and _POLICY.read_text() == _DENY:
        _POLICY.unlink()
