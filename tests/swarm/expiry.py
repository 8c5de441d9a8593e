"""Certificates that end soon, in a stack's state and in its running services."""

import json
import secrets
import subprocess
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from lab.rehearsal import certificates
from lab.rehearsal.state import state_file
from tests.conftest import ROOT
from tests.swarm.conftest import service_of

SERVICES = {"worker": "dask_worker", "client": "dask_notebook"}
FILE = "dask_certificate"


def shorten(runner, **left):
    """Give workers and clients other certificates in the state, with this time left.

    Return the file of each service that has one. The services still have their earlier files.
    """
    end = datetime.now(UTC) + timedelta(**left)
    files = {}
    with changed_state(runner) as resources:
        for role, service in SERVICES.items():
            certificate, key = (resources[f"dask-tls-{role}-1{part}"] for part in ("", "-key"))
            hours = timedelta(**left) / timedelta(hours=1)
            inputs = revealed(certificate["inputs"]) | {"validityPeriodHours": hours}
            pem = certificates.make("LocallySignedCert", inputs)["certPem"]
            certificate["outputs"] |= {"certPem": pem, "validityEndTime": end.isoformat()}
            files[service] = pem + revealed(key["outputs"])["privateKeyPem"]
    return files


def make_due(runner, **left):
    """Have the state show this time left for the certificates of workers and clients.

    The certificates themselves stay.
    """
    end = datetime.now(UTC) + timedelta(**left)
    with changed_state(runner) as resources:
        for role in SERVICES:
            resources[f"dask-tls-{role}-1"]["outputs"]["validityEndTime"] = end.isoformat()


@contextmanager
def changed_state(runner):
    """Yield the resources of a stack by logical name, and keep their changes."""
    if runner.name == "rehearsal":
        file = ROOT / state_file(runner.stack)
        state = json.loads(file.read_text())
        named = state["resources"].items()
    else:
        file = runner.config_file.with_suffix(".json")
        state = json.loads(runner.ask("stack", "export", "--show-secrets").stdout)
        named = [(resource["urn"], resource) for resource in state["deployment"]["resources"]]
    yield {name.rpartition("::")[2]: resource for name, resource in named}
    file.write_text(json.dumps(state))
    if runner.name != "rehearsal":
        runner.ask("stack", "import", "--file", str(file)).check_returncode()


def revealed(values):
    """Return a resource's values without the engine's marks of secrets."""
    return {name: plain(value) for name, value in values.items()}


def plain(value):
    """Return a value without the engine's mark of a secret."""
    is_marked = isinstance(value, dict) and "plaintext" in value
    return json.loads(value["plaintext"]) if is_marked else value


@contextmanager
def mounted(lab, swarm, files):
    """Have the services use other certificate files; they must use others again at the end."""
    names = {service: f"short-{secrets.token_hex(4)}" for service in files}
    updates = []
    for service, name in names.items():
        swarm.secrets.create(name=name, data=files[service].encode())
        old = mounted_secret(swarm, service)
        new = f"source={name},target={FILE},uid=1000,gid=0,mode=0440"
        command = ["docker", "--host", lab.docker_host, "service", "update", "--quiet"]
        command += ["--secret-rm", old, "--secret-add", new, service]
        updates.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
    assert [0, 0] == [update.wait() for update in updates]
    yield
    for name in names.values():
        swarm.secrets.get(name).remove()


def mounted_secret(swarm, service):
    """Return the name of the secret with a service's certificate."""
    container = service_of(swarm, service).attrs["Spec"]["TaskTemplate"]["ContainerSpec"]
    (name,) = [s["SecretName"] for s in container["Secrets"] if s["File"]["Name"] == FILE]
    return name
