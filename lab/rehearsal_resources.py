"""What the known types of resources may say, and how each is created, updated and deleted.

Docker's are translated as by terraform-provider-docker 4.5 (internal/provider/resource_docker_*)
with what it sends for properties left out, so that `docker service inspect` shows the same; but
lists keep the program's order, `env` is sorted and tags are not resolved: pin images by digest.
"""

import base64
import contextlib
import functools
import json
import os
import re
import secrets
import signal
import string
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import docker
import docker.errors
from pulumi.output import Unknown

from lab.layout import chosen_lab
from swarm.client import connect
from swarm.snapshot import spec_hash

Json = Any  # what JSON can hold, and the SDK's `Unknown` in a preview
PROVIDER = "pulumi:providers:docker"
IMPRINT = "imprint"  # the output of a service that tells whether it is as it was made
SWARM = "swarm"  # the output of a provider that tells one Swarm from another at its address
ANSWER_SECONDS = 60
DRAIN_SECONDS = 90  # ending tasks keep their network for as long as their grace period
ENDING = re.compile("in use by task|active endpoints|volume is in use|network \\w+ not found")
UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}

# The properties of every type and of the blocks in them: `property=ApiName:block?default`. Without
# `=` the API's name is the same with a capital, `[]` marks a list of blocks, and the default is
# what the provider sends for a property left out. A block may be one of CONVERSIONS instead.
SCHEMA = """
docker:index/network:Network name=name driver=driver attachable=attachable internal=internal
    ipv6=enable_ipv6 options=options labels=labels:labels
docker:index/secret:Secret name=name data=data:base64 labels=labels:labels
docker:index/serviceConfig:ServiceConfig name=name data=data:base64 labels=labels:labels
docker:index/volume:Volume name=name driver=driver driverOpts=driver_opts labels=labels:labels
docker:index/service:Service name=name labels=labels:labels taskSpec=task_template:task
    mode=mode:mode?{} endpointSpec=endpoint_spec:endpoint?{} updateConfig=update_config:roll
    rollbackConfig=rollback_config:roll
task containerSpec:container resources:resources?{} restartPolicy:restart?{} forceUpdate
    placement:placement?{} networksAdvanceds=Networks:network[] logDriver:log
container image args commands=Command dir env:env hostname user groups labels:labels readOnly
    init?false mounts:mount[] secrets:file[] configs:file[] healthcheck:health?{} stopSignal
    stopGracePeriod:duration?0 hosts:host[] dnsConfig=DNSConfig:dns?{} sysctl=Sysctls
    capAdds=CapabilityAdd capDrops=CapabilityDrop
health tests=Test interval:duration timeout:duration startPeriod:duration retries
mount type target source readOnly bindOptions:bind volumeOptions:copy tmpfsOptions:tmpfs
bind propagation?"rprivate"
copy noCopy labels:labels
tmpfs sizeBytes mode
file secretId=SecretID secretName configId=ConfigID configName fileName=File.Name
    fileUid=File.UID?"0" fileGid=File.GID?"0" fileMode=File.Mode?292
dns nameservers searches=Search options
resources limits:amount reservation=Reservations:amount
amount nanoCpus=NanoCPUs memoryBytes
restart condition delay:duration?0 maxAttempts?0 window:duration?0
placement constraints maxReplicas platforms:platform[] prefs=Preferences:spread[]
platform architecture os=OS
network id=Target aliases
log name options
mode replicated:replicated global:flag
replicated replicas?1
endpoint mode ports:port[]
port name protocol?"tcp" targetPort publishedPort publishMode?"ingress"
roll parallelism?1 delay:duration failureAction?"pause" monitor:duration?5000000000
    maxFailureRatio:ratio?0 order?"stop-first"
command:local:Command create update delete environment stdin triggers logging dir interpreter
    addPreviousOutputInEnv
random:index/randomPassword:RandomPassword length special keepers
random:index/randomId:RandomId byteLength keepers
pulumi:providers:docker host disableDockerDaemonCheck sshOpts
"""
FIELD = re.compile(r" (\w+)(?:=([\w.]+))?(?::(\w+)(\[\])?)?(?:\?(\S+))?")
BLOCKS = {
    line.split()[0]: {name: spec for name, *spec in FIELD.findall(line)}
    for line in re.sub(r"\n +", " ", SCHEMA.strip()).splitlines()
}


