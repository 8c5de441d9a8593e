"""Backup and restore of what a stack keeps in volumes, for `make backup` and `make restore`.

Owns which volumes there are, the folder of a backup, and the order of a restore: every archive is
read whole before anything is touched; the new files lie beside the old files before a service
stops; until all files are in place, every failure puts the old files back.
"""

import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from subprocess import CalledProcessError

from config.names import network_name
from config.types import spell_size
from swarm import leftovers
from swarm.causes import error_of
from swarm.manager import MANAGER_ERRORS, Manager
from swarm.nodes import Node, can_run, hostname, usable
from swarm.progress import Progress
from swarm.shutdown import end_tasks, unfinished
from swarm.snapshot import Service, replicas, works
from tools import volume_agent
from tools.runners import ROOT, Runner, say
from tools.transfer import Agent, Place, Runtime, TransferError, agents
from tools.volume_agent import BrokenArchiveError, Json

BACKUPS = ROOT / "backups"
ENDING = ".tar.gz"
NOTEBOOK = "notebook-service"
# The services that keep something, by logical names without the cluster's name, and what it is.
OWNERS = {
    "notebook": (NOTEBOOK, "the notebook's home"),
    "prefect": ("prefect-service", "Prefect's history"),
    "caddy": ("front-caddy", "Caddy's certificates"),
}
START_SECONDS = 300
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, kw_only=True, eq=False)
class Owner:
    """A service that keeps files in a volume, on the node where the volume is."""

    role: str
    service: Service
    place: Place

    @property
    def name(self) -> str:
        """The service's name."""
        return str(self.service["Spec"]["Name"])

    def __str__(self) -> str:
        """Return what it keeps, and where."""
        where = f"{self.place.volume} on {hostname(self.place.node)}"
        return f"{OWNERS[self.role][1]} ({where})"


@dataclass(frozen=True, kw_only=True)
class Stack:
    """A deployed stack: its name, its manager and the address, what it keeps, where agents run."""

    name: str
    address: str
    manager: Manager
    owners: Sequence[Owner]
    runtime: Runtime


def run(runner: Runner, action: str, *, folder: Path | None, made_by: str) -> int:
    """Back up or restore and return the exit code; the stack `made_by` made the backup."""
    try:
        with _interruptible():
            if action == "backup":
                backup(runner, folder)
            else:
                restore(runner, folder, made_by)
    except (TransferError, BrokenArchiveError) as error:
        say(str(error))
        return 1
    except MANAGER_ERRORS as error:
        say(f"{action} failed: {error}")
        return 1
    return 0


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let the first signal end the block by a `TransferError`, and ignore others meanwhile."""

    def stop(number: int, _: object) -> None:
        for other in SIGNALS:
            signal.signal(other, signal.SIG_IGN)
        raise TransferError(f"interrupted by {signal.Signals(number).name}")

    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def backup(runner: Runner, folder: Path | None) -> None:
    """Write an archive of each volume into a new folder."""
    stack, progress = _stack(runner), Progress()
    now = datetime.now(UTC)
    target = folder or BACKUPS / stack.name / f"{now:%Y%m%dT%H%M%SZ}"
    if target.exists():
        raise TransferError(f"{target} exists already. Fix: name a new folder")
    about = {"stack": stack.name, "created": f"{now:%Y-%m-%d %H:%M:%S} UTC"}
    with (
        _whole(target) as draft,
        _connected(stack, stack.owners, progress, read_only=True) as connected,
    ):
        for owner, agent in connected.items():
            progress.log(f"reading {owner}")
            archive = draft / f"{owner.role}{ENDING}"
            agent.pack({**about, "role": owner.role}, archive)
            _report(owner, archive, volume_agent.check(archive))
    print(f"Backup of {stack.name}: {target}. It holds secrets: keep it as you keep the state.")


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """Yield a new folder that gets its name after success, and is removed after a failure."""
    draft = folder.with_name(f"{folder.name}.unfinished")
    draft.mkdir(parents=True, mode=0o700)
    try:
        yield draft
    except BaseException:
        shutil.rmtree(draft)
        raise
    draft.rename(folder)


def _report(owner: Owner, archive: Path, manifest: Json) -> None:
    say(f"{owner}: {_contents(archive, manifest)}")
    if cut := manifest["cut"]:
        say(f"  shortened while they were read, so not as they were: {_names(cut)}")
    if locked := manifest["locked"]:
        say(
            f"  locked by a program for {volume_agent.SQLITE_SECONDS} s, so the copies may be "
            f"damaged: {_names(locked)}. Fix: end the program, and back up again"
        )


def _contents(archive: Path, manifest: Json) -> str:
    return f"{len(manifest['files'])} files, {spell_size(archive.stat().st_size)} compressed"


def _names(names: Sequence[str], count: int = 0) -> str:
    shown = names[: volume_agent.SHOWN_NAMES]
    # A name may be in another encoding.
    text = ", ".join(shown).encode("utf-8", "replace").decode()
    more = (count or len(names)) - len(shown)
    return f"{text} and {more} more" if more else text


def restore(runner: Runner, source: Path | None, made_by: str) -> None:
    """Replace the files of every volume that a backup has by the backup's."""
    archives = _archives(source, made_by)
    stack, progress = _stack(runner), Progress()
    owners = {owner.role: owner for owner in stack.owners}
    for role in archives.keys() - owners.keys():
        say(f"{OWNERS[role][1]}: not restored, because {stack.name} keeps nothing of the kind")
    for role in owners.keys() - archives.keys():
        say(f"{owners[role]}: not in the backup, so it stays")
    chosen = [owners[role] for role in OWNERS if role in owners.keys() & archives.keys()]
    if not chosen:
        raise TransferError(f"{source}: nothing that {stack.name} keeps is in this backup")
    for owner in chosen:
        _require_one_node(stack.manager, owner)
    losses = _replace(stack, {owner: archives[owner.role][0] for owner in chosen}, progress)
    _wait_until_running(stack.manager, chosen, progress)
    for owner in chosen:
        archive, manifest = archives[owner.role]
        say(f"{owner}: restored from {manifest.get('created')}, {_contents(archive, manifest)}")
        say(f"  {_spell_losses(losses[owner])}")


