"""The table of the growth bench has medians, and ratios over the smallest cluster."""

from bench.growth import Seconds, table


def test_rows_are_compared_with_the_first_row():
    """Absolute times mean little on a shared machine."""
    small = [Seconds(up=up, proof=2.0, preview=1.0) for up in (10.0, 12.0, 99.0)]
    large = [Seconds(up=24.0, proof=3.0, preview=1.0)]
    _, first, second = table("Seconds", {"4": small, "16": large}).split("\n")
    assert first.split() == ["4", "12.0", "(1.00)", "2.0", "(1.00)", "1.0", "(1.00)"]
    assert second.split() == ["16", "24.0", "(2.00)", "3.0", "(1.50)", "1.0", "(1.00)"]
