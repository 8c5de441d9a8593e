"""What a manager must be, and the fix where it is not."""

import base64
import json
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
from docker.errors import APIError, NotFound

from config.problems import ConfigError, ProblemError
from config.settings import parse_settings
from swarm import preflight, site
from swarm.client import SshError
from swarm.networks import OWNER_LABEL, Networks
from swarm.preflight import Survey, clock_difference, problems, survey
from swarm.snapshot import DECLARED_HASH_LABEL
from swarm.ssh import SshFailure
from tests.unit.swarm.test_capacity import BOTH, NODES, node, replace_platform, task

HOST = "ssh://deploy@manager"
NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
DIGEST = "sha256:" + "a" * 64
PINNED = {"image": f"r.org/dask:1@{DIGEST}", "notebookImage": f"r.org/n:1@{DIGEST}"}
MANAGER = {"Swarm": {"LocalNodeState": "active", "ControlAvailable": True}}
AMD = {"os": "linux", "architecture": "amd64"}
ARM = {"os": "linux", "architecture": "arm64", "variant": "v8"}
ATTESTATION = {"os": "unknown", "architecture": "unknown"}
NETWORK = {"Name": "caddy-network", "Scope": "swarm", "Driver": "overlay", "Id": "network-id"}


class FakeEngine:
    """The answers of a manager; `image_error` is what its registry raises, if anything.

    `platforms` are those of every image; a list of several is an index's.
    """

    api_version = "1.41"

    def __init__(self, **answers):
        self.answers = {
            "info": MANAGER,
            "nodes": NODES,
            "tasks": [],
            "services": [],
            "networks": [NETWORK],
            "platforms": [AMD],
        } | answers

    def info(self):
        return self.answers["info"]

    def nodes(self):
        if isinstance(self.answers["nodes"], Exception):
            raise self.answers["nodes"]
        return self.answers["nodes"]

    def tasks(self, filters):
        assert {"desired-state": "running"} == filters
        return self.answers["tasks"]

    def services(self):
        return self.answers["services"]

    def configs(self):
        return []

    def networks(self, names=("",)):
        return [n for n in self.answers["networks"] if any(name in n["Name"] for name in names)]

    def inspect_distribution(self, image, auth_config=None):
        assert ":" in image
        error = self.answers.get("image_error")
        if error or (auth_config == {} and "private" in image):
            raise error or refusal(APIError, "unauthorized", 401)
        return {"Descriptor": {"digest": DIGEST}, "Platforms": self.answers["platforms"]}


def refusal(kind, text, status=500):
    """Return the package's exception for an engine's error."""
    return kind(text, response=SimpleNamespace(status_code=status), explanation=text)


