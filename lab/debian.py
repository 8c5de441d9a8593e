"""Debian packages: installed for the lab, made into a base image, or fetched for one file."""

import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree, which

import docker

from lab.shell import LabError, run, say, step

SUITE = "bookworm"
BASE = f"dask-swarm-base:{SUITE}"
_BASE_PACKAGES = ("bash", "ca-certificates", "python3", "python3-venv", "tini")
_ENGINE_PACKAGES = ("ca-certificates", "docker.io", "iproute2", "iptables", "kmod", "procps")
_LEFT_OUT = ("./usr/share/doc", "./usr/share/locale", "./usr/share/man", "./var/cache/apt",
             "./var/lib/apt/lists", "./var/log", "./dev", "./proc", "./sys")  # fmt: skip
# It ends with this program, and takes the programs it has started and its mounts along.
_BOUND = ["setpriv", "--pdeathsig", "KILL",
          "unshare", "--mount-proc", "--pid", "--fork", "--kill-child"]  # fmt: skip
_MIRROR = "http://deb.debian.org/debian"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_PACKAGE_OF = {
    "debootstrap": "debootstrap",
    "dnsmasq": "dnsmasq-base",
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
    """Install the packages of missing commands; `LabError` without apt-get or when it fails."""
    package_of = _PACKAGE_OF | _FOR_TESTS
    missing = [package_of[command] for command in commands if not which(command)]
    if not missing:
        return
    names = " ".join(missing)
    if not which("apt-get"):
        raise LabError(f"{names}: not installed, and this system has no apt-get. Install them")
    with step(f"installing {names}"), _services_kept_still():
        _install(missing)


def let_services_start() -> None:
    """Remove the policy that keeps services still, also after an interrupted installation."""
    if _POLICY.exists() and _POLICY.read_text() == _DENY:
        _POLICY.unlink()


def ensure_base(engine: "docker.APIClient", folder: Path) -> str:
    """Return the tag of the base image; makes the image in `folder`, which is emptied."""
    if not engine.images(BASE):
        with step(f"base image from Debian {SUITE} packages"):
            _bootstrap(folder, SUITE, _BASE_PACKAGES)
            _import(engine, folder)
            rmtree(folder)
    return BASE


def ensure_engine(root: Path) -> None:
    """Make a Debian system with an engine in `root`, whose name is the release, if it is missing.

    Raises `LabError` where the release cannot be read.
    """
    if not root.exists():
        with step(f"the engine of Debian {root.name}"):
            unfinished = root.with_suffix(".part")
            _bootstrap(unfinished, root.name, _ENGINE_PACKAGES)
            unfinished.rename(root)


def fetch_file(package: str, suite: str, file: str, place: Path) -> None:
    """Put one file of a package at `place` without installing the package.

    Raises `LabError` where the suite cannot be read or lacks the package.
    """
    if not which("apt-get"):
        raise LabError("this system has no apt-get")
    with (
        step(f"fetching {package} from Debian {suite}"),
        tempfile.TemporaryDirectory(dir=place.parent) as folder,
    ):
        apt_get = _apt_get_for(suite, Path(folder))
        run([*apt_get, "update"], seconds=120)
        run([*apt_get, "download", package], seconds=120)
        (archive,) = Path(folder).glob("*.deb")
        run(["dpkg-deb", "--extract", str(archive), folder])
        (Path(folder) / file).replace(place)


def _install(packages: list[str]) -> None:
    try:
        _apt_get("install", "--no-install-recommends", *packages)
    except LabError:
        say("updating the package lists: a package is not in them")
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


def _bootstrap(root: Path, suite: str, packages: Sequence[str]) -> None:
    rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    # The script of the newest release serves releases that this machine's debootstrap lacks.
    script = "/usr/share/debootstrap/scripts/sid"
    words = ["--variant=minbase", f"--include={','.join(packages)}", suite, str(root), _mirror()]
    run([*_BOUND, "debootstrap", *words, script], seconds=600)


def _import(engine: "docker.APIClient", root: Path) -> None:
    left_out = [f"--exclude={path}/*" for path in _LEFT_OUT]
    command = ["tar", "--create", "--one-file-system", *left_out, "--directory", str(root), "."]
    repository, _, tag = BASE.partition(":")
    with subprocess.Popen(command, stdout=subprocess.PIPE) as archive:
        engine.import_image_from_stream(archive.stdout, repository=repository, tag=tag)


def _mirror() -> str:
    """The Debian mirror of this machine's own apt; Debian's where apt has none."""
    only = ["Origin: Debian", "Label: Debian", "Component: main", "Created-By: Packages"]
    mirrors = run(["apt-get", "indextargets", "--format", "$(REPO_URI)", *only]).split()
    return mirrors[0] if mirrors else _MIRROR


def _apt_get_for(suite: str, folder: Path) -> list[str]:
    """An apt-get that knows this suite alone and keeps to `folder`."""
    sources = folder / "sources.list"
    sources.write_text(f"deb [signed-by={_KEYRING}] {_mirror()} {suite} main\n")
    lists, cache = folder / "lists", folder / "cache"
    lists.mkdir()
    cache.mkdir()
    options = {
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": lists,
        "Dir::Cache": cache,
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "root",  # its own user cannot write to `folder`
    }
    words = [f"--option={key}={value}" for key, value in options.items()]
    return ["env", f"--chdir={folder}", "apt-get", "--quiet", *words]
