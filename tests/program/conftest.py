"""Run the whole program under Pulumi's mocks and keep what it declared as plain data."""

import base64
import runpy
from dataclasses import dataclass, field, replace

import pulumi
import pytest
import yaml
from pulumi.runtime import rpc, set_all_config, set_mocks, test
from pulumi.runtime.mocks import Mocks

from swarm import offline, site
from tests.conftest import ROOT

SECRET_KEYS = [f"dask-swarm:{name}Password" for name in ("notebook", "basic", "authelia")]
SECRET_KEYS.append("dask-swarm:s3SecretKey")
HEALTH = (
    '{"workers": 4, "threads": 4, "memory_bytes": 4294967296, "imprints": {"dask_worker": "1"}}'
)

FRONT = '{"auth": "basic", "login_tried": true}'


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One declared resource; `secret` says which of its inputs the engine would encrypt."""

    type: str
    name: str
    inputs: dict
    secret: set = field(default_factory=set)


@dataclass(kw_only=True)
class Program:
    """What one run of the program declared and exported."""

    resources: list[Resource] = field(default_factory=list)
    outputs: dict = field(default_factory=dict)
    secret_outputs: set = field(default_factory=set)

    def of_type(self, token):
        """Return the resources of one type."""
        return [each for each in self.resources if each.type == token]

    def command(self, name):
        """Return the Command with a logical name."""
        commands = self.of_type("command:local:Command")
        (found,) = [each for each in commands if each.name == name]
        return found

    def service(self, name):
        """Return the inputs of the service with a Swarm name."""
        services = self.of_type("docker:index/service:Service")
        (inputs,) = [each.inputs for each in services if each.inputs["name"] == name]
        return inputs

    def container(self, name):
        """Return the container spec of a service."""
        return self.service(name)["taskSpec"]["containerSpec"]

    def mounted(self, name, path):
        """Return the text of the auto-named config that a service has at a path."""
        (config,) = [each for each in self.container(name)["configs"] if path == each["fileName"]]
        configs = self.of_type("docker:index/serviceConfig:ServiceConfig")
        (found,) = [each for each in configs if f"{each.name}-id" == config["configId"]]
        assert "name" not in found.inputs
        return base64.b64decode(found.inputs["data"]).decode()

    def dask_config(self, name):
        """Return Dask's configuration of a service."""
        return yaml.safe_load(self.mounted(name, "/etc/dask/dask-swarm.yaml"))


class Recorder(Mocks):
    """Answers as the engine would, and keeps every registration."""

    def __init__(self, program):
        self.program = program

    def new_resource(self, args):
        secret = {key for key, value in args.inputs.items() if _is_secret(value)}
        inputs = {key: _plain(value) for key, value in args.inputs.items()}
        self.program.resources.append(
            Resource(type=args.typ, name=args.name, inputs=inputs, secret=secret)
        )
        invented = {
            "random:index/randomPassword:RandomPassword": {"result": _secret("t" * 48)},
            "random:index/randomId:RandomId": {"hex": "0123456789abcdef" * 2},
        }
        if args.typ == "command:local:Command":
            front = args.name.startswith("front")
            invented[args.typ] = {"stdout": _secret(FRONT) if front else HEALTH}
        named = {"name": f"{args.name}-1a2b3c4"} | args.inputs
        return f"{args.name}-id", named | invented.get(args.typ, {})

    def call(self, args):
        raise AssertionError(f"the program asked a provider at plan time: {args.token}")


def _secret(value):
    return {rpc._special_sig_key: rpc._special_secret_sig, "value": value}


def _is_secret(value):
    return isinstance(value, dict) and rpc._special_sig_key in value


def _plain(value):
    if _is_secret(value):
        return value["value"]
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@pytest.fixture
def run(defaults, monkeypatch):
    """Return a function that runs the program with some config values changed."""

    def run_program(*, drifted="", **config):
        find = lambda settings: replace(_site(settings), drifted=drifted)  # noqa: E731
        monkeypatch.setattr(site, "find", find)
        return _run(monkeypatch, defaults | config, preview=False)

    return run_program


@pytest.fixture
def preview(defaults, monkeypatch, tmp_path):
    """Return a function that previews the program offline; what is recorded is in `tmp_path`."""
    monkeypatch.setattr(offline, "PROJECT", tmp_path)

    def preview_program(**config):
        monkeypatch.setenv("DASK_SWARM_OFFLINE", "1")
        monkeypatch.setattr(site, "find", _nobody)
        return _run(monkeypatch, defaults | config, preview=True)

    return preview_program


def _run(monkeypatch, values, *, preview):
    program = Program()
    set_mocks(Recorder(program), project="dask-swarm", stack="test", preview=preview)
    keys = {f"dask-swarm:{key}": value for key, value in values.items()}
    set_all_config(keys, secret_keys=SECRET_KEYS)
    monkeypatch.setattr(pulumi, "export", lambda name, value: _collect(program, name, value))
    test(lambda: runpy.run_path(str(ROOT / "__main__.py"), run_name="__main__"))()
    return program


def _nobody(settings):
    raise AssertionError("the Swarm was asked")


def _site(settings):
    managed = settings.caddy.mode == "managed"
    is_local = settings.ingress and settings.ingress.is_local
    caddy = "caddy-network-id" if settings.caddy.mode == "external" else None
    return site.Site(
        image=f"{settings.cluster.image}@sha256:{'a' * 64}",
        notebook_image=f"{settings.cluster.notebook_image}@sha256:{'b' * 64}",
        caddy_image=f"{settings.caddy.image}@sha256:{'c' * 64}" if managed else None,
        caddy_network_id=caddy,
        ingress_addresses=("10.77.0.11", "127.0.0.1") if is_local else (),
    )


def _collect(program, name, value):
    output = pulumi.Output.from_input(value)

    async def keep():
        if await output.is_secret():
            program.secret_outputs.add(name)
        program.outputs[name] = await output.future()

    pulumi.Output.from_input(keep())
