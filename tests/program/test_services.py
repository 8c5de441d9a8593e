"""What the program declares for each service, as the provider receives it."""

import base64
import json

import dask
import distributed  # noqa: F401  its defaults become part of the configuration
import pytest

SERVICES = ["dask_scheduler", "dask_worker", "dask_notebook"]
OVERLAY = "dask-network-overlay-id"
CADDY = "caddy-network-id"


@pytest.fixture
def program(run):
    """Return what the program declares for the defaults."""
    return run()


class TestEveryService:
    @pytest.mark.parametrize("name", SERVICES)
    def test_restarts_whatever_its_exit_status_was(self, program, name):
        """A worker that lost its scheduler ends with status 0 and must come back."""
        policy = program.service(name)["taskSpec"]["restartPolicy"]
        assert {"condition": "any", "delay": "1s", "window": "30s"} == policy

    @pytest.mark.parametrize("name", SERVICES)
    def test_has_limits_and_reservations_within_them(self, program, name):
        """No service can take a node for itself."""
        resources = program.service(name)["taskSpec"]["resources"]
        for unit in ("memoryBytes", "nanoCpus"):
            assert 0 < resources["reservation"][unit] <= resources["limits"][unit]

    @pytest.mark.parametrize("name", SERVICES)
    def test_is_checked_rotates_its_log_and_ends_in_peace(self, program, name):
        """Health check, log rotation, grace period and an init are never left to defaults."""
        container = program.container(name)
        assert ["CMD", "bash", "-c"] == container["healthcheck"]["tests"][:3]
        assert {"dask_worker": "1m"}.get(name, "30s") == container["stopGracePeriod"]
        assert container["init"] is True
        options = program.service(name)["taskSpec"]["logDriver"]["options"]
        assert {"max-size": "10m", "max-file": "3"} == options

    @pytest.mark.parametrize("name", SERVICES)
    def test_publishes_no_port_and_needs_no_virtual_address(self, program, name):
        """Only the networks lead to a service, by its name, without IPVS."""
        assert {"mode": "dnsrr"} == program.service(name)["endpointSpec"]

    @pytest.mark.parametrize("name", SERVICES)
    def test_runs_without_capabilities(self, program, name):
        """Code from a notebook gets no kernel privilege."""
        assert ["ALL"] == program.container(name)["capDrops"]

    @pytest.mark.parametrize("name", SERVICES)
    def test_names_image_by_digest_and_platform(self, program, name):
        """What the Swarm would otherwise fill in would show as a change."""
        assert "@sha256:" in program.container(name)["image"]
        platforms = program.service(name)["taskSpec"]["placement"]["platforms"]
        assert [{"os": "linux", "architecture": "amd64"}] == platforms

    @pytest.mark.parametrize("name", SERVICES)
    def test_has_at_most_one_environment_variable(self, program, name):
        """Two would be sent in random order and restart tasks at any unrelated change."""
        assert len(program.container(name).get("env", {})) <= 1

    @pytest.mark.parametrize("name", SERVICES)
    def test_rolls_back_an_update_that_fails(self, program, name):
        """A bad update ends with the old tasks serving."""
        assert "rollback" == program.service(name)["updateConfig"]["failureAction"]

    @pytest.mark.parametrize("name", ["dask_scheduler", "dask_notebook"])
    def test_is_replaced_only_by_one_that_works(self, program, name):
        """What only one task holds, computations or kernels, does not end for a bad update."""
        service = program.service(name)
        assert "start-first" == service["updateConfig"]["order"]
        assert "start-first" == service["rollbackConfig"]["order"]

    @pytest.mark.parametrize("name", SERVICES)
    def test_carries_a_revision(self, program, name):
        """The health probe knows by it which spec a task was made from."""
        (label,) = program.service(name)["labels"]
        assert "dask.swarm/revision" == label["label"]
        assert 16 == len(label["value"])


