"""The guard of Prefect's server, around a stub of Prefect's application."""

import importlib.util
import json
import sys
from types import ModuleType

import pytest

from tests.conftest import ROOT, run_async

SOURCE = ROOT / "images" / "prefect_server.py"
OURS, CADDYS, NODE, OTHERS = "10.0.1.7", "10.0.2.7", "172.18.0.1", "172.18.0.5"
KEY = "k" * 48
# As Linux shows them: the way out of the node, a network, and one behind a router.
ROUTES = """Iface\tDestination\tGateway \tFlags
eth2\t00000000\t010012AC\t0003
eth0\t0001000A\t00000000\t0001
eth1\t0003000A\t0702000A\t0003
"""


@pytest.fixture
def new_guard(tmp_path, monkeypatch):
    """Return a function that makes the guard of a container with this key, none with None."""
    (tmp_path / "subnets.json").write_text(json.dumps(["10.0.1.0/24"]))
    (tmp_path / "route").write_text(ROUTES)
    text = SOURCE.read_text()
    for folder in ("/etc/dask-swarm", "/run/secrets", "/proc/net"):
        text = text.replace(folder, str(tmp_path))
    path = tmp_path / SOURCE.name
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("prefect_server", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    server = ModuleType("prefect.server.api.server")
    server.create_app = lambda **_: answer
    for name in ("prefect", "prefect.server", "prefect.server.api"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, server.__name__, server)

    def make(key=f"{KEY}\n"):
        if key is not None:
            (tmp_path / "prefect_key").write_text(key)
        return module.create_guarded_app()

    return make


async def answer(scope, _receive, send):
    """Answer any request, as Prefect without a login does."""
    await send({"answered": scope["type"]})


def ask(guard, client, *keys, kind="http"):
    """Return the guard's messages for a request of a client with these keys."""
    sent = []

    async def send(message):
        sent.append(message)

    headers = [(b"proxy-authorization", key.encode()) for key in keys]
    peer = client and (client, 40000)
    run_async(guard({"type": kind, "client": peer, "headers": headers}, None, send))
    return sent


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("client", [OURS, NODE, "127.0.0.1"])
def test_work_the_node_and_the_health_check_need_no_key(new_guard, client, kind):
    """They are on the cluster's network, at the end of an SSH tunnel, and in the container."""
    assert [{"answered": kind}] == ask(new_guard(), client, kind=kind)


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_caddys_network_needs_the_key(new_guard, kind):
    """Caddy adds the key after its login."""
    assert [{"answered": kind}] == ask(new_guard(), CADDYS, KEY, kind=kind)


@pytest.mark.parametrize("keys", [(), ("",), ("forged",), (KEY[1:],), (f"{KEY}k",), ("é",)])
@pytest.mark.parametrize("client", [CADDYS, OTHERS, None])
def test_nothing_else_gets_an_answer_of_prefect(new_guard, client, keys):
    """No page, no API, no websocket; the text explains the refusal."""
    start, body = ask(new_guard(), client, *keys)
    assert 403 == start["status"]
    assert b"the key that Caddy adds" in body["body"]
    assert [{"type": "websocket.close"}] == ask(new_guard(), client, *keys, kind="websocket")


@pytest.mark.parametrize("key", [None, "", "\n"])
def test_without_a_key_only_work_gets_in(new_guard, key):
    """An empty key opens nothing."""
    guard = new_guard(key)
    assert [{"answered": "http"}] == ask(guard, OURS)
    for keys in ((), ("",)):
        assert 403 == ask(guard, CADDYS, *keys)[0]["status"]


def test_prefect_starts_and_stops_with_the_server(new_guard):
    """The server's own messages have no client."""
    sent = []

    async def send(message):
        sent.append(message)

    run_async(new_guard()({"type": "lifespan"}, None, send))
    assert [{"answered": "lifespan"}] == sent
