"""Run the whole program under Pulumi's mocks, and keep its resources as plain data."""

import base64
from dataclasses import dataclass, field, replace

import pytest
import yaml

from lab.rehearsal.program import Harness, run_program
from swarm import offline, site
from swarm.leftovers import COMMAND
from tests.conftest import ROOT

SECRET_KEYS = [f"dask-swarm:{name}Password" for name in ("notebook", "basic", "authelia")]
SECRET_KEYS += ["dask-swarm:s3SecretKey", "dask-swarm:pipConfig"]
HEALTH = (
    '{"workers": 4, "threads": 4, "memory_bytes": 4294967296, "imprints": {"dask_worker": "1"}}'
)

PROGRAMS = {}  # those that have run, by their config values

INGRESS = '{"auth": "basic", "login_tried": true}'


@dataclass(kw_only=True)
class Program:
    """The resources and outputs of one run of the program."""

    resources: list = field(default_factory=list)
    requests: dict = field(default_factory=dict)  # to the engine, by logical name
    outputs: dict = field(default_factory=dict)
    secret_outputs: set = field(default_factory=set)

    def of_type(self, token):
        """Return the resources of one type."""
        return [resource for resource in self.resources if resource.type == token]

    def command(self, name):
        """Return the Command with a logical name."""
        commands = self.of_type("command:local:Command")
        (command,) = [command for command in commands if command.name == name]
        return command

    def dependencies(self, name):
        """Return the logical names of the resources that a resource waits for."""
        return {urn.rpartition("::")[2] for urn in self.requests[name].dependencies}

    def service(self, name):
        """Return the inputs of the service with a Swarm name."""
        services = self.of_type("docker:index/service:Service")
        (service,) = [service for service in services if service.inputs["name"] == name]
        return service.inputs

    def container(self, name):
        """Return the container spec of a service."""
        return self.service(name)["taskSpec"]["containerSpec"]

    def labels(self, name):
        """Return the labels of a service."""
        return {label["label"]: label["value"] for label in self.service(name)["labels"]}

    def named_volume(self, name):
        """Return the mount of the only volume of a service that outlives its containers."""
        (mount,) = [mount for mount in self.container(name)["mounts"] if "source" in mount]
        return mount

    def mounted(self, name, path):
        """Return the text of the auto-named config that a service has at a path."""
        mounts = self.container(name)["configs"]
        (mount,) = [mount for mount in mounts if mount["fileName"] == path]
        configs = self.of_type("docker:index/serviceConfig:ServiceConfig")
        (config,) = [config for config in configs if f"{config.name}-id" == mount["configId"]]
        assert "name" not in config.inputs
        return base64.b64decode(config.inputs["data"]).decode()

    def dask_config(self, name):
        """Return Dask's configuration of a service."""
        return yaml.safe_load(self.mounted(name, "/etc/dask/dask-swarm.yaml"))

    def record(self, resource):
        """Keep a resource, and answer like the engine."""
        self.resources.append(resource)
        invented = {
            "random:index/randomPassword:RandomPassword": {"result": "t" * 48},
            "random:index/randomId:RandomId": {"hex": "0123456789abcdef" * 2},
            "random:index/randomUuid:RandomUuid": {"result": f"uuid of {resource.name}"},
            "docker:index/network:Network": {"ipamConfigs": [{"subnet": "10.0.1.0/24"}]},
            COMMAND: {"stdout": INGRESS if resource.name.startswith("front") else HEALTH},
        }
        name = resource.inputs.get("name", f"{resource.name}-1a2b3c4")
        outputs = {"name": name} | invented.get(resource.type, {})
        if resource.type.startswith("tls:"):
            kinds = ("certPem", "certRequestPem", "privateKeyPem")
            outputs = {kind: f"{kind} of {resource.name}\n" for kind in kinds}
        options = resource.inputs.get("options") or ""  # of a network, which they replace
        return replace(resource, id=f"{resource.name}-id{options}", outputs=outputs)


class Engine(Harness):
    """The SDK's mock engine; it keeps the requests of a program."""

    def __init__(self, program):
        super().__init__(program.record)
        self.requests = program.requests

    def RegisterResource(self, request):  # noqa: N802  the SDK's name
        self.requests[request.name] = request
        return super().RegisterResource(request)


@pytest.fixture
def run(request, defaults):
    """Return a function that runs the program with some config values changed.

    `found` changes what the Swarm answers. The program is that of an earlier test with the same
    values, except with `again`, and in tests that change its surroundings by `monkeypatch`.
    """
    changed = "monkeypatch" in request.fixturenames

    def run_now(drifted, config, program=None, **found):
        with pytest.MonkeyPatch.context() as patch:
            known = {"drifted": drifted, **found}
            patch.setattr(site, "find", lambda s: replace(_site(s), **known))
            return _run(defaults | config, preview=False, program=program)

    def run_program(*, drifted="", again=False, program=None, found=None, **config):
        if changed or again or program or found:
            return run_now(drifted, config, program, **found or {})
        key = (drifted, *sorted(config.items()))
        if key not in PROGRAMS:
            PROGRAMS[key] = run_now(drifted, config)
        return PROGRAMS[key]

    return run_program


@pytest.fixture
def preview(defaults, monkeypatch, tmp_path):
    """Return a function that previews the program offline, with a record in `tmp_path`."""
    monkeypatch.setattr(offline, "PROJECT", tmp_path)

    def preview_program(**config):
        monkeypatch.setenv("DASK_SWARM_OFFLINE", "1")
        monkeypatch.setattr(site, "find", _fail)
        return _run(defaults | config, preview=True)

    return preview_program


def _run(values, *, preview, program=None):
    program = program or Program()
    keys = {f"dask-swarm:{key}": value for key, value in values.items()}
    outputs = run_program(
        Engine(program),
        ROOT / "__main__.py",
        keys,
        project="dask-swarm",
        stack="test",
        secret_keys=SECRET_KEYS,
        preview=preview,
    )
    program.outputs = {name: output["value"] for name, output in outputs.items()}
    program.secret_outputs = {name for name, output in outputs.items() if output["secret"]}
    return program


def _fail(settings):
    raise AssertionError("the Swarm was asked")


def _site(settings):
    managed = settings.caddy.mode == "managed"
    is_local = settings.ingress and settings.ingress.is_local
    caddy = f"{settings.caddy.network}-id" if settings.caddy.mode == "external" else None
    return site.Site(
        image=f"{settings.cluster.image}@sha256:{'a' * 64}",
        notebook_image=f"{settings.cluster.notebook_image}@sha256:{'b' * 64}",
        caddy_image=f"{settings.caddy.image}@sha256:{'c' * 64}" if managed else None,
        caddy_network_id=caddy,
        ingress_addresses=("10.77.0.11", "127.0.0.1") if is_local else (),
        network_id="dask-network-id" if settings.network.mode == "external" else None,
        network_subnets=("10.20.0.0/24",) if settings.network.mode == "external" else (),
        other_network_ids=tuple(f"{name}-id" for name in settings.network.others),
    )