@pytest.fixture(autouse=True)
def docker_config(tmp_path, monkeypatch):
    """Return Docker's config file of this test, instead of the logins of the user who runs it."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path / "config.json"


@pytest.fixture
def find(defaults, monkeypatch):
    """Return a function that asks a fake engine and returns the problems."""

    def problems_of(engine, **config):
        @contextmanager
        def connect(*_, **__):
            if isinstance(engine, Exception):
                raise engine
            yield engine

        monkeypatch.setattr(site, "connect", connect)
        settings = parse_settings(defaults | {"dockerHost": HOST} | config, (), {})
        try:
            problems_of.site = site.find(settings)
        except ConfigError as error:
            return list(error.problems)
        return []

    return problems_of


@pytest.fixture
def settings(defaults):
    return parse_settings(defaults, (), {})


def surveyed(**changed):
    """Return the answers of a fit manager with some of them changed."""
    fit = {"host": HOST, "api_version": "1.41", "clock": 0, "nodes": NODES, "tasks": []}
    return Survey(**fit | changed)


def test_the_networks_and_ports_of_other_clusters_are_refused(find):
    """Each cluster needs a network with Caddy, and a managed Caddy the ports of a node."""
    attached = {"Networks": [{"Target": "network-id"}]}
    labels = {"dask.swarm/revision": "1"}
    spec = {"Name": "blue_caddy", "Labels": labels, "TaskTemplate": attached}
    port = {"PublishedPort": 443, "PublishMode": "host", "Protocol": "tcp"}
    service = {"ID": "s1", "Spec": spec, "Endpoint": {"Ports": [port]}}
    engine = FakeEngine(services=[service], tasks=[task("master") | {"ServiceID": "s1"}])
    assert ["caddyNetwork"] == [problem.key for problem in find(engine)]
    assert [] == find(engine, caddyMode="none")
    managed = {"caddyMode": "managed", "domain": "localhost", "auth": "basic"}
    assert ["caddyMode", "caddyNetwork"] == [problem.key for problem in find(engine, **managed)]


def test_a_fit_manager_has_no_problems(find):
    """The site is found without an error."""
    assert [] == find(FakeEngine())


@pytest.mark.parametrize(
    ("swarm", "message", "fix"),
    [
        ({"LocalNodeState": "inactive"}, "its Swarm is inactive", "docker swarm init"),
        ({"LocalNodeState": "locked"}, "its Swarm is locked", "docker swarm unlock"),
        (
            {"LocalNodeState": "error", "Error": "certificate expired"},
            "its Swarm is error: certificate expired",
            "docker info, on that host",
        ),
        (
            {"LocalNodeState": "active", "RemoteManagers": [{"Addr": "10.0.0.1:2377"}]},
            "but a worker node\n      expected: a manager's engine, such as 10.0.0.1's",
            "docker node promote data-1, on a manager",
        ),
    ],
)
def test_an_engine_that_is_not_a_manager_is_refused(find, swarm, message, fix):
    """It has no Swarm, is locked, broken, or a worker: each state has a different fix."""
    (problem,) = find(FakeEngine(info={"Swarm": swarm, "Name": "data-1"}))
    assert f"dockerHost: {HOST!r} is not a Swarm manager" in str(problem)
    assert message in str(problem)
    assert fix == problem.fix


@pytest.mark.parametrize(
    ("error", "message", "fix"),
    [
        (
            "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible…",
            "has no leader",
            "sudo systemctl start docker, on the other managers",
        ),
        ("context deadline exceeded", "has no leader", "on the other managers"),
        ("disk full", "does not answer for its Swarm (disk full)", "docker node ls, on that host"),
    ],
)
def test_a_swarm_without_a_quorum_is_refused(find, error, message, fix):
    """The manager answers, but not for the Swarm."""
    (problem,) = find(FakeEngine(nodes=refusal(APIError, error)))
    assert message in problem.found
    assert problem.fix.endswith(fix)


def test_a_host_that_ssh_cannot_reach_is_refused_with_the_reason(find):
    """The message explains ssh's error, not an aborted connection."""
    failure = SshFailure(reason="its host key is not known here", fix="ssh-keyscan manager")
    (problem,) = find(SshError(failure))
    assert "dockerHost" == problem.key
    assert f"{HOST!r} cannot be reached: its host key is not known here" == problem.found
    assert "ssh-keyscan manager" == problem.fix


@pytest.mark.parametrize(
    ("version", "old"), [("1.39", True), ("1.40", True), ("1.41", False), ("2.0", False)]
)
def test_an_old_engine_is_refused(settings, version, old):
    """The API that the services need came with Docker 20.10."""
    reported = problems(surveyed(api_version=version), settings)
    assert old == any(f"speaks API {version}" in problem.found for problem in reported)
    assert old == any("API 1.41" in problem.expected for problem in reported)


@pytest.mark.parametrize(
    ("version", "old"),
    [("19.03.15", True), ("20.9.9", True), ("20.10.24+dfsg1", False), ("28.1.1", False)],
)
def test_an_old_node_is_named(settings, version, old):
    """Every node runs tasks with its own engine."""
    other = node("data-3")
    other["Description"]["Engine"] = {"EngineVersion": version}
    reported = problems(surveyed(nodes=[*NODES, other]), settings)
    assert old == any(f"the node data-3 runs Docker {version}" == p.found for p in reported)


