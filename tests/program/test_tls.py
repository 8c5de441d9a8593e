"""Certificates of the cluster's programs, as the program declares them."""

import base64
import json

import pytest
import yaml

from swarm.snapshot import DECLARED_HASH_LABEL

SERVICES = {"dask_scheduler": "scheduler", "dask_worker": "worker", "dask_notebook": "client"}
FILE = "/run/secrets/dask_certificate"
AUTHORITIES = "/etc/dask-swarm/authorities.pem"
KEY = "privateKeyPem of "
SECRET = "docker:index/secret:Secret"


def pem(program, service):
    """Return the lines of a service's certificate file."""
    (mount,) = [
        secret
        for secret in program.container(service)["secrets"]
        if "dask_certificate" == secret["fileName"]
    ]
    assert (0o440, "1000", "0") == (mount["fileMode"], mount["fileUid"], mount["fileGid"])
    (secret,) = [s for s in program.of_type(SECRET) if f"{s.name}-id" == mount["secretId"]]
    assert {"data"} == secret.secret
    return base64.b64decode(secret.inputs["data"]).decode().splitlines()


def trusted(program, service):
    """Return the CAs that a service trusts."""
    return program.mounted(service, AUTHORITIES).splitlines()


class TestByDefault:
    @pytest.mark.parametrize(("service", "role"), SERVICES.items())
    def test_every_role_has_its_own_certificate_and_key(self, run, service, role):
        """One CA has signed all; each service reads its file only."""
        program = run()
        names = [f"certPem of dask-tls-{role}-1", f"{KEY}dask-tls-{role}-1-key"]
        assert names == pem(program, service)
        assert ["certPem of dask-tls-ca-1"] == trusted(program, service)

    @pytest.mark.parametrize("service", SERVICES)
    def test_dask_encrypts_and_finds_the_files(self, run, service):
        """`Client("scheduler:8786")` uses TLS, and plain TCP is refused."""
        comm = run().dask_config(service)["distributed"]["comm"]
        assert ("tls", True) == (comm["default-scheme"], comm["require-encryption"])
        roles = {role: {"cert": FILE, "key": FILE} for role in SERVICES.values()}
        assert {"ca-file": AUTHORITIES, **roles} == comm["tls"]

    def test_no_key_is_plain(self, run):
        """Keys are in secrets' data and in inputs that the engine encrypts."""
        for resource in run().resources:
            plain = {k: v for k, v in resource.inputs.items() if k not in resource.secret}
            assert KEY not in json.dumps(plain), resource.name

    def test_only_the_certificates_of_work_are_renewed(self, run):
        """A new certificate of the scheduler would lose all work."""
        days = {
            resource.name: (
                resource.inputs["validityPeriodHours"] // 24,
                resource.inputs["earlyRenewalHours"] // 24,
            )
            for resource in run().resources
            if "validityPeriodHours" in resource.inputs
        }
        assert {
            "dask-tls-ca-1": (3650, 0),
            "dask-tls-foreign": (3650, 0),
            "dask-tls-scheduler-1": (3650, 0),
            "dask-tls-worker-1": (365, 90),
            "dask-tls-client-1": (365, 90),
        } == days

    def test_a_certificate_of_workers_that_wait_for_a_node_is_used_to_its_end(self, run):
        """Another certificate would change the workers, which Swarm could not update."""
        workers = run().labels("dask_worker")[DECLARED_HASH_LABEL]
        held = run(found={"held_hash": workers})
        assert workers == held.labels("dask_worker")[DECLARED_HASH_LABEL]
        assert {"dask-tls-worker-1": 0, "dask-tls-client-1": 90 * 24} == {
            name: certificate.inputs["earlyRenewalHours"]
            for certificate in held.of_type("tls:index/locallySignedCert:LocallySignedCert")
            if "scheduler" not in (name := certificate.name)
        }

    def test_only_cas_sign(self, run):
        """Any other certificate with this right could admit every stranger."""
        signs = {
            resource.name: (resource.inputs.get("isCaCertificate", False), "cert_signing" in uses)
            for resource in run(tlsCa="2").resources
            if (uses := resource.inputs.get("allowedUses"))
        }
        cas = ("dask-tls-ca-1", "dask-tls-ca-2", "dask-tls-ca-2-by-1")
        assert {name: (name in cas, name in cas) for name in signs} == signs

    def test_no_key_can_be_guessed(self, run):
        """TLS 1.3 knows no weaker curve."""
        keys = run().of_type("tls:index/privateKey:PrivateKey")
        assert {("ECDSA", "P256")} == {
            (key.inputs["algorithm"], key.inputs["ecdsaCurve"]) for key in keys
        }

    def test_a_client_elsewhere_gets_a_configuration(self, run):
        """It has the texts instead of the paths, and is secret."""
        program = run()
        tls = yaml.safe_load(program.outputs["client_config"])["distributed"]["comm"]["tls"]
        assert pem(program, "dask_notebook") == tls["client"]["cert"].splitlines()
        assert trusted(program, "dask_notebook") == tls["ca-file"].splitlines()
        assert "client_config" in program.secret_outputs

    def test_the_probe_is_a_client_and_a_stranger(self, run):
        """It proves that its certificate is admitted, and that a foreign certificate is not."""
        request = json.loads(run().command("dask-health-run").inputs["stdin"])
        (certificate,), (authorities,) = request["secrets"], request["configs"]
        assert ("dask-tls-client-id", "dask_certificate") == (
            certificate["id"],
            certificate["file"],
        )
        assert ("dask-tls-authorities-id", AUTHORITIES) == (authorities["id"], authorities["file"])
        assert "dask-tls-foreign-id" == request["tls"]["secret_id"]
        assert request["tls"]["dask_config"]["distributed"]["comm"]["require-encryption"]


