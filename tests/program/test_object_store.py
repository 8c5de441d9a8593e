"""The keys of an object store: where the program puts them, and that they are nowhere else."""

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
    """Return the declared Swarm secret of a logical name."""
    (found,) = [each for each in program.of_type(SECRET) if each.name == name]
    return found


def mounted(program, service):
    """Return the secrets that a service mounts, by the names of their files."""
    return {each["fileName"]: each for each in program.container(service)["secrets"]}


@pytest.mark.parametrize("name", ["dask_worker", "dask_notebook"])
def test_workers_and_notebook_mount_the_credentials_readable_for_their_user(program, name):
    """For user 1000, and for a root without capabilities, who needs the group."""
    found = mounted(program, name)["s3_credentials"]
    assert "dask-object-store-credentials-id" == found["secretId"]
    rights = (found["fileUid"], found["fileGid"], found["fileMode"])
    assert ("1000", "0", 0o440) == rights


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_mounts_the_certificates(program, name):
    """Public, so a config; where the variable names them."""
    assert certifi.contents().strip() + "\n" == program.mounted(name, "/etc/dask-swarm/s3-ca.pem")


def test_the_scheduler_is_led_to_the_files_by_its_command_line(program):
    """It reads the metadata of Parquet files; workers send it the keys, so it mounts no secret."""
    assert "s3_credentials" not in mounted(program, "dask_scheduler")
    arguments = program.container("dask_scheduler")["args"]
    variables = arguments[1 : arguments.index("dask")]
    assert "env" == arguments[0]
    assert "AWS_SHARED_CREDENTIALS_FILE=/dev/shm/s3_credentials" in variables
    assert "AWS_ENDPOINT_URL=https://s3.example.org" in variables
    assert "SSL_CERT_FILE=/etc/dask-swarm/s3-ca.pem" in variables


def test_both_keys_are_in_a_swarm_secret_alone(program):
    """Not in an argument, a variable, a request to the probe, a label or an output."""
    credentials = secret(program, "dask-object-store-credentials")
    assert {"data"} == credentials.secret
    assert SECRET_KEY in base64.b64decode(credentials.inputs["data"]).decode()
    rest = [each.inputs for each in program.resources if each is not credentials]
    text = json.dumps(rest) + json.dumps(program.outputs)
    for value in (SECRET_KEY, "AKIAPLANTED"):
        forms = [value, base64.b64encode(value.encode()).decode().rstrip("=")]
        assert not any(form in text for form in forms)


def test_variables_lead_clients_to_the_files(program):
    """They are of the one secret of variables, beside the user's own."""
    encoded = secret(program, "dask-environment").inputs["data"]
    variables = json.loads(base64.b64decode(encoded))
    assert "/run/secrets/s3_credentials" == variables["AWS_SHARED_CREDENTIALS_FILE"]
    assert "https://s3.example.org" == variables["AWS_ENDPOINT_URL"]
    assert "/etc/dask-swarm/s3-ca.pem" == variables["AWS_CA_BUNDLE"]
    assert "dask" == variables["S3_BUCKET"]


def test_the_users_own_variables_are_kept(run):
    """A stack may have both."""
    program = run(**STORE, environment='{"TZ": "Europe/Berlin"}')
    variables = json.loads(base64.b64decode(secret(program, "dask-environment").inputs["data"]))
    assert {"TZ", "AWS_ENDPOINT_URL"} <= set(variables)


def test_the_probe_is_asked_to_prove_the_bucket(program):
    """Bucket and server are all that it is told: the workers have the keys."""
    request = json.loads(program.command("dask-health-run").inputs["stdin"])
    assert {"bucket": "dask", "endpoint": "https://s3.example.org"} == request["object_store"]


def test_another_bucket_does_not_restart_the_scheduler(run):
    """Its name is for the proof and for users' programs."""
    ours, other = (
        run(**STORE | changed).service("dask_scheduler")["labels"]
        for changed in ({}, {"s3Bucket": "other"})
    )
    assert ours == other


@pytest.mark.parametrize(
    "changed", [{"s3Endpoint": "https://other.example.org"}, {"s3Bucket": ""}]
)
def test_another_bucket_or_server_is_proven_again(run, changed):
    """Another key is another secret, whose id is in the hash of the services' specs."""
    keepers = [
        program.of_type("random:index/randomId:RandomId")[0].inputs["keepers"]["request"]
        for program in (run(**STORE), run(**STORE | changed))
    ]
    assert keepers[0] != keepers[1]


def test_the_revision_of_a_service_has_the_id_of_the_secret(run):
    """So that the proof of other keys is another one."""
    with_keys, without = run(**STORE), run()
    for name in ("dask_worker", "dask_notebook"):
        (ours,), (plain,) = with_keys.service(name)["labels"], without.service(name)["labels"]
        assert ours["value"] != plain["value"]


def test_without_keys_there_is_nothing(run):
    """Not a file, a variable or a part of the proof."""
    program = run()
    assert "s3" not in json.dumps([program.container(name) for name in SERVICES]).replace(
        "s3fs", ""
    )
    assert not [each for each in program.resources if "object-store" in each.name]
    assert not [each for each in program.resources if each.name == "dask-environment"]
    request = json.loads(program.command("dask-health-run").inputs["stdin"])
    assert request["object_store"] is None