def _replace(
    stack: Stack, archives: Mapping[Owner, Path], progress: Progress
) -> Mapping[Owner, Json]:
    """Replace the files of all owners, or of none; return what each has lost."""
    owners, restored = [*archives], []
    try:
        with ExitStack() as ended:
            # First in, last out: a service starts when no agent works on its volume any more.
            stopped: list[Owner] = []
            ended.enter_context(_restarting(stack.manager, stopped))
            connected = ended.enter_context(_connected(stack, owners, progress, read_only=False))
            for owner, agent in connected.items():
                progress.log(f"sending {owner}")
                agent.unpack(archives[owner])
            stopped += owners
            _stop(stack.manager, owners, progress)
            losses = {owner: agent.swap() for owner, agent in connected.items()}
            _require_stopped(stack.manager, owners)
            for owner, agent in connected.items():
                agent.commit()
                restored.append(str(owner))
    except (TransferError, *MANAGER_ERRORS) as error:
        done = f"restored: {', '.join(restored)}" if restored else "nothing is restored"
        raise TransferError(f"{error}; {done}") from None
    return losses


def _spell_losses(lost: Json) -> str:
    removed = f"removed {lost['lost_count']}"
    if lost["lost"]:
        removed += f" ({_names(lost['lost'], lost['lost_count'])})"
    return f"files that the backup does not have: {removed}; replaced {lost['changed_count']}"


def _archives(source: Path | None, made_by: str) -> dict[str, tuple[Path, Json]]:
    """Return the archive and the manifest of each role; raises for any that is not whole."""
    if source is None or not source.exists():
        raise TransferError(
            f"BACKUP: {source or 'not set'}. Expected: a folder that `make backup` has written, "
            f"or an archive in it. Fix: make restore BACKUP={BACKUPS.name}/…"
        )
    paths = sorted(source.glob(f"*{ENDING}")) if source.is_dir() else [source]
    found = {}
    for path in paths:
        manifest = volume_agent.check(path)
        if manifest.get("role") not in OWNERS or manifest["role"] in found:
            raise BrokenArchiveError(f"{path}: {manifest.get('role')!r} is not a volume's role")
        if (stack := manifest.get("stack")) != made_by:
            raise TransferError(
                f"{path}: the backup is of the stack {stack}, not of {made_by}. "
                f"Fix: choose another backup, or add FROM={stack}"
            )
        found[manifest["role"]] = (path, manifest)
    if not found:
        raise TransferError(f"{source}: no {ENDING} is in this folder")
    return found


def _stack(runner: Runner) -> Stack:
    """Return the stack as its state and the Swarm have it."""
    try:
        state = runner.state()
    except CalledProcessError as error:
        raise TransferError(f"{runner.stack}: {error.stderr.strip()}") from None
    hosts = sorted(leftovers.hosts(state))
    made = [resource for resource in leftovers.resources(state) if resource.get("id")]
    named = {str(resource["urn"].rpartition("::")[2]): resource["id"] for resource in made}
    notebook = next((name for name in named if name.endswith(f"-{NOTEBOOK}")), "")
    cluster = notebook.removesuffix(f"-{NOTEBOOK}")
    ids = {name.removeprefix(f"{cluster}-"): identifier for name, identifier in named.items()}
    if not hosts or not notebook:
        raise TransferError(
            f"{runner.stack}: the stack is not deployed. Fix: make up STACK={runner.stack}"
        )
    manager = Manager(hosts[0])
    services = {service["ID"]: service for service in manager.objects("service")}
    roles = {role: ids[name] for role, (name, _) in OWNERS.items() if name in ids}
    if missing := [role for role, identifier in roles.items() if identifier not in services]:
        raise TransferError(
            f"{runner.stack}: the Swarm does not have the service of {', '.join(missing)}. "
            f"Fix: make up STACK={runner.stack}"
        )
    return Stack(
        name=runner.stack,
        address=hosts[0],
        manager=manager,
        owners=[_owner(manager, role, services[identifier]) for role, identifier in roles.items()],
        runtime=Runtime.beside(services[ids[NOTEBOOK]], _network_id(manager, cluster)),
    )


