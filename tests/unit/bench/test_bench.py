"""The benches can be asked for, with what the tests' environment has."""

import pytest

from bench import __main__ as bench


def test_every_bench_can_be_chosen(capsys):
    """Programs that need what only the images have are not imported here."""
    with pytest.raises(SystemExit, match="0"):
        bench.main(["--help"])
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("deploy", "recovery", "scaling", "work", "worker"))