class TestScheduler:
    def test_is_on_both_networks_and_known_as_scheduler(self, program):
        """`Client("scheduler:8786")` works on the overlay, Caddy reaches the dashboard."""
        networks = program.service("dask_scheduler")["taskSpec"]["networksAdvanceds"]
        aliases = {each["id"]: each.get("aliases", []) for each in networks}
        assert {OVERLAY: ["scheduler"], CADDY: []} == aliases

    def test_advertises_the_address_that_all_nodes_reach(self, program):
        """Left alone it would advertise an address of its own node."""
        config = program.dask_config("dask_scheduler")
        assert "tcp://scheduler:8786" == config["distributed"]["scheduler"]["contact-address"]
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
        """The defaults are the original's: 4 workers, at most two on a node."""
        service = program.service("dask_worker")
        placement = service["taskSpec"]["placement"]
        assert 4 == service["mode"]["replicated"]["replicas"]
        assert 2 == placement["maxReplicas"]
        assert ["node.labels.role==data-worker"] == placement["constraints"]

    def test_dask_is_told_the_limit_that_the_swarm_enforces(self, run):
        """One value is the Swarm's limit, its reservation and Dask's memory limit."""
        program = run(workerMemory="1.5GiB", workerThreads="2", workerCpus="0.75")
        resources = program.service("dask_worker")["taskSpec"]["resources"]
        limit = {"memoryBytes": 3 * 2**29, "nanoCpus": 750_000_000}
        assert {"limits": limit, "reservation": limit} == resources
        command = " ".join(program.container("dask_worker")["args"])
        assert "--nthreads 2 --memory-limit 1536MiB" in command

    def test_start_and_leave_as_their_preloads_say_in_any_image(self, program):
        """Both preloads are mounted where the command line names them."""
        arguments = program.container("dask_worker")["args"]
        for option, kind in (("--preload", "Worker"), ("--preload-nanny", "Nanny")):
            preload = program.mounted("dask_worker", arguments[arguments.index(option) + 1])
            assert f"from distributed import {kind}\n" in preload

    def test_have_nannies_that_start_them_at_once_and_let_tasks_start_processes(self, program):
        """Environ, UploadDirectory, PipInstall and restarts need a nanny."""
        assert "--nanny" in program.container("dask_worker")["args"]
        config = program.dask_config("dask_worker")["distributed"]["worker"]
        assert {"multiprocessing-method": "fork", "daemon": False} == config

    def test_begin_with_the_variables_that_a_fork_cannot_set_later(self, program):
        """The command line sets them in any image, and needs no environment of the service."""
        arguments = program.container("dask_worker")["args"]
        assert "env" == arguments[0]
        variables = dict(each.split("=") for each in arguments[1 : arguments.index("dask")])
        threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}
        of_a_nanny = dask.config.get("distributed.nanny.pre-spawn-environ")
        assert threads.items() < variables.items()
        assert {name: str(value) for name, value in of_a_nanny.items()}.items() < variables.items()
        assert "PYTHONHASHSEED" in variables

    @pytest.mark.parametrize(("count", "at_once"), [(1, 1), (4, 1), (7, 1), (8, 2), (16, 4)])
    def test_are_replaced_a_quarter_at_a_time(self, run, count, at_once):
        """The others take the data; the old ones go first, there may be no room for both."""
        update = run(workers=str(count)).service("dask_worker")["updateConfig"]
        assert (at_once, "stop-first", "2s") == tuple(
            update[key] for key in ("parallelism", "order", "delay")
        )

    def test_are_on_the_overlay_alone(self, program):
        """Nothing but the cluster reaches a worker."""
        networks = program.service("dask_worker")["taskSpec"]["networksAdvanceds"]
        assert [OVERLAY] == [each["id"] for each in networks]

    def test_tell_the_official_image_which_packages_to_install(self, program):
        """The official image installs them at start; an image that has them ignores it."""
        env = program.container("dask_worker")["env"]
        assert {"EXTRA_PIP_PACKAGES": "prefect prefect-dask s3fs"} == env

    def test_without_extra_packages_nothing_is_installed(self, run):
        """An empty list leaves the variable out."""
        assert not run(extraPipPackages="[]").container("dask_worker").get("env")