class RefusedError(Exception):
    """What was asked for is not the rehearsal's to do."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """A resource with its plain inputs; `host` is the Docker engine of its provider."""

    type: str
    name: str
    host: str
    inputs: dict[str, Any]
    id: str = ""
    outputs: dict[str, Any] = field(default_factory=dict)


def nanoseconds(duration: str) -> int:
    """Return the nanoseconds in a duration as Go writes it, such as `1m30s`."""
    parts = re.findall(r"(\d+\.?\d*)(ns|us|ms|s|m|h)", duration)
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        raise ValueError(f"{duration!r} is not a duration such as 1m30s")
    return round(sum(float(number) * UNITS[unit] for number, unit in parts))


CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "base64": base64.b64decode,
    "duration": nanoseconds,
    "env": lambda variables: [f"{name}={value}" for name, value in sorted(variables.items())],
    "host": lambda host: f"{host['ip']} {host['host']}",
    "labels": lambda labels: {each["label"]: each["value"] for each in labels},
    "flag": lambda _: {},  # there or not; the program never says no
    "ratio": float,
    "spread": lambda label: {"Spread": {"SpreadDescriptor": label}},
}


def translate(block: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return `given` in the API's terms; a ValueError names the property unknown or wrong."""
    if unknown := sorted(given.keys() - BLOCKS[block].keys()):
        raise ValueError(f"{unknown[0]}: the rehearsal does not know this property")
    result: dict[str, Any] = {}
    for name, (api_name, kind, many, default) in BLOCKS[block].items():
        if name in given:
            value = _convert(name, kind, bool(many), given[name])
        elif default:
            value = json.loads(default)
        else:
            continue
        parent, _, last = (api_name or name[0].upper() + name[1:]).rpartition(".")
        (result.setdefault(parent, {}) if parent else result)[last] = value
    return result


