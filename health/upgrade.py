"""The upgrade check: what must be true before running services get other images.

    DOCKER_HOST=… python -m health.upgrade < request.json

Reads a request, one JSON object, on standard input; an empty one asks for nothing. Both new images
must have the same versions of what Dask compares: a short-lived service of each image reports
them. Then, if the request gives time for that, another one waits until the scheduler has no task.
On failure this program exits with 1 after a message, and no service of the cluster has changed.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from docker import types

from health import bundle, job
from health.diagnose import report
from health.evidence import collect_evidence
from health.job import Container, ProbeService
from health.launch import carry_out
from health.probe.versions import differences
from health.reaper import reaper
from health.timing import TIMING, Deadline, Timing
from health.watch import Observer
from swarm import UnfitError
from swarm.manager import MANAGER_ERRORS, Manager, cluster_of
from swarm.nodes import platforms_of
from swarm.progress import Progress
from swarm.proof_record import newest, proven_versions, record_name

UNCHANGED = "Nothing was changed."
SHOWN = ("python", "dask", "distributed")
PIP_CONFIG = "/etc/pip.conf"

Versions = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class UpgradeRequest:
    """What to check, and the seconds for it.

    `images` is config key to pinned image, both or none. `changed` are the keys that change.
    With `packages` the images install these at start. `scheduler` is the name of the running
    scheduler's service, whose dashboard has `port` on the network called `network_name`.
    """

    scheduler: str
    port: int
    network_name: str
    images: Mapping[str, str]
    changed: Sequence[str]
    packages: Sequence[str]
    constraints: Sequence[str]
    platforms: Sequence[str]
    deadline_seconds: float
    idle_seconds: float

    @classmethod
    def parse(cls, text: str) -> "UpgradeRequest | None":
        """Read a request, None if it is empty; raises `ValueError` for an invalid one."""
        try:
            data = json.loads(text)
            return cls(**data) if data else None
        except (TypeError, ValueError) as error:
            raise ValueError(f"the request on standard input is not understood: {error}") from None


def main(timing: Timing = TIMING) -> int:
    """Run the request on standard input and return the exit code."""

    def program(text: str, progress: Progress) -> dict[str, Any]:
        request = UpgradeRequest.parse(text)
        return run(request, progress, timing) if request else {}

    return carry_out(program)


def run(request: UpgradeRequest, progress: Progress, timing: Timing = TIMING) -> dict[str, Any]:
    """Check the images, wait until the cluster is idle, and return the versions of the images.

    Raises `UnfitError`. Every short-lived service is removed before this returns or raises, or
    soon after by its reaper.
    """
    rounds = _rounds(request) if request.images else []
    count = len(rounds) * len(request.images) + bool(request.idle_seconds)
    names = [job.new_name(cluster_of(request.scheduler)) for _ in range(count)]
    seconds = len(rounds) * request.deadline_seconds + request.idle_seconds + timing.appear
    with ExitStack() as stack:
        # All before any thread starts: a reaper forks.
        dismissals = [stack.enter_context(reaper(name, seconds, timing)) for name in names]
        manager = Manager()
        probes = [ProbeService(manager, name, timing) for name in names]
        for probe, dismiss in zip(probes, dismissals, strict=True):
            stack.callback(_remove, probe, dismiss)
        check = _Check(manager, request, iter(probes), progress, timing)
        versions = check.images(rounds)
        if request.idle_seconds:
            check.wait_until_idle()
    return {"versions": versions}


def _rounds(request: UpgradeRequest) -> list[Sequence[str]]:
    """Return the packages to install in each round of the check.

    Installing takes minutes, and seldom changes what Dask compares. So only images that differ
    without the packages are compared with them.
    """
    return [(), request.packages] if request.packages else [()]


def _remove(probe: ProbeService, dismiss: Callable[[], None]) -> None:
    with suppress(*MANAGER_ERRORS):
        if probe.remove():
            dismiss()


class _Check:
    """One check; each of its short-lived services takes the next of `probes`."""

    def __init__(
        self,
        manager: Manager,
        request: UpgradeRequest,
        probes: Iterator[ProbeService],
        progress: Progress,
        timing: Timing,
    ) -> None:
        self._manager = manager
        self._request = request
        self._probes = probes
        self._progress = progress
        self._timing = timing

    def images(self, rounds: Sequence[Sequence[str]]) -> Versions:
        """Return the common versions of the images; raises `UnfitError` if they differ."""
        different: dict[str, str] = {}
        for packages in rounds:
            found = self._ask_versions(packages)
            different = differences(found)
            if not different:
                versions = next(iter(found.values()))
                self._progress.log(f"both images have {spell(versions)}{self._running_versions()}")
                return versions
        if different:
            raise UnfitError(mismatch(self._request, different))
        return {}

    def _ask_versions(self, packages: Sequence[str]) -> dict[str, Versions]:
        request = self._request
        secrets = self._pip_config() if packages else []
        containers = {
            key: Container(
                image=image,
                args=bundle.command("", "installed"),
                constraints=request.constraints,
                platforms=request.platforms,
                packages=packages,
                secrets=secrets,
            )
            for key, image in request.images.items()
        }
        what = f"checking the versions in {' and '.join(containers)}"
        if packages:
            what += f", with {', '.join(packages)} installed"
        return self._run(containers, request.deadline_seconds, what)

    def _pip_config(self) -> list[types.SecretReference]:
        """Return the running scheduler's configuration of pip."""
        service = self._manager.snapshot([self._request.scheduler]).services.get(
            self._request.scheduler
        )
        spec = service["Spec"]["TaskTemplate"]["ContainerSpec"] if service else {}
        return [s for s in spec.get("Secrets") or [] if s["File"]["Name"] == PIP_CONFIG]

    def _running_versions(self) -> str:
        """Return the versions at the cluster's last proof, for a message."""
        cluster = cluster_of(self._request.scheduler)
        record = newest(self._manager.configs(record_name(cluster)), cluster)
        versions = proven_versions(record)
        return f"; the cluster runs {spell(versions)}" if versions else ""

    def wait_until_idle(self) -> None:
        """Return when the scheduler has had no task for a moment; raises `UnfitError`."""
        request = self._request
        now = self._manager.snapshot([request.scheduler])
        if not any(t["Status"]["State"] == "running" for t in now.tasks_of(request.scheduler)):
            self._progress.log(f"no task of {request.scheduler} runs; no computation to wait for")
            return
        seconds = request.idle_seconds
        asks = {"host": request.scheduler, "port": request.port, "seconds": seconds}
        template = now.services[request.scheduler]["Spec"]["TaskTemplate"]
        placement = template.get("Placement") or {}
        container = Container(
            image=template["ContainerSpec"]["Image"],
            args=bundle.command(json.dumps(asks), "idle"),
            constraints=placement.get("Constraints") or [],
            platforms=platforms_of(placement),
            networks=[
                network["Id"]
                for network in self._manager.objects("network")
                if (network["Name"], network["Scope"]) == (request.network_name, "swarm")
            ],
            network_name=request.network_name,
        )
        end = time.strftime("%H:%M:%S", time.localtime(time.time() + seconds))
        what = f"waiting until no task runs, at most {seconds:g} s, until {end}"
        try:
            self._run({"": container}, seconds + self._timing.appear, what)
        except _BusyError as error:
            raise UnfitError(
                f"idleDeadline: not idle after {seconds:g} s: {error}. {UNCHANGED}\n"
                "      expected: no task that runs or waits\n"
                "      fix: end the computations, or pulumi config set idleDeadline 0, "
                "which loses them"
            ) from None

    def _run(
        self, containers: Mapping[str, Container], seconds: float, what: str
    ) -> dict[str, Any]:
        """Run a service for each container, and return the result of each."""
        deadline = Deadline.after(seconds)
        probes = {key: next(self._probes) for key in containers}
        names = [probe.name for probe in probes.values()]
        try:
            for key, probe in probes.items():
                ends_at = time.time() + seconds
                probe.start(job.one_shot(containers[key], probe.name, ends_at))
            self._follow(probes, deadline, what)
        except UnfitError as error:
            headline = f"{what}: {error}. {UNCHANGED}"
            now = self._manager.snapshot(names)
            evidence = collect_evidence(self._manager, now, "", None, headline)
            raise UnfitError(report(headline, names, evidence)) from None
        finally:
            with suppress(*MANAGER_ERRORS):
                for probe in probes.values():
                    probe.remove()
        return {key: _result(probe) for key, probe in probes.items()}

    def _follow(self, probes: Mapping[str, ProbeService], deadline: Deadline, what: str) -> None:
        observer = Observer(self._manager, [p.name for p in probes.values()], self._timing)
        while waiting := [probe for probe in probes.values() if not probe.log.outcome]:
            if deadline.passed:
                raise UnfitError(f"no result within {deadline.limit:g} s")
            observer.look()
            observer.check_tasks(observer.now.services)
            for probe in waiting:
                probe.check(observer.now)
                probe.log.wait(self._manager.poll_seconds / len(waiting))
            steps = dict.fromkeys(probe.log.progress for probe in waiting)
            self._progress.update(f"{what}: {', '.join(steps)}")


class _BusyError(Exception):
    """The scheduler still has tasks at the deadline."""


def _result(probe: ProbeService) -> Any:  # noqa: ANN401  as the probe's program prints it
    outcome = probe.log.outcome or {}
    if "failure" in outcome:
        raise _BusyError(outcome["failure"])
    return outcome["proof"]


def mismatch(request: UpgradeRequest, different: Mapping[str, str]) -> str:
    """Return the message about images with `different` versions, as `differences` lists them."""
    keys = " and ".join(request.changed)
    lines = [f"{keys}: the images have different versions. {UNCHANGED}"]
    lines += [f"  {package}: {listed}" for package, listed in different.items()]
    lines += [f"  {key} is {image}" for key, image in request.images.items()]
    return "\n".join(
        [
            *lines,
            "      expected: one version in both images of each package that Dask compares",
            "      fix: set image and notebookImage to images of one release",
        ]
    )


def spell(versions: Versions) -> str:
    """Return `python 3.12.1, dask 2026.7.1, distributed 2026.7.1`."""
    return ", ".join(f"{name} {versions[name]}" for name in SHOWN if name in versions)


if __name__ == "__main__":
    sys.exit(main())
