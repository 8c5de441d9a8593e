"""What a pull request is shown of a difference: all of it, and no secret."""

import base64

from preview.difference import difference
from preview.registered import Resource

CONFIG = "docker:index/serviceConfig:ServiceConfig"


def resource(name="workers", token="docker:index/service:Service", secret=(), **inputs):
    """Return a resource."""
    return Resource(type=token, name=name, inputs=inputs, secret=frozenset(secret))


def test_equal_registrations_have_no_difference():
    """However they are ordered."""
    both = [resource("a", x=1), resource("b", x=[1, {"y": 2}])]
    assert [] == difference(both, both[::-1])


def test_what_comes_and_goes_is_named():
    """A resource that is renamed is both."""
    assert ["+ Service new", "- Service old"] == difference([resource("old")], [resource("new")])


def test_a_change_is_shown_by_its_path():
    """Old and new value stand below each other, lists by their number."""
    before = resource(mode={"replicated": {"replicas": 4}}, args=["a", "b"])
    after = resource(mode={"replicated": {"replicas": 6}}, args=["a", "b", "c"])
    assert [
        "! Service workers",
        '+     args.2: "c"',
        "-     mode.replicated.replicas: 4",
        "+     mode.replicated.replicas: 6",
    ] == difference([before], [after])


def test_what_an_argument_moves_is_no_change():
    """One that is put in before others would else show all of them as others."""
    before, after = (
        resource(args=["dask", *some, "--port", "1"]) for some in (["-q"], ["-v", "2"])
    )
    assert [
        "! Service workers",
        '-     args.1: "-q"',
        '+     args.1: "-v"',
        '+     args.2: "2"',
    ] == difference([before], [after])
    gone = ["! Service workers", '-     args.0: "-q"']
    assert gone == difference([resource(args=["-q"])], [resource()])


def test_a_config_is_shown_as_its_text():
    """Nobody reads base64; unchanged lines are left out."""
    before, after = (
        resource("file", CONFIG, data=base64.b64encode(text).decode())
        for text in (b"one\ntwo\n", b"one\nthree\n")
    )
    assert ["! ServiceConfig file", "-     | two", "+     | three"] == difference(
        [before], [after]
    )


def test_a_config_that_ends_otherwise_is_shown():
    """It is another config, and the services that mount it are made anew."""
    before, after = (
        resource("file", CONFIG, data=base64.b64encode(text).decode()) for text in (b"a", b"a\n")
    )
    assert "! ServiceConfig file" == difference([before], [after])[0]


def test_a_secret_is_never_shown():
    """Neither its old nor its new value."""
    before, after = (resource(secret={"data"}, data=text, x=text) for text in ("old", "new"))
    lines = difference([before], [after])
    assert ["! Service workers", '-     x: "old"', '+     x: "new"'] == lines
    appeared = difference([resource()], [resource(secret={"data"}, data="hush")])
    assert ["! Service workers", '+     data: "[secret]"'] == appeared


def test_a_request_is_shown_by_its_parts():
    """What the probe is asked is JSON, and compared as such."""
    token = "command:local:Command"
    before, after = (resource("run", token, stdin=f'{{"workers": {n}, "x": 1}}') for n in (4, 6))
    expected = ["! Command run", "-     stdin.workers: 4", "+     stdin.workers: 6"]
    assert expected == difference([before], [after])


def test_a_line_stays_one_line():
    """A value with line breaks cannot pretend to be another change."""
    lines = difference([resource(x="a")], [resource(x="a\n- Service other")])
    assert '+     x: "a\\n- Service other"' == lines[-1]
