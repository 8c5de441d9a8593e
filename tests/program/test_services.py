"""The services that the program declares, as the provider receives them."""

import base64
import json
from types import SimpleNamespace

import dask
import distributed  # noqa: F401  its defaults become part of the configuration
import pulumi
import pytest

from components.network import subnets_of
from swarm.snapshot import DECLARED_HASH_LABEL
from tests.program.conftest import Program
from tests.program.test_program import request_of

SERVICES = ["dask_scheduler", "dask_worker", "dask_notebook"]
OVERLAY = "dask-network-overlay-id"
SUBNETS = "/etc/dask-swarm/subnets.json"
CADDY = "caddy-network-id"


@pytest.fixture
def program(run):
    """Return the program with the default config."""
    return run()


class TestEveryService:
    @pytest.mark.parametrize("name", SERVICES)
    def test_restarts_after_any_exit_status(self, program, name):
        """A worker that loses its scheduler exits with status 0 and must restart."""
        policy = program.service(name)["taskSpec"]["restartPolicy"]
        assert {"condition": "any", "delay": "1s", "window": "30s"} == policy

    @pytest.mark.parametrize("name", SERVICES)
    def test_has_limits_and_reservations_within_them(self, program, name):
        """No service can use a whole node."""
        resources = program.service(name)["taskSpec"]["resources"]
        for unit in ("memoryBytes", "nanoCpus"):
            assert 0 < resources["reservation"][unit] <= resources["limits"][unit]

    @pytest.mark.parametrize("name", SERVICES)
    def test_has_a_health_check_log_rotation_and_a_grace_period(self, program, name):
        """None of them, and no init, is left to defaults."""
        container = program.container(name)
        assert ["CMD", "bash", "-c"] == container["healthcheck"]["tests"][:3]
        assert {"dask_worker": "1m"}.get(name, "30s") == container["stopGracePeriod"]
        assert container["init"] is True
        options = program.service(name)["taskSpec"]["logDriver"]["options"]
        assert {"max-size": "10m", "max-file": "3"} == options

    @pytest.mark.parametrize("name", SERVICES)
    def test_publishes_no_port_and_has_no_virtual_ip(self, program, name):
        """Services are reachable on their networks only, by name, without IPVS."""
        assert {"mode": "dnsrr"} == program.service(name)["endpointSpec"]

    @pytest.mark.parametrize("name", SERVICES)
    def test_runs_without_capabilities(self, program, name):
        """Users' code gets no privilege of the kernel."""
        assert ["ALL"] == program.container(name)["capDrops"]

    @pytest.mark.parametrize("name", SERVICES)
    def test_has_an_image_digest_and_a_platform(self, program, name):
        """Otherwise Swarm fills them in, and the next refresh shows a change."""
        assert "@sha256:" in program.container(name)["image"]
        platforms = program.service(name)["taskSpec"]["placement"]["platforms"]
        assert [{"os": "linux", "architecture": "amd64"}] == platforms

    def test_may_run_on_both_platforms(self, run):
        """Caddy and the probe too; the order of the list is no change."""
        config = {"caddyMode": "managed", "domain": "localhost", "auth": "basic"}
        one = run(**config, prefect="managed", platform="linux/amd64,linux/arm64")
        other = run(**config, prefect="managed", platform="linux/arm64, linux/amd64,linux/arm64")
        services = one.of_type("docker:index/service:Service")
        assert len(SERVICES) + 3 == len(services)
        architectures = [{"os": "linux", "architecture": name} for name in ("amd64", "arm64")]
        for service in services:
            assert architectures == service.inputs["taskSpec"]["placement"]["platforms"]
        assert ["linux/amd64", "linux/arm64"] == request_of(one)["platforms"]
        known = [{r.key: r.inputs for r in program.resources} for program in (one, other)]
        assert known[0] == known[1]

    def test_has_all_platforms_of_its_own_image(self, run):
        """The provider stores them, and the second deployment would show a change."""
        config = {"caddyMode": "managed", "domain": "localhost", "auth": "basic"}
        found = {
            "image_platforms": ("linux/amd64", "linux/arm64"),
            "notebook_image_platforms": ("linux/amd64", "unknown/unknown"),
            "caddy_image_platforms": ("linux/amd64", "linux/s390x"),
        }
        program = run(**config, prefect="managed", found=found)
        excluding = {"node.platform.os==linux", "node.platform.arch==x86_64"}
        for service in program.of_type("docker:index/service:Service"):
            name = service.inputs["name"].removeprefix("dask_")
            image = {"notebook": "notebook_image", "caddy": "caddy_image"}.get(name.split("_")[0])
            placement = service.inputs["taskSpec"]["placement"]
            named = [f"{one['os']}/{one['architecture']}" for one in placement["platforms"]]
            assert [*found[f"{image or 'image'}_platforms"]] == named
            assert (name != "notebook") == (excluding <= {*placement["constraints"]})

    @pytest.mark.parametrize("name", SERVICES)
    def test_has_at_most_one_environment_variable(self, program, name):
        """The provider sends two in random order, which restarts tasks."""
        assert len(program.container(name).get("env", {})) <= 1

    @pytest.mark.parametrize("name", SERVICES)
    def test_rolls_back_an_update_that_fails(self, program, name):
        """After a bad update the old tasks serve."""
        assert "rollback" == program.service(name)["updateConfig"]["failureAction"]

    @pytest.mark.parametrize("name", ["dask_scheduler", "dask_notebook"])
    def test_stops_only_when_its_successor_works(self, program, name):
        """A bad update must not lose running computations or kernels."""
        service = program.service(name)
        assert "start-first" == service["updateConfig"]["order"]
        assert "start-first" == service["rollbackConfig"]["order"]

    @pytest.mark.parametrize("name", SERVICES)
    def test_has_a_label_with_its_spec_hash(self, program, name):
        """By it the health probe knows whether Swarm has the declared spec."""
        assert 16 == len(program.labels(name)["dask.swarm/revision"])

    @pytest.mark.parametrize("name", SERVICES)
    def test_asks_updaters_to_leave_it_alone(self, program, name):
        """The labels of Shepherd's example and of Gantry's defaults, on the service."""
        labels = program.labels(name)
        assert ("false", "true") == (
            labels["shepherd.autodeploy"],
            labels["gantry.services.excluded"],
        )
        assert {"dask.swarm/revision", "dask.swarm/scheduler"} >= labels.keys() - {
            "shepherd.autodeploy",
            "gantry.services.excluded",
        }


