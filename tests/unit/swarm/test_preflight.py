"""What a manager has to be, told from what it says of itself."""

import json
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from docker.errors import APIError, NotFound

from config.problems import ConfigError
from config.settings import parse_settings
from swarm import preflight, site
from swarm.client import SshError
from swarm.preflight import Survey, UnfitManagerError, clock_difference, problems, survey
from swarm.ssh import Cause
from tests.unit.swarm.test_capacity import NODES, node, task

HOST = "ssh://deploy@manager"
NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
DIGEST = "sha256:" + "a" * 64
MANAGER = {"Swarm": {"LocalNodeState": "active", "ControlAvailable": True}}
NETWORK = {"Name": "caddy-network", "Scope": "swarm", "Driver": "overlay", "Id": "network-id"}


class FakeEngine:
    """A manager as far as it is asked; `image_error` is what its registry says, if anything."""

    api_version = "1.41"

    def __init__(self, **answers):
        self.answers = {
            "info": MANAGER,
            "nodes": NODES,
            "tasks": [],
            "services": [],
            "networks": [NETWORK],
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

    def networks(self, names):
        return [each for each in self.answers["networks"] if each["Name"] in names]

    def inspect_distribution(self, image):
        assert ":" in image
        if error := self.answers.get("image_error"):
            raise error
        made_for = [{"os": "linux", "architecture": "amd64"}]
        return {"Descriptor": {"digest": DIGEST}, "Platforms": made_for}


def refusal(kind, text, status=500):
    """Return what the package raises for an engine's error."""
    return kind(text, response=SimpleNamespace(status_code=status), explanation=text)


@pytest.fixture
def told(defaults, monkeypatch):
    """Return a function that looks a fake engine up and returns the lines of the error."""

    def look(engine, **config):
        @contextmanager
        def connect(*_, **__):
            if isinstance(engine, Exception):
                raise engine
            yield engine

        monkeypatch.setattr(site, "connect", connect)
        settings = parse_settings(defaults | {"dockerHost": HOST} | config, (), {})
        try:
            site.look_up(settings)
        except ConfigError as error:
            headline, *lines = str(error).splitlines()
            assert "nothing was touched" in headline
            return lines
        return []

    return look


@pytest.fixture
def settings(defaults):
    return parse_settings(defaults, (), {})


def surveyed(**changed):
    """Return what a fit manager says, with some of it changed."""
    fit = {"host": HOST, "api_version": "1.41", "clock": 0, "nodes": NODES, "tasks": []}
    return Survey(**fit | {"services": {}} | changed)


def test_a_fit_manager_has_no_problems(told):
    """Nothing is said where there is nothing to say."""
    assert [] == told(FakeEngine())


@pytest.mark.parametrize(
    ("swarm", "what", "cure"),
    [
        ({"LocalNodeState": "inactive"}, "its Swarm is inactive", "docker swarm init"),
        ({"LocalNodeState": "locked"}, "its Swarm is locked", "docker swarm unlock"),
        (
            {"LocalNodeState": "error", "Error": "certificate expired"},
            "its Swarm is error: certificate expired",
            "docker info, there",
        ),
        (
            {"LocalNodeState": "active", "RemoteManagers": [{"Addr": "10.0.0.1:2377"}]},
            "but a worker node. Allowed is a manager's engine, such as 10.0.0.1's",
            "docker node promote data-1, on a manager",
        ),
    ],
)
def test_an_engine_that_manages_nothing_is_told_what_it_is(told, swarm, what, cure):
    """Not in a Swarm, locked, broken, or one of its workers: each has a cure of its own."""
    (line,) = told(FakeEngine(info={"Swarm": swarm, "Name": "data-1"}))
    assert f"dockerHost: {HOST!r} is not a Swarm manager" in line
    assert what in line
    assert line.endswith(cure)


@pytest.mark.parametrize(
    ("said", "text", "cure"),
    [
        (
            "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible…",
            "has no leader",
            "sudo systemctl start docker, on the others",
        ),
        ("context deadline exceeded", "has no leader", "on the others"),
        ("disk full", "does not answer for its Swarm (disk full)", "docker node ls, there"),
    ],
)
def test_a_swarm_without_a_quorum_is_told_so(told, said, text, cure):
    """The manager answers, but not for the Swarm."""
    (line,) = told(FakeEngine(nodes=refusal(APIError, said)))
    assert text in line
    assert line.endswith(cure)


def test_a_host_behind_ssh_is_told_why_and_what_helps(told):
    """What ssh said, translated, instead of an aborted connection."""
    cause = Cause(text="its host key is not known here", cure="ssh-keyscan manager")
    (line,) = told(SshError(cause))
    assert f"dockerHost: {HOST!r} cannot be reached: its host key is not known here" in line
    assert line.endswith("ssh-keyscan manager")


@pytest.mark.parametrize(
    ("version", "old"), [("1.39", True), ("1.40", True), ("1.41", False), ("2.0", False)]
)
def test_an_old_engine_is_told_its_version(settings, version, old):
    """The API that the services need came with Docker 20.10."""
    lines = problems(surveyed(api_version=version), settings)
    assert old == any(f"speaks API {version}. Allowed is API 1.41" in line for line in lines)


@pytest.mark.parametrize(
    ("version", "old"), [("19.03.15", True), ("20.10.24+dfsg1", False), ("28.1.1", False)]
)
def test_an_old_node_is_named(settings, version, old):
    """Every node runs tasks by its own engine."""
    other = node("data-3")
    other["Description"]["Engine"] = {"EngineVersion": version}
    lines = problems(surveyed(nodes=[*NODES, other]), settings)
    assert old == any(f"the node data-3 runs Docker {version}" in line for line in lines)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("2027-01-15T08:00:00.123456789Z", 0),
        ("2027-01-15T09:00:00+01:00", 0),
        ("2027-01-15T08:00:03Z", 0),  # by the time the answer was here
        ("2027-01-15T08:02:05Z", 120),
        ("2027-01-15T07:59:00Z", -60),
        ("", 0),
        ("now", 0),
    ],
)
def test_the_clocks_difference_leaves_out_the_way_of_the_answer(said, expected):
    """A slow connection is no wrong clock, and an engine that does not tell has none."""
    assert expected == clock_difference(said, NOW, NOW + 5)