@pytest.mark.parametrize("name", ["dask_scheduler", "dask_worker", "dask_notebook"])
class TestSettingsForWork:
    def test_extra_packages_reach_every_service(self, program, name):
        """The official images install them at start; images that have them ignore the variable."""
        env = {"EXTRA_PIP_PACKAGES": "prefect prefect-dask s3fs"}
        assert env == program.container(name)["env"]

    def test_dasks_configuration_is_the_users_where_both_set_a_value(self, run, name):
        """What the user leaves alone stays, however a key is spelled."""
        users = {"scheduler_address": "tcp://other:1", "array": {"chunk-size": "64MiB"}}
        config = run(daskConfig=json.dumps(users)).dask_config(name)
        assert "64MiB" == config["array"]["chunk-size"]
        if name == "dask_notebook":
            assert "tcp://other:1" == config["scheduler-address"]
            assert "scheduler_address" not in config

    def test_variables_are_one_secret_of_workers_and_notebook(self, run, name):
        """No variable is in a service's spec, where everybody reads it."""
        program = run(environment='{"GREETING": "hello", "DEBUG": true}')
        names = [each["fileName"] for each in program.container(name).get("secrets", [])]
        assert ("dask_environment" in names) == (name != "dask_scheduler")
        (secret,) = [
            each
            for each in program.of_type("docker:index/secret:Secret")
            if each.name == "dask-environment"
        ]
        assert {"data"} <= secret.secret
        variables = json.loads(base64.b64decode(secret.inputs["data"]))
        assert {"GREETING": "hello", "DEBUG": "true"} == variables


class TestNotebook:
    def test_finds_the_scheduler_without_being_told(self, program):
        """`Client()` without an address is enough."""
        config = program.dask_config("dask_notebook")
        assert "tcp://scheduler:8786" == config["scheduler-address"]
        assert "/proxy/scheduler:8787/status" == config["distributed"]["dashboard"]["link"]

    def test_looks_names_up_on_the_overlay_first(self, program):
        """A `scheduler` on Caddy's network, whose name comes first, is not the cluster's."""
        dns = program.container("dask_notebook")["dnsConfig"]
        assert (["dask-network"], ["ndots:1"]) == (dns["searches"], dns["options"])

    def test_reads_its_token_from_a_file_of_its_own(self, program):
        """The token is a Swarm secret, readable for the container's user alone."""
        (secret,) = program.container("dask_notebook")["secrets"]
        assert "notebook_token" == secret["fileName"]
        assert (0o440, "1000") == (secret["fileMode"], secret["fileUid"])

    def test_keeps_its_users_work_on_a_volume_of_the_node(self, program):
        """A named volume that no resource owns, so that neither update nor destroy removes it."""
        (mount,) = program.container("dask_notebook")["mounts"]
        where = ("volume", "dask-notebook", "/home/jovyan")
        assert where == (mount["type"], mount["source"], mount["target"])
        assert "volumeOptions" not in mount
        assert not program.of_type("docker:index/volume:Volume")

    def test_a_password_replaces_the_token(self, run):
        """With a password from the config no token is generated."""
        program = run(notebookPassword="correct horse")
        (secret,) = program.container("dask_notebook")["secrets"]
        assert "notebook_password" == secret["fileName"]
        assert not program.of_type("random:index/randomPassword:RandomPassword")
        assert "notebook_token" not in program.outputs

    @pytest.mark.parametrize("asks", ["true", "false"])
    def test_it_has_its_own_token_whoever_asks_for_a_login(self, run, asks):
        """No setting opens the notebook to whoever reaches it."""
        program = run(
            domain="example.org", autheliaPortal="https://auth.example.org", notebookLogin=asks
        )
        secrets = [secret["fileName"] for secret in program.container("dask_notebook")["secrets"]]
        assert ["notebook_token", "front_key"] == secrets
        assert "notebook_token" in program.secret_outputs


def test_without_caddy_nothing_leaves_the_overlay(run):
    """`caddyMode: none` joins no other network."""
    program = run(caddyMode="none")
    for name in SERVICES:
        networks = program.service(name)["taskSpec"]["networksAdvanceds"]
        assert [OVERLAY] == [each["id"] for each in networks]