@pytest.mark.parametrize(
    ("manager_time", "expected"),
    [
        ("2027-01-15T08:00:00.123456789Z", 0),
        ("2027-01-15T09:00:00+01:00", 0),
        ("2027-01-15T08:00:03Z", 0),  # before the answer arrived
        ("2027-01-15T08:02:05Z", 120),
        ("2027-01-15T07:59:00Z", -60),
        ("", 0),
        ("now", 0),
    ],
)
def test_the_clock_difference_ignores_a_slow_answer(manager_time, expected):
    """A slow connection is not a wrong clock, and neither is an answer without a time."""
    assert expected == clock_difference(manager_time, NOW, NOW + 5)


@pytest.mark.parametrize(
    ("clock", "words"), [(31, "31 s ahead of"), (-3600.4, "3600 s behind"), (30, ""), (-30, "")]
)
def test_a_wrong_clock_is_refused(settings, clock, words):
    """From half a minute on, with the direction and a fix."""
    reported = problems(surveyed(clock=clock), settings)
    assert bool(words) == bool(reported)
    if words:
        assert f"the manager's clock is {words} this machine's" == reported[0].found
        assert "sudo timedatectl set-ntp true" in reported[0].fix


def test_the_survey_uses_the_managers_time():
    """It comes with the answer to `GET /info`."""
    past = {**MANAGER, "SystemTime": "2020-01-01T00:00:00Z"}
    assert survey(FakeEngine(info=past), HOST).clock < -preflight.CLOCK_SECONDS


def test_tasks_that_will_be_replaced_do_not_need_room(settings):
    """A second deployment fits where the first runs; other services stay."""
    tasks = [task("data-1", memory=4) | {"ServiceID": "1"}]
    for name, fits in (("dask_worker", True), ("other", False), ("blue_worker", False)):
        known = Networks(services=[{"ID": "1", "Spec": {"Name": name}}])
        assert fits == (problems(surveyed(tasks=tasks, networks=known), settings) == [])


def test_an_engine_without_a_swarm_gets_no_more_questions():
    """Its answers could only repeat the problem."""
    with pytest.raises(ProblemError):
        survey(FakeEngine(info={"Swarm": {}}, nodes=AssertionError()), HOST)


@pytest.fixture
def site_of(defaults, monkeypatch):
    """Return a function that asks a fake engine and returns the site."""

    def found(engine, **config):
        monkeypatch.setattr(site, "connect", lambda *_, **__: nullcontext(engine))
        return site.find(parse_settings(defaults | {"dockerHost": HOST} | config, (), {}))

    return found