def _convert(name: str, kind: str, many: bool, value: Json) -> Json:
    if not kind or isinstance(value, Unknown):
        return value
    convert = CONVERSIONS.get(kind) or functools.partial(translate, kind)
    try:
        return [convert(each) for each in value] if many else convert(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


@functools.cache
def _engine(host: str) -> docker.APIClient:
    return connect(host, seconds=ANSWER_SECONDS)


def _docker(verb: str, record: Record) -> Callable[..., Any]:
    noun = record.type.rpartition(":")[2].lower().replace("serviceconfig", "config")
    method: Callable[..., Any] = getattr(_engine(record.host), f"{verb}_{noun}")
    return method


def create(new: Record) -> Record:
    """Create a resource and return it with its id and outputs."""
    match new.type.partition(":")[0]:
        case "docker":
            name = new.inputs.get("name") or f"{new.name}-{secrets.token_hex(4)[:7]}"
            answer = _docker("create", new)(**translate(new.type, {**new.inputs, "name": name}))
            identity = answer.get("ID") or answer.get("Id") or answer["Name"]
            made = replace(new, id=identity, outputs={"name": name})
            return _imprinted(made)
        case "command":
            return replace(new, id=secrets.token_hex(4), outputs=_run(new, "create"))
        case "random":
            return replace(new, id=secrets.token_hex(4), outputs=_random(new.inputs))
    host = new.inputs.get("host", "")
    if not (host.startswith("unix://") or _is_the_labs(host)):
        raise RefusedError(
            f"{host or 'no host'}: the rehearsal is for a Swarm of this machine only"
        )
    return replace(new, id=host, outputs={SWARM: swarm_of(host)})


def swarm_of(host: str) -> str:
    """Return the id of the Swarm that an engine manages, nothing if it manages none."""
    return str((_engine(host).info()["Swarm"].get("Cluster") or {}).get("ID", ""))


def _is_the_labs(host: str) -> bool:
    parts = urlsplit(host)
    return (parts.scheme, parts.hostname) == ("ssh", chosen_lab().master.address)


def update(new: Record, old: Record) -> Record:
    """Update a resource in place; the engine refuses when somebody else did so meanwhile."""
    match new.type.partition(":")[0]:
        case "docker":
            version = _docker("inspect", old)(old.id)["Version"]["Index"]
            name = {"name": old.outputs["name"]}
            arguments = translate(new.type, {**new.inputs, **name})
            _docker("update", old)(old.id, version, **arguments)
            return _imprinted(replace(new, id=old.id, outputs=name))
        case "command":
            script = "update" if "update" in new.inputs else "create"
            return replace(new, id=old.id, outputs=_run(replace(new, outputs=old.outputs), script))
        case "pulumi":
            return create(new)
    return replace(new, id=old.id, outputs=old.outputs)


def _imprinted(made: Record) -> Record:
    """Return it with an imprint of what the Swarm has, if that can be changed by hand."""
    if not made.type.endswith(":Service"):
        return made
    found = spec_hash(_docker("inspect", made)(made.id))
    return replace(made, outputs={**made.outputs, IMPRINT: found})


def by_hand(record: Record) -> str:
    """Return what somebody else has made of it: `gone`, `changed`, or nothing."""
    if not record.type.startswith("docker:"):
        return ""
    try:
        _docker("inspect", record)(record.id)
        return "" if record.outputs == _imprinted(record).outputs else "changed"
    except docker.errors.NotFound:
        return "gone"


def delete(old: Record) -> None:
    """Delete a resource, waiting for ending tasks to let go of it; one that is gone is fine."""
    if old.type.startswith("command:"):
        _run(old, "delete")
    if not old.type.startswith("docker:"):
        return
    deadline = time.monotonic() + DRAIN_SECONDS
    while time.monotonic() < deadline:
        try:
            _docker("remove", old)(old.id)
            if not old.type.endswith("Network"):  # a node keeps it for as long as tasks on it end
                return
        except docker.errors.NotFound:
            return
        except docker.errors.APIError as error:
            if not ENDING.search(str(error)):
                raise
        time.sleep(0.2)
    raise TimeoutError(f"tasks still hold on to it after {DRAIN_SECONDS} s")


def _random(inputs: Mapping[str, Any]) -> dict[str, str]:
    if "byteLength" in inputs:
        return {"hex": secrets.token_hex(inputs["byteLength"])}
    special = "!@#$%&*()-_=+[]{}<>:?" if inputs.get("special", True) else ""
    characters = string.ascii_letters + string.digits + special
    return {"result": "".join(secrets.choice(characters) for _ in range(inputs["length"]))}


_running: set[subprocess.Popen[str]] = set()
_told: list[signal.Signals] = []  # by `stop`


def _run(record: Record, which: str) -> dict[str, str]:
    inputs = record.inputs
    if which not in inputs:
        return {"stdout": "", "stderr": ""}
    argv = [*inputs.get("interpreter", ("/bin/sh", "-c")), inputs[which]]
    with tempfile.TemporaryFile("w+") as stdin, tempfile.TemporaryFile("w+") as stdout:
        stdin.write(inputs.get("stdin", ""))
        stdin.seek(0)
        with subprocess.Popen(
            argv,
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            cwd=inputs.get("dir"),
            env=_environment(record),
            start_new_session=True,  # ^C is for `stop` to hand on, to all of its processes
        ) as child:
            _running.add(child)
            if _told:  # while this one was starting, and not to be found yet
                _signal(child, _told[-1])
            stderr = _shown(record, child.stderr or ())
        _running.discard(child)
        stdout.seek(0)
        written = {"stdout": stdout.read(), "stderr": stderr}
    if child.returncode:
        output = "".join(written.values())
        raise RuntimeError(f"exit status {child.returncode} of {inputs[which]!r}\n{output}")
    return {name: text.removesuffix("\n") for name, text in written.items()}


def _environment(record: Record) -> dict[str, str]:
    earlier = record.outputs if record.inputs.get("addPreviousOutputInEnv", True) else {}
    earlier = {f"PULUMI_COMMAND_{name.upper()}": text for name, text in earlier.items() if text}
    return {**os.environ, **record.inputs.get("environment", {}), **earlier}


def _shown(record: Record, stream: Iterable[str]) -> str:
    lines = []
    for line in stream:
        lines.append(line)
        if "stderr" in record.inputs.get("logging", "stdoutAndStderr").lower():
            print(f"    {record.name}: {line}", end="", flush=True)
    return "".join(lines)


def stop(number: signal.Signals = signal.SIGTERM) -> None:
    """Signal every script that is running or just starting, with all its processes."""
    _told.append(number)
    for child in list(_running):
        _signal(child, number)


def _signal(child: "subprocess.Popen[str]", number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)
