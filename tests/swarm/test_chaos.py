"""The quick half of the faults of `make chaos`: the cluster recovers without help."""

import pytest

from bench.chaos import LOST, RIGHT, strike
from bench.faults import FAULTS
from tests.swarm.containers import notebook_container, run_in

QUICK = [fault for fault in FAULTS if fault.quick]


@pytest.fixture(scope="module")
def cluster(deployed):
    """Return a deployed cluster, which is destroyed afterwards."""
    with deployed("rehearsal", prefect="none") as deployment:
        yield deployment


@pytest.mark.parametrize("fault", QUICK, ids=lambda fault: fault.what)
def test_four_workers_compute_after_a_fault(cluster, lab, fault):
    """The result is right, or the error names what was lost; files of the notebook stay."""
    with notebook_container(lab) as notebook:
        run_in(notebook, "touch", "/home/jovyan/kept")
    _, end = strike(lab, fault)
    if fault.loses_client:
        assert LOST == end
    elif fault.loses_scheduler:
        assert "scheduler" in end
    else:
        assert RIGHT == end
    with notebook_container(lab) as notebook:
        run_in(notebook, "rm", "/home/jovyan/kept")