@pytest.mark.parametrize(
    ("clock", "words"), [(31, "31 s ahead of"), (-3600.4, "3600 s behind"), (30, ""), (-30, "")]
)
def test_a_wrong_clock_is_told(settings, clock, words):
    """From half a minute on, in the right direction and with its cure."""
    lines = problems(surveyed(clock=clock), settings)
    assert bool(words) == bool(lines)
    if words:
        assert f"the manager's clock is {words} this machine's" in lines[0]
        assert "sudo timedatectl set-ntp true" in lines[0]


def test_the_survey_takes_the_managers_own_time():
    """The difference is that of the answer to `GET /info`."""
    past = {**MANAGER, "SystemTime": "2020-01-01T00:00:00Z"}
    assert survey(FakeEngine(info=past), HOST).clock < -preflight.CLOCK_SECONDS


def test_tasks_that_will_be_replaced_leave_their_room(settings):
    """A second deployment fits where the first one is; somebody else's service stays."""
    tasks = [task("data-1", memory=4) | {"ServiceID": "1"}]
    assert [] == problems(surveyed(tasks=tasks, services={"1": "dask_worker"}), settings)
    assert problems(surveyed(tasks=tasks, services={"1": "other"}), settings)


def test_an_engine_without_a_swarm_is_not_asked_for_more():
    """What follows could only repeat it."""
    with pytest.raises(UnfitManagerError):
        survey(FakeEngine(info={"Swarm": {}}, nodes=AssertionError()), HOST)


class TestImages:
    UNKNOWN = refusal(NotFound, "manifest unknown: manifest unknown", 404)

    def test_a_tag_that_is_not_there_is_told(self, told):
        """Scheduler's and notebook's image, each by its key."""
        lines = told(FakeEngine(image_error=self.UNKNOWN))
        assert ["image", "notebookImage"] == [line.split()[1].rstrip(":") for line in lines]
        assert "cannot be resolved to a digest (manifest unknown" in lines[0]

    def test_a_digest_that_its_registry_does_not_have_is_told(self, told):
        """It would fail on every node."""
        line, _ = told(FakeEngine(image_error=self.UNKNOWN), image=f"r.org/dask:1@{DIGEST}")
        assert f"image: 'r.org/dask:1@{DIGEST}' is not in its registry" in line
        assert line.endswith("pulumi config set image r.org/dask:1")

    @pytest.mark.parametrize("said", ["connection refused", "unauthorized", "denied"])
    def test_a_digest_that_only_the_nodes_can_get_is_taken(self, told, said):
        """The manager may be without a way to the registry, or a login."""
        engine = FakeEngine(image_error=refusal(APIError, said))
        pinned = {"image": f"r.org/dask:1@{DIGEST}", "notebookImage": f"r.org/n:1@{DIGEST}"}
        assert [] == told(engine, **pinned)

    def test_another_platform_is_told(self, told):
        """An image for amd64 on nodes of arm64, with or without a digest."""
        lines = told(FakeEngine(), platform="linux/arm64", image=f"r.org/dask:1@{DIGEST}")
        assert any(line.startswith("  - image: ") and "linux/amd64" in line for line in lines)


class TestNetwork:
    def test_a_network_of_one_node_is_no_overlay(self, told):
        """The name alone does not do."""
        (line,) = told(FakeEngine(networks=[NETWORK | {"Scope": "local", "Driver": "bridge"}]))
        assert "only the manager a bridge network of that name" in line
        assert "docker network create --driver overlay caddy-network-overlay" in line

    @pytest.mark.parametrize("kind", ["Ingress", "ConfigOnly"])
    def test_a_network_that_services_cannot_join_is_refused(self, told, kind):
        """The routing mesh's own, or a template of networks."""
        (line,) = told(FakeEngine(networks=[NETWORK | {kind: True}]))
        assert "'caddy-network' is no network that a service can join" in line

    def test_a_caddy_in_a_container_needs_an_attachable_one(self, told):
        """As a service it does not."""
        config = {
            "domain": "example.org",
            "autheliaPortal": "https://auth.example.org",
            "caddyDirectory": "/srv/caddy",
            "caddyService": "edge",
        }
        (line,) = told(FakeEngine(), **config)
        assert "not attachable, and 'edge' is a container" in line
        assert line.endswith("docker network create --driver overlay --attachable caddy-network")
        assert [] == told(FakeEngine(networks=[NETWORK | {"Attachable": True}]), **config)
        service = {"ID": "1", "Spec": {"Name": "edge"}}
        assert [] == told(FakeEngine(services=[service]), **config)


def test_everything_is_told_at_once(told):
    """Who has made five mistakes learns of all five."""
    engine = FakeEngine(
        info={**MANAGER, "SystemTime": "2020-01-01T00:00:00Z"},
        nodes=NODES[:2],
        networks=[],
        image_error=refusal(NotFound, "manifest unknown", 404),
    )
    lines = told(engine)
    keys = [line.split()[1] for line in lines]
    assert ["dockerHost:", "workers:", "image:", "notebookImage:", "caddyNetwork:"] == keys
    assert "Traceback" not in json.dumps(lines)