class TestImages:
    def test_a_tag_is_pinned_to_its_digest(self, site_of):
        """Swarm would resolve the tag again at every change, on every node."""
        config = {"image": "r.org/dask:1", "notebookImage": f"r.org/n:1@{DIGEST}"}
        config |= {"caddyMode": "managed", "domain": "localhost", "auth": "basic"}
        fit = site_of(FakeEngine(networks=[]), **config, caddyImage="caddy:2.11.9")
        assert f"r.org/dask:1@{DIGEST}" == fit.image
        assert f"r.org/n:1@{DIGEST}" == fit.notebook_image
        assert f"caddy:2.11.9@{DIGEST}" == fit.caddy_image

    UNKNOWN = refusal(NotFound, "manifest unknown: manifest unknown", 404)
    UNNAMED = refusal(NotFound, "name unknown: repository name not known to registry", 404)

    def test_a_missing_tag_is_refused(self, find):
        """The images of scheduler and notebook are reported with their keys."""
        problems = find(FakeEngine(image_error=self.UNKNOWN))
        assert ["image", "notebookImage"] == [problem.key for problem in problems]
        assert "cannot be resolved to a digest (manifest unknown" in problems[0].found

    @pytest.mark.parametrize(
        ("error", "fix"),
        [
            ("manifest unknown", "docker push ghcr.io/"),
            ("dial tcp: lookup ghcr.io on 10.0.0.2:53: no such host", "docker pull ghcr.io/"),
            ("Client.Timeout exceeded while awaiting headers", "docker pull ghcr.io/"),
        ],
    )
    def test_an_image_is_pushed_only_to_a_registry_that_answers(self, find, error, fix):
        """Otherwise the manager itself shows what is in the way."""
        problem, _ = find(FakeEngine(image_error=refusal(APIError, error)))
        assert problem.fix.startswith(fix)
        assert ", or pulumi config set image ghcr.io/" in problem.fix

    @pytest.mark.parametrize("error", [UNKNOWN, UNNAMED])
    def test_a_digest_that_its_registry_does_not_have_is_refused(self, find, error):
        """It would fail on every node."""
        problem, _ = find(FakeEngine(image_error=error), image=f"r.org/dask:1@{DIGEST}")
        assert "image" == problem.key
        assert f"'r.org/dask:1@{DIGEST}' is not in its registry" in problem.found
        assert "pulumi config set image r.org/dask:1" == problem.fix

    def test_a_digest_that_only_the_nodes_can_pull_is_accepted(self, find):
        """The manager may have no route to the registry."""
        engine = FakeEngine(image_error=refusal(APIError, "connection refused"))
        assert [] == find(engine, **PINNED)

    @pytest.mark.parametrize("error", ["unauthorized", "denied"])
    @pytest.mark.parametrize("digest", ["", f"@{DIGEST}"])
    def test_an_image_that_no_node_can_pull_is_refused(self, find, error, digest):
        """Nodes have the login of this machine and no other."""
        engine = FakeEngine(image_error=refusal(APIError, error))
        images = {key: image.partition("@")[0] + digest for key, image in PINNED.items()}
        problems = find(engine, **images)
        assert ["image", "notebookImage"] == [problem.key for problem in problems]
        assert {"docker login r.org"} == {problem.fix for problem in problems}

    def test_a_login_goes_to_private_registries_only(self, site_of, docker_config):
        """A registry that shows its images to everybody gets no password."""
        login = {"auth": base64.b64encode(b"robot:password").decode()}
        docker_config.write_text(json.dumps({"auths": {"r.org": login, "open.org": login}}))
        images = {"image": "r.org/private:1", "notebookImage": "open.org/notebook:1"}
        assert ("r.org",) == site_of(FakeEngine(), **images).logins

    def test_a_broken_login_is_refused(self, find, docker_config):
        """The client reads the same file when it connects."""
        docker_config.write_text('{"auths": {"r.org": "password"}}')
        (problem,) = find(FakeEngine(), image="r.org/private:1")
        assert "the login for r.org cannot be read" in problem.found

    def test_another_platform_is_refused(self, find):
        """An image for amd64 on nodes of arm64, with or without a digest."""
        problems = find(FakeEngine(), platform="linux/arm64", image=f"r.org/dask:1@{DIGEST}")
        assert any("image" == p.key and "linux/amd64" in p.found for p in problems)

    def test_an_index_is_pinned_for_nodes_of_both_architectures(self, site_of):
        """It may have attestations too; each node pulls what its index has for it."""
        mixed = [*NODES[:2], replace_platform(NODES[2], "aarch64")]
        engine = FakeEngine(nodes=mixed, platforms=[AMD, ARM, ATTESTATION], networks=[])
        config = {"caddyMode": "managed", "domain": "localhost", "auth": "basic", "platform": BOTH}
        fit = site_of(engine, image="r.org/dask:1", **config)
        assert f"r.org/dask:1@{DIGEST}" == fit.image
        assert fit.caddy_image.endswith(DIGEST)
        named = ("linux/amd64", "linux/arm64", "unknown/unknown")
        assert [named] * 3 == [
            fit.image_platforms,
            fit.notebook_image_platforms,
            fit.caddy_image_platforms,
        ]

    @pytest.mark.parametrize(
        ("platforms", "made"),
        [
            ([AMD], "linux/amd64"),
            ([AMD, ATTESTATION], "linux/amd64"),
            ([{**ARM, "architecture": "arm"}, AMD], "linux/amd64, linux/arm"),
        ],
    )
    def test_an_image_that_lacks_a_platform_is_refused(self, find, platforms, made):
        """Each image with its key; it would fail on some nodes only."""
        config = {"caddyMode": "managed", "domain": "localhost", "auth": "basic", "platform": BOTH}
        engine = FakeEngine(platforms=platforms, networks=[])
        problems = find(engine, image="r.org/dask:1", **config)
        assert ["image", "notebookImage", "caddyImage"] == [problem.key for problem in problems]
        assert f"'r.org/dask:1' is made for {made}" == problems[0].found
        assert "an image for linux/amd64 and linux/arm64" == problems[0].expected
        choose, build = problems[0].fix.split(", or ")
        assert "pulumi config set platform linux/amd64" == choose
        assert f"docker buildx build --platform {BOTH} --push, for r.org/dask" == build

    @pytest.mark.parametrize("platforms", [None, []])
    def test_an_image_whose_platform_is_unknown_is_no_index(self, find, platforms):
        """Older engines do not know the platform of a single image in OCI's form."""
        engine = FakeEngine(platforms=platforms)
        assert [] == find(engine)
        problem, _ = find(engine, platform=BOTH)
        assert problem.found.endswith("is made for one platform")
        assert problem.fix.startswith("docker buildx build ")

    def test_the_digest_of_one_entry_is_not_that_of_its_index(self, find):
        """Both have the same name."""
        problem, _ = find(FakeEngine(), platform=BOTH, **PINNED)
        assert problem.expected.endswith(", by the digest of its index")

    def test_no_platform_is_suggested_that_the_program_refuses(self, find):
        """The image must be built again."""
        problem, _ = find(FakeEngine(platforms=[{"os": "windows", "architecture": "amd64"}]))
        assert "is made for windows/amd64" in problem.found
        assert problem.fix.startswith("docker buildx build --platform linux/amd64 --push")


