"""The manager's API: exact names, services that go meanwhile, and refusals."""

from types import SimpleNamespace

import pytest
from docker.errors import APIError, NotFound
from requests.exceptions import HTTPError

from swarm import manager as manager_module
from swarm.manager import Manager


def refusal(text, kind=APIError, status=500):
    response = SimpleNamespace(status_code=status, url="/", reason="error")
    return kind(text, response=response, explanation=text)


def named(name, number=1):
    return {"ID": f"{name}-id", "Spec": {"Name": name}, "Version": {"Index": number}}


class FakeApi:
    """The engine's API with services; like Docker's, its filter of names matches prefixes."""

    base_url, api_version = "http+docker://localhost", "1.41"

    def __init__(self, *names):
        self.known = {name: named(name) for name in names}
        self.asked, self.scaled, self.posted, self.errors = [], [], [], []

    def services(self, filters):
        prefixes = filters.get("name", [""])
        return [s for name, s in self.known.items() if name.startswith(tuple(prefixes))]

    def tasks(self, filters=None):
        self.asked.append(filters)
        if self.errors:
            raise self.errors.pop(0)
        wanted = (filters or {}).get("service") or [s["ID"] for s in self.known.values()]
        return [{"ID": f"task of {service}", "ServiceID": service} for service in wanted]

    def inspect_service(self, name):
        if name not in self.known:
            raise refusal("not found", NotFound, 404)
        return self.known[name]

    def update_service(self, service, version, *, mode, fetch_current_spec):
        if self.errors:
            raise self.errors.pop(0)
        self.scaled.append((service, version, mode["replicated"]["Replicas"]))

    def remove_service(self, name):
        self.inspect_service(name)
        del self.known[name]

    def post(self, url, *, params, json, timeout):
        self.posted.append((url, params, json))
        return self

    def raise_for_status(self):
        if self.errors:
            raise self.errors.pop(0)


@pytest.fixture
def swarm(monkeypatch):
    """Return a function that makes a manager of services, and its API."""

    def make(*names):
        api = FakeApi(*names)
        monkeypatch.setattr(manager_module, "connect", lambda *_, **__: api)
        return Manager(), api

    return make


def test_only_services_with_exactly_these_names_are_judged(swarm):
    """Somebody else may run a `dask_worker_2`."""
    manager, _ = swarm("dask_worker", "dask_worker_2", "dask_workers")
    now = manager.snapshot(["dask_worker"])
    assert ["dask_worker"] == list(now.services)
    assert ["task of dask_worker-id"] == [task["ID"] for task in now.tasks]


def test_without_services_no_tasks_are_judged(swarm):
    """An empty filter would match the tasks of all services."""
    manager, api = swarm("other")
    now = manager.snapshot(["dask_worker"])
    assert ({}, ()) == (now.services, now.tasks)
    assert [] == api.asked


def test_a_service_that_goes_meanwhile_is_left_out(swarm):
    """The others are still judged."""
    manager, api = swarm("dask_worker", "dask_scheduler")
    api.errors = [refusal("service dask_worker-id not found", NotFound, 404)] * 2
    now = manager.snapshot(["dask_worker", "dask_scheduler"])
    assert ["dask_scheduler"] == list(now.services)


def test_a_refused_rollback_is_an_error(swarm):
    """The service has changed meanwhile, or the manager has lost its quorum."""
    manager, api = swarm("dask_worker")
    manager.roll_back(named("dask_worker", 7))
    ((url, params, spec),) = api.posted
    assert url.endswith("/v1.41/services/dask_worker-id/update")
    assert {"version": 7, "rollback": "previous"} == params
    assert {"Name": "dask_worker"} == spec
    message = {"json": lambda: {"message": "update out of sequence"}}
    response = SimpleNamespace(status_code=500, url="/", reason="error", **message)
    for ask in (manager.roll_back, manager.resend):
        api.errors = [HTTPError("500", response=response)]
        with pytest.raises(APIError):
            ask(named("dask_worker"))


def test_a_paused_update_is_resumed_with_its_own_spec(swarm):
    """Not with the previous spec."""
    manager, api = swarm("dask_worker")
    manager.resend(named("dask_worker", 7))
    assert {"version": 7} == api.posted[0][1]


def test_a_service_that_changes_meanwhile_is_scaled_all_the_same(swarm):
    """The end of an update makes another version; a destroy must not fail for it."""
    manager, api = swarm("dask_worker")
    api.errors = [refusal("update out of sequence")] * 2
    assert manager.scale("dask_worker", 0)
    assert [("dask_worker-id", 1, 0)] == api.scaled
    api.errors = [refusal("update out of sequence")] * 3
    with pytest.raises(APIError, match="out of sequence"):
        manager.scale("dask_worker", 0)
    api.errors = [refusal("rpc error")]
    with pytest.raises(APIError, match="rpc error"):
        manager.scale("dask_worker", 0)


def test_what_is_already_gone_is_no_error(swarm):
    """Somebody else may have removed it."""
    manager, _ = swarm("dask_worker")
    assert not manager.scale("absent", 0)
    assert manager.remove("dask_worker")
    assert not manager.remove("dask_worker")


def test_a_line_that_arrives_in_parts_is_one_line(swarm):
    """A proof is longer than a chunk of the log."""
    manager, api = swarm()
    api.service_logs = lambda *_, **__: iter([b"one\ntw", b"o\n", b"three"])
    assert ["one", "two", "three"] == list(manager.printed("id"))