class TestScheduler:
    def test_is_on_both_networks_and_known_as_scheduler(self, program):
        """`Client("scheduler:8786")` works on the overlay, and Caddy reaches the dashboard."""
        networks = program.service("dask_scheduler")["taskSpec"]["networksAdvanceds"]
        aliases = {network["id"]: network.get("aliases", []) for network in networks}
        assert {OVERLAY: ["scheduler"], CADDY: []} == aliases

    def test_advertises_the_address_that_all_nodes_reach(self, program):
        """By default it would advertise an address of its node."""
        config = program.dask_config("dask_scheduler")
        assert "tls://scheduler:8786" == config["distributed"]["scheduler"]["contact-address"]
        arguments = program.container("dask_scheduler")["args"]
        preload = arguments[arguments.index("--preload") + 1]
        assert "contact-address" in program.mounted("dask_scheduler", preload)

    def test_runs_once_on_the_master(self, program):
        """One scheduler, on the node with the master's label."""
        service = program.service("dask_scheduler")
        assert 1 == service["mode"]["replicated"]["replicas"]
        assert ["node.labels.role==master"] == service["taskSpec"]["placement"]["constraints"]


class TestWorkers:
    def test_are_four_two_on_each_data_node(self, program):
        """By default: 4 workers, at most 2 on a node."""
        service = program.service("dask_worker")
        placement = service["taskSpec"]["placement"]
        assert 4 == service["mode"]["replicated"]["replicas"]
        assert 2 == placement["maxReplicas"]
        assert ["node.labels.role==data-worker"] == placement["constraints"]

    def test_have_one_limit_in_swarm_and_dask(self, run):
        """One value is Swarm's limit, Swarm's reservation and Dask's memory limit."""
        program = run(workerMemory="1.5GiB", workerThreads="2", workerCpus="0.75")
        resources = program.service("dask_worker")["taskSpec"]["resources"]
        limit = {"memoryBytes": 3 * 2**29, "nanoCpus": 750_000_000}
        assert {"limits": limit, "reservation": limit} == resources
        command = " ".join(program.container("dask_worker")["args"])
        assert "--nthreads 2 --memory-limit 1536MiB" in command

    def test_reserve_less_when_the_user_overcommits(self, run):
        """Dask's memory limit stays Swarm's limit."""
        program = run(workerReservedCpus="0.1", workerReservedMemory="128MiB")
        resources = program.service("dask_worker")["taskSpec"]["resources"]
        assert {"memoryBytes": 2**27, "nanoCpus": 100_000_000} == resources["reservation"]
        assert {"memoryBytes": 2**30, "nanoCpus": 500_000_000} == resources["limits"]
        command = " ".join(program.container("dask_worker")["args"])
        assert "--memory-limit 1GiB" in command

    def test_may_install_packages_as_long_as_the_proof_waits(self, run):
        """Without packages the deadline changes no container."""
        for packages, period in (('["s3fs"]', "20m"), ("[]", "5m")):
            program = run(extraPipPackages=packages, healthDeadline="1200")
            check = program.container("dask_worker")["healthcheck"]
            assert period == check["startPeriod"]

    @pytest.mark.parametrize(
        "change",
        [{"workerThreads": "2"}, {"environment": '{"A": "1"}'}],
        ids=lambda change: next(iter(change)),
    )
    def test_are_not_updated_while_some_wait_for_a_node(self, run, program, change):
        """Swarm would wait for the node in the middle of the update; other services change."""
        labels = program.service("dask_worker")["labels"]
        (label,) = [label for label in labels if label["label"] == DECLARED_HASH_LABEL]
        held = {"found": {"held_hash": label["value"]}}
        unchanged = run(notebookMemory="3GiB", **held)
        assert "dask-workers-service" in unchanged.dependencies("dask-notebook")
        refused = Program()
        with pytest.raises(pulumi.RunError, match="dask_worker: not updated"):
            run(program=refused, **held, prefect="managed", notebookMemory="3GiB", **change)
        assert [] == refused.of_type("docker:index/service:Service")

    def test_hold_up_no_other_service(self, program):
        """Unless they must stay as they are, all services are updated at once."""
        assert "dask-workers-service" not in program.dependencies("dask-notebook")

    def test_run_their_preloads_in_any_image(self, program):
        """Both preloads are mounted at the paths of the command line."""
        arguments = program.container("dask_worker")["args"]
        for option, kind in (("--preload", "Worker"), ("--preload-nanny", "Nanny")):
            preload = program.mounted("dask_worker", arguments[arguments.index(option) + 1])
            assert f"from distributed import {kind}\n" in preload

    def test_have_nannies_that_fork_and_let_tasks_start_processes(self, program):
        """Environ, UploadDirectory, PipInstall and restarts need a nanny."""
        assert "--nanny" in program.container("dask_worker")["args"]
        config = program.dask_config("dask_worker")["distributed"]["worker"]
        assert ("fork", False) == (config["multiprocessing-method"], config["daemon"])

    def test_spill_ten_times_their_memory_at_most(self, run):
        """The disk of a node is not theirs alone."""
        config = run(workerMemory="512MiB").dask_config("dask_worker")["distributed"]["worker"]
        assert {"max-spill": 5 * 2**30} == config["memory"]

    def test_start_with_the_variables_that_a_fork_cannot_set(self, program):
        """The command line sets them in any image, without the service's environment."""
        arguments = program.container("dask_worker")["args"]
        assert "env" == arguments[0]
        variables = dict(
            variable.split("=") for variable in arguments[1 : arguments.index("dask")]
        )
        threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}
        of_a_nanny = dask.config.get("distributed.nanny.pre-spawn-environ")
        assert threads.items() < variables.items()
        assert {name: str(value) for name, value in of_a_nanny.items()}.items() < variables.items()
        assert "PYTHONHASHSEED" in variables

    @pytest.mark.parametrize(("count", "at_once"), [(1, 1), (4, 1), (7, 1), (8, 2), (16, 4)])
    def test_are_replaced_a_quarter_at_a_time(self, run, count, at_once):
        """The others take over the data; old workers stop first, because room is scarce."""
        update = run(workers=str(count)).service("dask_worker")["updateConfig"]
        assert (at_once, "stop-first", "2s") == tuple(
            update[key] for key in ("parallelism", "order", "delay")
        )

    def test_are_on_the_overlay_only(self, program):
        """Only the cluster reaches a worker."""
        networks = program.service("dask_worker")["taskSpec"]["networksAdvanceds"]
        assert [OVERLAY] == [network["id"] for network in networks]

    def test_pass_the_extra_packages_to_the_official_image(self, program):
        """It installs them at start; other images ignore the variable."""
        env = program.container("dask_worker")["env"]
        assert {"EXTRA_PIP_PACKAGES": "prefect prefect-dask s3fs"} == env

    def test_without_extra_packages_have_no_variable(self, run):
        """Nothing is installed at start."""
        assert not run(extraPipPackages="[]").container("dask_worker").get("env")