def test_a_local_caddy_is_on_a_node_of_the_right_platform(defaults):
    """Names under localhost have no address but those of its nodes."""
    nodes = [
        replace_platform(node(name, "master"), machine) | {"Status": {"State": "ready", "Addr": a}}
        for name, machine, a in (("a", "x86_64", "10.0.0.1"), ("b", "aarch64", "10.0.0.2"))
    ]
    config = {"caddyMode": "managed", "domain": "localhost", "auth": "basic"}
    for platform, addresses in (("linux/amd64", nodes[:1]), (BOTH, nodes)):
        settings = parse_settings(defaults | config | {"platform": platform}, (), {})
        expected = (*(fit["Status"]["Addr"] for fit in addresses), "127.0.0.1")
        assert expected == site.ingress_addresses(nodes, settings)


class TestNetwork:
    def test_a_network_with_a_longer_name_is_another(self, site_of):
        """The engine's filter also matches parts of a name."""
        other = NETWORK | {"Name": "my-caddy-network", "Id": "other-id"}
        assert "network-id" == site_of(FakeEngine(networks=[other, NETWORK])).caddy_network_id

    def test_a_network_of_one_node_is_not_an_overlay(self, find):
        """The name is not enough."""
        (problem,) = find(FakeEngine(networks=[NETWORK | {"Scope": "local", "Driver": "bridge"}]))
        assert "only the manager has a bridge network of that name" in problem.found
        assert "docker network create --driver overlay caddy-network-overlay" in problem.fix

    @pytest.mark.parametrize("kind", ["Ingress", "ConfigOnly"])
    def test_a_network_that_services_cannot_join_is_refused(self, find, kind):
        """The network of the routing mesh, or a template of networks."""
        (problem,) = find(FakeEngine(networks=[NETWORK | {kind: True}]))
        assert "services cannot join the network 'caddy-network'" == problem.found

    def test_a_caddy_in_a_container_needs_an_attachable_network(self, find):
        """A Caddy in a service does not."""
        config = {
            "domain": "example.org",
            "autheliaPortal": "https://auth.example.org",
            "caddyDirectory": "/srv/caddy",
            "caddyService": "edge",
        }
        (problem,) = find(FakeEngine(), **config)
        assert "not attachable, but 'edge' is a container" in problem.found
        fix = "docker network create --driver overlay --attachable caddy-network"
        assert fix == problem.fix
        assert [] == find(FakeEngine(networks=[NETWORK | {"Attachable": True}]), **config)
        service = {"ID": "1", "Spec": {"Name": "edge", "TaskTemplate": {}}}
        running = {"ServiceID": "1", "Status": {"State": "running"}, "DesiredState": "running"}
        assert [] == find(FakeEngine(services=[service], tasks=[running]), **config)


