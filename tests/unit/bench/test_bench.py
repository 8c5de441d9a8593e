"""Every bench can be chosen in the tests' environment."""

import pytest

from bench import __main__ as bench


def test_every_bench_can_be_chosen(capsys):
    """Programs that need packages of the images are not imported."""
    with pytest.raises(SystemExit, match="0"):
        bench.main(["--help"])
    printed = capsys.readouterr().out
    assert all(
        name in printed for name in ("deploy", "growth", "recovery", "scaling", "ssh", "work")
    )