@pytest.mark.parametrize("name", ["dask_scheduler", "dask_worker", "dask_notebook"])
class TestSettingsForWork:
    def test_extra_packages_reach_every_service(self, program, name):
        """The official images install them at start; other images ignore the variable."""
        env = {"EXTRA_PIP_PACKAGES": "prefect prefect-dask s3fs"}
        assert env == program.container(name)["env"]

    def test_the_users_dask_config_wins(self, run, name):
        """With `-` or `_` in a key; the stack's other values stay."""
        users = {"scheduler_address": "tcp://other:1", "array": {"chunk-size": "64MiB"}}
        config = run(daskConfig=json.dumps(users)).dask_config(name)
        assert "64MiB" == config["array"]["chunk-size"]
        if name == "dask_notebook":
            assert "tcp://other:1" == config["scheduler-address"]
            assert "scheduler_address" not in config

    def test_variables_are_one_secret_of_workers_and_notebook(self, run, name):
        """No variable is in a service's spec, where anyone on the manager can read it."""
        program = run(environment='{"GREETING": "hello", "DEBUG": true}')
        names = [secret["fileName"] for secret in program.container(name).get("secrets", [])]
        assert ("dask_environment" in names) == (name != "dask_scheduler")
        (secret,) = [
            secret
            for secret in program.of_type("docker:index/secret:Secret")
            if secret.name == "dask-environment"
        ]
        assert {"data"} <= secret.secret
        variables = json.loads(base64.b64decode(secret.inputs["data"]))
        assert {"GREETING": "hello", "DEBUG": "true"} == variables