def test_all_problems_are_reported_at_once(find):
    """Five mistakes make five problems in one error."""
    engine = FakeEngine(
        info={**MANAGER, "SystemTime": "2020-01-01T00:00:00Z"},
        nodes=NODES[:2],
        networks=[],
        image_error=refusal(NotFound, "manifest unknown", 404),
    )
    reported = find(engine)
    keys = [problem.key for problem in reported]
    assert ["dockerHost", "workers", "image", "notebookImage", "caddyNetwork"] == keys
    assert "Traceback" not in "".join(map(str, reported))


AWAY = [*NODES[:2], node("data-2", state="down") | {"UpdatedAt": "2026-11-20T03:10:04.5Z"}]
IMAGE = f"ghcr.io/dask/dask:2026.7.1-py3.12@{DIGEST}"


def deployed_workers(**changed):
    """Return the Swarm's service of the workers with the default config."""
    size = {"NanoCPUs": 5 * 10**8, "MemoryBytes": 2**30}
    values = {"replicas": 4, "image": IMAGE, "limit": size, "reservation": size} | changed
    placement = {"Constraints": ["node.labels.role==data-worker"], "MaxReplicas": 2}
    template = {
        "ContainerSpec": {"Image": values["image"]},
        "Placement": placement | changed.get("placement", {}),
        "Resources": {"Limits": values["limit"], "Reservations": values["reservation"]},
    }
    labels = {DECLARED_HASH_LABEL: "hash"}
    spec = {"Name": "dask_worker", "TaskTemplate": template, "Labels": labels}
    return {"ID": "w", "Spec": spec | {"Mode": {"Replicated": {"Replicas": values["replicas"]}}}}


def half_up(service, **answers):
    """Return a Swarm with a node down, and workers on the other node."""
    runs = task("data-1", cpus=0.5, memory=1) | {"ServiceID": "w"}
    return FakeEngine(**{"nodes": AWAY, "services": [service], "tasks": [runs]} | answers)


def test_workers_that_wait_for_a_node_are_no_problem_of_other_changes(find):
    """The deployment warns, with the fix."""
    assert [] == find(half_up(deployed_workers()))
    assert "hash" == find.site.held_hash
    (warning,) = find.site.warnings
    assert warning.startswith("workers: 2 of 4 workers fit now; each reserves 0.5 CPU and 1GiB")
    assert "data-2 is down, active (since 2026-11-20 03:10 UTC)" in warning
    assert warning.endswith("; fix: sudo systemctl start docker, on data-2")


def test_updates_without_room_are_no_problem_of_a_deployment(find):
    """A Swarm that works goes on: the deployment warns. The stack's own tasks take no room."""
    full = [task("master", memory=3.4) | {"ServiceID": "other"}]
    own = {"ID": "s", "Spec": {"Name": "dask_scheduler", "TaskTemplate": {}}}
    assert [] == find(FakeEngine(tasks=full))
    (warning,) = find.site.warnings
    assert warning.startswith("controlPlacement: no room to update dask_scheduler and")
    assert warning.endswith("; fix: docker node ps master")
    ours = task("master", memory=0.25) | {"ServiceID": "s"}
    assert [] == find(FakeEngine(tasks=[*full, ours], services=[own]))
    assert (warning,) == find.site.warnings
    assert [] == find(FakeEngine(tasks=[ours], services=[own]))
    assert () == find.site.warnings