def _network_id(manager: Manager, cluster: str) -> str:
    # An external network is not in the state.
    networks = manager.objects("network")
    return str(next(n["Id"] for n in networks if n["Name"] == network_name(cluster)))


def _owner(manager: Manager, role: str, service: Service) -> Owner:
    name, template = service["Spec"]["Name"], service["Spec"]["TaskTemplate"]
    mounts = template["ContainerSpec"]["Mounts"]
    (volume,) = [mount["Source"] for mount in mounts if mount.get("Source")]
    nodes = manager.nodes()
    used = {task["NodeID"] for task in manager.snapshot([name]).tasks if works(task)}
    fit = [node for node in nodes if node["ID"] in used] or _fitting(service, nodes)
    if len(fit) != 1:
        raise TransferError(
            f"{name}: the service does not run, and {len(fit)} nodes fit controlPlacement, so the "
            "node of its volume is not known. Fix: pulumi config set controlPlacement "
            "node.hostname==<node>; make up"
        )
    return Owner(role=role, service=service, place=Place(volume=volume, node=fit[0]))


def _fitting(service: Service, nodes: Sequence[Node]) -> list[Node]:
    """Return the nodes where Swarm may start a service."""
    return [node for node in nodes if usable(node) and can_run(node, service)]


def _require_one_node(manager: Manager, owner: Owner) -> None:
    """Refuse where Swarm could start the service beside another volume."""
    fit = sorted(hostname(node) for node in _fitting(owner.service, manager.nodes()))
    if len(fit) != 1:
        raise TransferError(
            f"{owner.name}: controlPlacement fits {', '.join(fit) or 'no node that is ready'}, "
            "but a volume belongs to one node. Fix: pulumi config set controlPlacement "
            f"node.hostname=={hostname(owner.place.node)}; make up"
        )


@contextmanager
def _connected(
    stack: Stack, owners: Sequence[Owner], progress: Progress, *, read_only: bool
) -> Iterator[dict[Owner, Agent]]:
    places = [owner.place for owner in owners]
    with agents(stack.address, stack.runtime, places, progress, read_only=read_only) as connected:
        yield dict(zip(owners, connected, strict=True))


@contextmanager
def _restarting(manager: Manager, owners: Sequence[Owner]) -> Iterator[None]:
    """Start the services at the end of the block, whatever has happened in it."""
    try:
        yield
    finally:
        failures: dict[str, str] = {}
        for owner in owners:
            # At least one: a restore that was killed may have left none.
            count = max(1, replicas(owner.service))
            try:
                manager.scale(owner.name, count)
            except MANAGER_ERRORS as error:
                failures[f"{owner.name}={count}"] = str(error)
        if failures:
            say(f"services are stopped. Fix: docker service scale {' '.join(failures)}")
            raise TransferError(", ".join({*failures.values()}))


def _stop(manager: Manager, owners: Sequence[Owner], progress: Progress) -> None:
    names = [owner.name for owner in owners]
    progress.log(f"stopping {', '.join(names)}")
    end_tasks(manager, names, Progress())
    _require_stopped(manager, owners)


def _require_stopped(manager: Manager, owners: Sequence[Owner]) -> None:
    now = manager.snapshot([owner.name for owner in owners])
    for name, service in now.services.items():
        if replicas(service) or unfinished(now.tasks_of(name)):
            raise TransferError(
                f"{name}: the service still runs, or another deployment has started it. "
                "Fix: wait until it has ended, and restore again"
            )


def _wait_until_running(manager: Manager, owners: Sequence[Owner], progress: Progress) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        now = manager.snapshot([owner.name for owner in owners])
        running = {task["ServiceID"] for task in now.tasks if works(task)}
        waiting = [owner.name for owner in owners if owner.service["ID"] not in running]
        if not waiting:
            return
        if time.monotonic() > deadline:
            errors = ", ".join({error_of(task) for task in now.tasks} - {""})
            raise TransferError(
                f"{', '.join(waiting)}: the files are restored, but the service does not run "
                f"within {START_SECONDS} s: {errors or 'no error'}. "
                f"Fix: docker service ps --no-trunc {' '.join(waiting)}"
            )
        progress.update(f"starting {', '.join(waiting)}")
        time.sleep(manager.poll_seconds)