class TestChangeOfCa:
    def test_the_next_ca_leaves_the_scheduler_as_it_is(self, run):
        """The scheduler's service does not change, so all computations go on."""
        before, after = run(), run(tlsCa="2")
        assert before.service("dask_scheduler") == after.service("dask_scheduler")
        assert pem(before, "dask_scheduler") == pem(after, "dask_scheduler")
        assert trusted(before, "dask_scheduler") == trusted(after, "dask_scheduler")

    @pytest.mark.parametrize("service", ["dask_worker", "dask_notebook"])
    def test_the_next_ca_signs_for_work_with_a_chain_to_the_old_ca(self, run, service):
        """The running scheduler knows the old CA only."""
        program, role = run(tlsCa="2"), SERVICES[service]
        assert [
            f"certPem of dask-tls-{role}-2",
            "certPem of dask-tls-ca-2-by-1",
            f"{KEY}dask-tls-{role}-2-key",
        ] == pem(program, service)
        both = ["certPem of dask-tls-ca-1", "certPem of dask-tls-ca-2"]
        assert both == trusted(program, service)

    @pytest.mark.parametrize(("service", "role"), SERVICES.items())
    def test_the_schedulers_next_ca_drops_the_old_ca(self, run, service, role):
        """Afterwards only the next CA exists."""
        program = run(tlsCa="2", tlsSchedulerCa="2")
        names = [f"certPem of dask-tls-{role}-2", f"{KEY}dask-tls-{role}-2-key"]
        assert names == pem(program, service)
        assert ["certPem of dask-tls-ca-2"] == trusted(program, service)
        assert not [r for r in program.resources if r.name.startswith("dask-tls-ca-1")]

    def test_cas_have_different_names(self, run):
        """With equal names OpenSSL takes the wrong CA."""
        subjects = [
            resource.inputs["subject"]["commonName"]
            for resource in run(tlsCa="2").of_type("tls:index/selfSignedCert:SelfSignedCert")
        ]
        assert 3 == len(set(subjects))


class TestWithoutTls:
    def test_there_is_no_certificate(self, run):
        """All traffic is plain, and the program warns."""
        program = run(tls="false")
        assert "tcp://scheduler:8786" == program.outputs["scheduler_address"]
        assert not [r for r in program.resources if r.type.startswith("tls:")]
        request = json.loads(program.command("dask-health-run").inputs["stdin"])
        assert ([], [], None) == tuple(request[key] for key in ("secrets", "configs", "tls"))
        for service in SERVICES:
            assert "comm" not in yaml.safe_dump(program.dask_config(service))

    def test_the_program_warns(self, run, caplog):
        """In every preview and `up`."""
        run(tls="false", again=True)
        assert "tls is false: every program on the cluster's network" in caplog.text