def test_workers_that_wait_for_a_node_take_no_room_from_updates(find):
    """The other workers stay where they are, and the room beside them does not change."""
    service = deployed_workers(placement={"Constraints": ["node.role==worker"]})
    placements = {"controlPlacement": "node.role==worker", "workerPlacement": "node.role==worker"}
    nodes = [node("data-1", cpus=1.4), node("data-2", state="down")]
    assert [] == find(half_up(service, nodes=nodes), **placements)
    assert 1 == len(find.site.warnings)
    nodes[0] = node("data-1", cpus=1.2)
    assert [] == find(half_up(service, nodes=nodes), **placements)
    waiting, stuck = find.site.warnings
    assert waiting.startswith("workers: 2 of 4 workers fit now")
    assert stuck.startswith("controlPlacement: no room to update dask_scheduler")
    assert stuck.endswith("; fix: sudo systemctl start docker, on data-2")


def test_a_service_that_excludes_nodes_of_its_image_is_as_declared(find):
    """The provider sends constraints in an order of its own."""
    rules = ["node.platform.arch==x86_64", "node.labels.role==data-worker"]
    placement = {"Constraints": [*rules, "node.platform.os==linux"]}
    service = deployed_workers(placement=placement)
    assert [] == find(half_up(service, platforms=[AMD, ARM, ATTESTATION]))
    assert "hash" == find.site.held_hash
    assert find(half_up(service))


@pytest.mark.parametrize(
    "changed",
    [
        {"replicas": 2},
        {"image": IMAGE.replace("a", "b")},
        {"limit": {"NanoCPUs": 10**9, "MemoryBytes": 2**30}},
        {"reservation": {"NanoCPUs": 10**8, "MemoryBytes": 2**30}},
        {"placement": {"MaxReplicas": 3}},
        {"placement": {"Constraints": ["node.role==worker"]}},
    ],
)
def test_a_change_of_the_workers_needs_room_for_all(find, changed):
    """Swarm waits for the node in the middle of the update."""
    (problem,) = find(half_up(deployed_workers(**changed)))
    assert "2 of 4 workers fit now" in problem.found
    assert ("workers", "at most 2 of this size") == (problem.key, problem.expected)


def test_another_network_needs_room_for_all_workers(find):
    """It replaces them: a refusal after the removal of the services would be an outage."""
    network = NETWORK | {"Name": "dask-network", "Id": "own", "Labels": {OWNER_LABEL: "x"}}
    service = deployed_workers()
    service["Spec"]["TaskTemplate"]["Networks"] = [{"Target": "own"}]
    engine = half_up(service, networks=[NETWORK, network])
    assert [] == find(engine)
    (problem,) = find(engine, networkMtu="1400")
    assert "2 of 4 workers fit now" in problem.found


@pytest.mark.parametrize("tasks", [[], [task("") | {"ServiceID": "w"}]])
def test_workers_without_any_node_cannot_be_proven(find, tasks):
    """A cluster without workers computes nothing; all of its tasks may wait for a node."""
    (problem,) = find(half_up(deployed_workers(), tasks=tasks))
    assert "workers" == problem.key


def test_workers_that_lack_room_on_the_nodes_that_are_up_stay_a_problem(find):
    """The node that is down would not help."""
    others = task("data-1", memory=3) | {"ServiceID": "other"}
    runs = task("data-1") | {"ServiceID": "w"}
    (problem,) = find(half_up(deployed_workers(), tasks=[others, runs]))
    assert "1 of 4 workers fit now" in problem.found