class TestNotebook:
    def test_finds_the_scheduler(self, program):
        """`Client()` needs no address."""
        config = program.dask_config("dask_notebook")
        assert "tls://scheduler:8786" == config["scheduler-address"]
        assert "/proxy/scheduler:8787/status" == config["distributed"]["dashboard"]["link"]

    def test_looks_names_up_on_the_overlay_first(self, program):
        """Caddy's network may have another `scheduler`."""
        dns = program.container("dask_notebook")["dnsConfig"]
        assert (["dask-network"], ["ndots:1"]) == (dns["searches"], dns["options"])

    def test_reads_its_token_from_a_file(self, program):
        """The token is a Swarm secret, readable for the container's user only."""
        secret, _certificate = program.container("dask_notebook")["secrets"]
        assert "notebook_token" == secret["fileName"]
        assert (0o440, "1000") == (secret["fileMode"], secret["fileUid"])

    def test_keeps_users_files_on_a_volume_of_the_node(self, program):
        """No resource owns the named volume, so neither update nor destroy removes it."""
        mount = program.named_volume("dask_notebook")
        where = ("volume", "dask-notebook", "/home/jovyan")
        assert where == (mount["type"], mount["source"], mount["target"])
        assert "volumeOptions" not in mount
        assert not program.of_type("docker:index/volume:Volume")

    def test_a_password_replaces_the_token(self, run):
        """With a password from the config no token is generated."""
        program = run(notebookPassword="correct horse")
        secret, _certificate = program.container("dask_notebook")["secrets"]
        assert "notebook_password" == secret["fileName"]
        assert not program.of_type("random:index/randomPassword:RandomPassword")
        assert "notebook_token" not in program.outputs

    @pytest.mark.parametrize("asks", ["true", "false"])
    def test_it_always_has_a_token(self, run, asks):
        """No setting opens the notebook to everyone on its networks."""
        program = run(
            domain="example.org", autheliaPortal="https://auth.example.org", notebookLogin=asks
        )
        secrets = [secret["fileName"] for secret in program.container("dask_notebook")["secrets"]]
        assert ["notebook_token", "front_key", "dask_certificate"] == secrets
        assert "notebook_token" in program.secret_outputs


