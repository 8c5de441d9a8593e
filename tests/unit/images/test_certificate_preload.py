"""A real scheduler and a real worker show in /metrics for how many days they are admitted."""

import re
import urllib.request

import dask
import distributed

from tests.certificates import Authority
from tests.conftest import ROOT, run_async

PRELOAD = str(ROOT / "images" / "certificate_preload.py")


async def metrics(scheme):
    """Return the metrics of a scheduler."""
    made = distributed.Scheduler(
        host=f"{scheme}://127.0.0.1", port=0, dashboard_address="127.0.0.1:0", preload=[PRELOAD]
    )
    async with made:
        port = made.http_server.port
        address = f"http://127.0.0.1:{port}/metrics"
        return await distributed.utils.offload(lambda: urllib.request.urlopen(address).read())


def test_days_are_in_the_metrics(tmp_path):
    """They are the days of the certificate that clients see; without TLS there are none."""
    assert b"dask_certificate_days" not in run_async(metrics("tcp"))
    authority = Authority("ours")
    file = authority.issue(tmp_path / "own.pem", hours=100)
    comm = {
        "distributed.comm.require-encryption": True,
        "distributed.comm.tls.ca-file": authority.pem,
    }
    for part in ("cert", "key"):
        comm[f"distributed.comm.tls.scheduler.{part}"] = file
    with dask.config.set(comm):
        text = run_async(metrics("tls")).decode()
    (days,) = re.findall(r"^dask_certificate_days (.+)$", text, re.MULTILINE)
    assert 4.1 < float(days) < 4.17
