"""The cost of the ingress: requests and websockets through it and directly, and a change of it.

Deploys the program once with a managed Caddy and a basic login, and destroys it at the end.
"""

import base64
import json
import statistics
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from http import HTTPStatus
from pathlib import Path

import docker

from bench.arms import Repeating
from bench.context import Context, configure, container_of
from bench.measure import report
from health.ingress import IngressRequest, client_of
from lab.layout import Lab

CLIENT = Path(__file__).parent / "request_timer.py"
CONFIG: dict[str, str | int] = {
    "caddyMode": "managed",
    "caddyNetwork": "dask-caddy-network",
    "domain": "localhost",
    "auth": "basic",
    "workers": 1,
}
REQUESTS_SECONDS = 120
LIVE_SECONDS = 60
PAUSE_SECONDS = 0.05


def ingress(context: Context, rounds: int) -> Iterator[str]:
    """Yield the tables of requests, of websockets and of `rounds` changes."""
    configure(context.config_file, CONFIG)
    with context.deployed(context.stacks[-1]):
        times = _time_requests(context)
        yield compared("Milliseconds of a small request", times["requests"])
        yield compared("Milliseconds to an open websocket", times["websockets"])
        yield report("Seconds for a changed name of the ingress", _changes(context, rounds))


def _time_requests(context: Context) -> dict[str, dict[str, list[float]]]:
    outputs = context.runner.outputs(secrets=True)
    pair = f"{outputs['login_user']}:{outputs['login_password']}".encode()
    login = f"Basic {base64.b64encode(pair).decode()}"
    request = json.dumps({"host": "dashboard.localhost", "login": login})
    with closing(docker.DockerClient(context.lab.docker_host)) as engine:
        enter = ["exec", "--interactive", container_of(engine, "dask_notebook").id]
    done = subprocess.run(
        ["docker", "--host", context.lab.docker_host, *enter, "python", "-c", CLIENT.read_text()],
        input=request,
        check=True,
        text=True,
        stdout=subprocess.PIPE,
        timeout=REQUESTS_SECONDS,
    )
    times: dict[str, dict[str, list[float]]] = json.loads(done.stdout)
    return times


def _changes(context: Context, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of no-op deployments and of changes, in turns."""
    same = Repeating(name="an up that changes nothing", runner=context.runner)
    live, done = "a change, until it is live", "the same, until up is done"
    seconds: dict[str, list[float]] = {same.name: [], live: [], done: []}
    for number in range(rounds):
        start = time.monotonic()
        same.run()
        seconds[same.name].append(time.monotonic() - start)
        configure(context.config_file, {"dashboardName": f"dashboard-{number}"})
        start = time.monotonic()
        with ThreadPoolExecutor() as pool:
            is_live = pool.submit(_live_after, context.lab, f"dashboard-{number}.localhost", start)
            same.run()
            seconds[done].append(time.monotonic() - start)
            seconds[live].append(is_live.result())
    return seconds


def _live_after(lab: Lab, host: str, start: float) -> float:
    """Return the seconds from `start` until Caddy's login answers for a name."""
    client = client_of(ingress_request(lab.master.address))
    while time.monotonic() - start < LIVE_SECONDS:
        with suppress(OSError):
            if client.get(host, "/status", {}).status == HTTPStatus.UNAUTHORIZED:
                return time.monotonic() - start
        time.sleep(PAUSE_SECONDS)
    raise TimeoutError(f"{host} is not served within {LIVE_SECONDS} s")


def ingress_request(address: str) -> IngressRequest:
    """Return a request for the proof of an ingress, without credentials."""
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
    """Return p50 and p95 of each way, in milliseconds and as ratios over the first way."""
    first = next(iter(seconds.values()))
    lines = [f"{title:48}{'p50':>7}{'p95':>8}{'ratio':>7}{'ratio':>7}"]
    for way, values in seconds.items():
        middle, late = statistics.median(values), percentile_95(values)
        ratios = middle / statistics.median(first), late / percentile_95(first)
        figures = f"{middle * 1e3:7.1f}{late * 1e3:8.1f}{ratios[0]:7.2f}{ratios[1]:7.2f}"
        lines.append(f"  {way:46}{figures}")
    return "\n".join(lines)


def percentile_95(values: list[float]) -> float:
    """Return the 95th percentile."""
    return statistics.quantiles(values, n=20)[-1]