def test_without_caddy_services_are_on_the_overlay_only(run):
    """`caddyMode: none` joins no other network."""
    program = run(caddyMode="none")
    for name in SERVICES:
        networks = program.service(name)["taskSpec"]["networksAdvanceds"]
        assert [OVERLAY] == [network["id"] for network in networks]


def test_the_scheduler_knows_the_clusters_network(run):
    """Its command line has the loopback only, and its preload adds this network."""
    program = run()
    assert ["10.0.1.0/24"] == json.loads(program.mounted("dask_scheduler", SUBNETS))
    arguments = program.container("dask_scheduler")["args"]
    assert "127.0.0.1" == arguments[arguments.index("--host") + 1]


def test_the_notebook_leaves_the_clusters_network_to_the_tasks(run):
    """Without Caddy's network it must listen there, because the proof has to reach it."""
    assert ["10.0.1.0/24"] == json.loads(run().mounted("dask_notebook", SUBNETS))
    files = run(caddyMode="none").container("dask_notebook")["configs"]
    assert SUBNETS not in {file["fileName"] for file in files}


def test_a_network_without_addresses_is_an_error():
    """Otherwise the scheduler would listen on no network."""
    with pytest.raises(pulumi.RunError, match="network has no range"):
        subnets_of([SimpleNamespace(subnet=""), SimpleNamespace(subnet="fd00::/64")])


@pytest.mark.parametrize("mode", ["managed", "external"])
def test_the_proof_tries_the_ports_between_the_networks(run, mode):
    """It asks the notebook on Caddy's network."""
    request = request_of(run(caddyMode=mode, caddyNetwork="edge", domain="localhost", auth="none"))
    assert "http://dask_notebook.edge:8888" == request["notebook"]["url"]
    closed = ["dask_scheduler.edge:8786", "dask_notebook.dask-network:8888"]
    assert closed == request["closed_ports"]


def test_without_caddys_network_there_is_nothing_to_close(run):
    """The probe asks the notebook on the cluster's network."""
    request = request_of(run(caddyMode="none"))
    assert "http://dask_notebook.dask-network:8888" == request["notebook"]["url"]
    assert ([], None) == (request["closed_ports"], request["caddy_network_id"])
