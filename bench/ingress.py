"""What the front costs: requests and websockets by way of it and directly, and a change of it.

Deploys the program with a Caddy of its own and a basic login, once, and destroys it in the end.
"""

import base64
import json
import statistics
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import docker
import yaml

from bench.arms import Deploying, Repeating
from bench.context import Context, wait_until_empty
from bench.measure import report
from health.ingress import IngressRequest, client_of
from lab.layout import Lab
from tools.runners import Runner

CLIENT = Path(__file__).parent / "visits.py"
CONFIG: dict[str, str | int] = {
    "caddyMode": "managed",
    "caddyNetwork": "dask-caddy-network",
    "domain": "localhost",
    "auth": "basic",
    "workers": 1,
}
VISITS_SECONDS = 120
LIVE_SECONDS = 60
PAUSE_SECONDS = 0.05


def front(context: Context, rounds: int) -> Iterator[str]:
    """Yield the tables of the front."""
    wait_until_empty(context.lab)
    bench = FrontBench(lab=context.lab, runner=context.runner, config_file=context.config_file)
    yield from bench.tables(rounds)


@dataclass(frozen=True, kw_only=True)
class FrontBench:
    """A stack on the lab, and its config file, which is changed and put back."""

    lab: Lab
    runner: Runner
    config_file: Path

    def tables(self, rounds: int) -> Iterator[str]:
        """Yield what was measured of requests, websockets and, `rounds` times, of a change."""
        before = self.config_file.read_text()
        stack = Deploying(runner=self.runner)
        try:
            self._configure(CONFIG)
            stack.run()
            visits = self._visits()
            yield compared("Milliseconds of a small request", visits["requests"])
            yield compared("Milliseconds to an open websocket", visits["websockets"])
            yield report("Seconds for a changed name of the front", self._changes(rounds))
        finally:
            stack.undo()
            self.config_file.write_text(before)

    def _configure(self, config: Mapping[str, str | int]) -> None:
        everything = yaml.safe_load(self.config_file.read_text())
        everything["config"] |= {f"dask-swarm:{key}": value for key, value in config.items()}
        self.config_file.write_text(yaml.safe_dump(everything))

    def _visits(self) -> dict[str, dict[str, list[float]]]:
        outputs = self.runner.outputs(secrets=True)
        pair = f"{outputs['login_user']}:{outputs['login_password']}".encode()
        login = f"Basic {base64.b64encode(pair).decode()}"
        order = json.dumps({"host": "dashboard.localhost", "login": login})
        with closing(docker.APIClient(self.lab.docker_host)) as engine:
            wanted = {"label": "com.docker.swarm.service.name=dask_notebook"}
            (notebook,) = engine.containers(filters=wanted)
        enter = ["exec", "--interactive", notebook["Id"]]
        done = subprocess.run(
            ["docker", "--host", self.lab.docker_host, *enter, "python", "-c", CLIENT.read_text()],
            input=order,
            check=True,
            text=True,
            stdout=subprocess.PIPE,
            timeout=VISITS_SECONDS,
        )
        found: dict[str, dict[str, list[float]]] = json.loads(done.stdout)
        return found

    def _changes(self, rounds: int) -> dict[str, list[float]]:
        """Return the seconds of no-op deployments and of changes, in turns."""
        same = Repeating(name="an up that changes nothing", runner=self.runner)
        live, done = "a change, until it is live", "the same, until up is done"
        seconds: dict[str, list[float]] = {same.name: [], live: [], done: []}
        for number in range(rounds):
            start = time.monotonic()
            same.run()
            seconds[same.name].append(time.monotonic() - start)
            self._configure({"dashboardName": f"dashboard-{number}"})
            start = time.monotonic()
            with ThreadPoolExecutor() as pool:
                seen = pool.submit(self._seen, f"dashboard-{number}.localhost", start)
                same.run()
                seconds[done].append(time.monotonic() - start)
                seconds[live].append(seen.result())
        return seconds

    def _seen(self, host: str, start: float) -> float:
        """Return when Caddy's login answered under a name, in seconds since `start`."""
        client = client_of(_request(self.lab.master.address))
        while time.monotonic() - start < LIVE_SECONDS:
            with suppress(OSError):
                if client.get(host, "/status", {}).status == HTTPStatus.UNAUTHORIZED:
                    return time.monotonic() - start
            time.sleep(PAUSE_SECONDS)
        raise TimeoutError(f"{host} is not served within {LIVE_SECONDS} s")


def _request(address: str) -> IngressRequest:
    return IngressRequest(
        deadline_seconds=LIVE_SECONDS,
        names={},
        addresses=(address,),
        workers=0,
        verified=False,
        auth="basic",
        portal="",
        user="",
        password="",
        notebook_token="",
        notebook_password="",
    )


def compared(title: str, seconds: Mapping[str, list[float]]) -> str:
    """Return p50 and p95 by way, in milliseconds and as ratios over the first way's."""
    first = next(iter(seconds.values()))
    lines = [f"{title:48}{'p50':>7}{'p95':>8}{'ratio':>7}{'ratio':>7}"]
    for way, values in seconds.items():
        middle, late = statistics.median(values), percentile_95(values)
        ratios = middle / statistics.median(first), late / percentile_95(first)
        figures = f"{middle * 1e3:7.1f}{late * 1e3:8.1f}{ratios[0]:7.2f}{ratios[1]:7.2f}"
        lines.append(f"  {way:46}{figures}")
    return "\n".join(lines)


def percentile_95(values: list[float]) -> float:
    """Return what 95 of 100 values stay below."""
    return statistics.quantiles(values, n=20)[-1]
