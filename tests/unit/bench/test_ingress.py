"""The table of the ingress bench has milliseconds and ratios over the direct way."""

from bench.ingress import compared, percentile_95


def test_the_first_way_is_what_the_others_are_compared_with():
    """Absolute times mean little on a shared machine."""
    direct = [0.010] * 190 + [0.020] * 10
    head, first, second = compared(
        "Ms", {"direct": direct, "caddy": [2 * s for s in direct]}
    ).split("\n")
    assert head.split() == ["Ms", "p50", "p95", "ratio", "ratio"]
    assert first.split() == ["direct", "10.0", "19.5", "1.00", "1.00"]
    assert second.split() == ["caddy", "20.0", "39.0", "2.00", "2.00"]


def test_five_of_a_hundred_are_later_than_the_95th():
    """Of 1 to 199 ms the tenth from the end."""
    assert 190 == round(percentile_95([float(n) for n in range(1, 200)]))
