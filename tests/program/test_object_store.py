"""The keys of an object store: in one Swarm secret, and nowhere else."""

import base64
import json

import certifi
import pytest

SERVICES = ["dask_scheduler", "dask_worker", "dask_notebook"]
SECRET_KEY = "planted/Secret+Key="
STORE = {
    "s3AccessKey": "AKIAPLANTED",
    "s3SecretKey": SECRET_KEY,
    "s3Endpoint": "https://s3.example.org",
    "s3CaBundle": certifi.contents(),
    "s3Bucket": "dask",
}
SECRET = "docker:index/secret:Secret"


@pytest.fixture
def program(run):
    """Return what the program declares with an object store."""
    return run(**STORE)


def secret(program, name):
    """Return the Swarm secret with a logical name."""
    (resource,) = [secret for secret in program.of_type(SECRET) if secret.name == name]
    return resource


def mounted(program, service):
    """Return a service's secrets by file name."""
    return {secret["fileName"]: secret for secret in program.container(service)["secrets"]}


@pytest.mark.parametrize("name", ["dask_worker", "dask_notebook"])
def test_workers_and_notebook_can_read_the_credentials(program, name):
    """As user 1000, and by group as a root without capabilities."""
    credentials = mounted(program, name)["s3_credentials"]
    assert "dask-object-store-credentials-id" == credentials["secretId"]
    rights = (credentials["fileUid"], credentials["fileGid"], credentials["fileMode"])
    assert ("1000", "0", 0o440) == rights


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_mounts_the_certificates(program, name):
    """They are public, so a config; the variable names its path."""
    assert certifi.contents().strip() + "\n" == program.mounted(name, "/etc/dask-swarm/s3-ca.pem")


def test_the_schedulers_command_line_names_the_files(program):
    """Workers send it the keys, so it mounts no secret."""
    assert "s3_credentials" not in mounted(program, "dask_scheduler")
    arguments = program.container("dask_scheduler")["args"]
    variables = arguments[1 : arguments.index("dask")]
    assert "env" == arguments[0]
    assert "AWS_SHARED_CREDENTIALS_FILE=/dev/shm/s3_credentials" in variables
    assert "AWS_ENDPOINT_URL=https://s3.example.org" in variables
    assert "SSL_CERT_FILE=/etc/dask-swarm/s3-ca.pem" in variables


def test_both_keys_are_in_one_swarm_secret_only(program):
    """Not in an argument, a variable, a probe request, a label or an output."""
    credentials = secret(program, "dask-object-store-credentials")
    assert {"data"} == credentials.secret
    assert SECRET_KEY in base64.b64decode(credentials.inputs["data"]).decode()
    rest = [other.inputs for other in program.resources if other is not credentials]
    text = json.dumps(rest) + json.dumps(program.outputs)
    for value in (SECRET_KEY, "AKIAPLANTED"):
        forms = [value, base64.b64encode(value.encode()).decode().rstrip("=")]
        assert not any(form in text for form in forms)


def test_variables_name_the_files_for_clients(program):
    """They are in the one secret of variables, together with the user's."""
    encoded = secret(program, "dask-environment").inputs["data"]
    variables = json.loads(base64.b64decode(encoded))
    assert "/run/secrets/s3_credentials" == variables["AWS_SHARED_CREDENTIALS_FILE"]
    assert "https://s3.example.org" == variables["AWS_ENDPOINT_URL"]
    assert "/etc/dask-swarm/s3-ca.pem" == variables["AWS_CA_BUNDLE"]
    assert "dask" == variables["S3_BUCKET"]


def test_the_users_variables_are_kept(run):
    """A stack may have both."""
    program = run(**STORE, environment='{"TZ": "Europe/Berlin"}')
    variables = json.loads(base64.b64decode(secret(program, "dask-environment").inputs["data"]))
    assert {"TZ", "AWS_ENDPOINT_URL"} <= set(variables)


def test_the_probe_is_asked_to_prove_the_bucket(program):
    """The probe gets bucket and server only: the workers have the keys."""
    request = json.loads(program.command("dask-health-run").inputs["stdin"])
    assert {"bucket": "dask", "endpoint": "https://s3.example.org"} == request["object_store"]


def test_another_bucket_does_not_restart_the_scheduler(run):
    """Only the proof and users' programs need its name."""
    ours, other = (
        run(**STORE | changed).service("dask_scheduler")["labels"]
        for changed in ({}, {"s3Bucket": "other"})
    )
    assert ours == other


@pytest.mark.parametrize(
    "changed", [{"s3Endpoint": "https://other.example.org"}, {"s3Bucket": ""}]
)
def test_another_bucket_or_server_is_proven_again(run, changed):
    """Another key is another secret, with another id in the services' spec hashes."""
    keepers = [
        program.of_type("random:index/randomId:RandomId")[0].inputs["keepers"]["request"]
        for program in (run(**STORE), run(**STORE | changed))
    ]
    assert keepers[0] != keepers[1]


def test_a_services_spec_hash_includes_the_secrets_id(run):
    """So that new keys are proven again."""
    with_keys, without = run(**STORE), run()
    for name in ("dask_worker", "dask_notebook"):
        assert with_keys.labels(name) != without.labels(name)


def test_without_keys_no_store_is_declared(run):
    """No file, no variable, no part of the proof."""
    program = run()
    assert "s3" not in json.dumps([program.container(name) for name in SERVICES]).replace(
        "s3fs", ""
    )
    names = [resource.name for resource in program.resources]
    assert not [name for name in names if "object-store" in name or name == "dask-environment"]
    request = json.loads(program.command("dask-health-run").inputs["stdin"])
    assert request["object_store"] is None
