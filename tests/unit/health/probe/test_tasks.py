"""A function on one worker of a real cluster."""

import time

from distributed import get_worker

from health.probe.busy import wait
from health.probe.members import workers_of
from health.probe.tasks import RESULT_SECONDS, submit


def where():
    return get_worker().address


def test_a_function_runs_on_its_worker(client):
    """Each worker answers for itself, also when it has just run the same function."""
    for worker in [*workers_of(client)] * 2:
        assert worker == submit(client, worker, where).result(RESULT_SECONDS)


def test_no_other_worker_answers_for_one_that_is_gone(client):
    """The proof would count a dead worker."""
    gone = submit(client, "tcp://127.0.0.1:1", where)
    workers = [*workers_of(client)]
    wait(client, workers, [submit(client, worker, where) for worker in workers], RESULT_SECONDS)
    time.sleep(0.1)
    assert "pending" == gone.status
    gone.cancel()
