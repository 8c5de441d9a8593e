"""The dev stack: the lab before `up`, the rehearsal where no Pulumi CLI can be had."""

import os
from subprocess import CompletedProcess

import pytest

from lab import dev
from lab.runners import RehearsalRunner
from tools.runners import CliMissingError


class FakeRunner:
    """Records its actions."""

    def __init__(self, steps):
        self.steps = steps

    def create(self):
        pass

    def run(self, action, *_):
        self.steps.append(action)
        return CompletedProcess([], 3)


@pytest.fixture
def steps(monkeypatch):
    """Return the actions in order."""
    steps = []

    def lab(arguments):
        steps.append(f"lab {arguments[0]}")
        return 0

    monkeypatch.setattr(dev, "lab", lab)
    monkeypatch.setattr(dev, "runner_for", lambda _: FakeRunner(steps))
    return steps


@pytest.fixture
def no_cli(monkeypatch):
    """Have no Pulumi CLI, and none to be installed."""

    def refuse(_):
        raise CliMissingError("The Pulumi CLI is not on PATH")

    monkeypatch.setattr(dev, "runner_for", refuse)


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("up", ["lab ready", "up"]),
        ("preview", ["preview"]),
        ("destroy", ["destroy"]),
        ("record", ["preview"]),
        ("drift", ["preview"]),
    ],
)
def test_only_a_deployment_prepares_the_machine(steps, monkeypatch, action, expected):
    """The other actions need nothing that is missing."""
    monkeypatch.setattr(os, "environ", {})
    assert 3 == dev.main([action])
    assert expected == steps


def test_a_machine_that_is_not_ready_ends_the_deployment(steps, monkeypatch):
    """The lab has printed the reason."""
    monkeypatch.setattr(dev, "lab", lambda _: 2)
    assert 2 == dev.main(["up"])
    assert [] == steps


@pytest.mark.usefixtures("no_cli")
def test_without_the_cli_the_rehearsal_runs(capsys):
    """The message has the reason."""
    assert RehearsalRunner(stack="dev") == dev.dev_runner()
    message = capsys.readouterr().err
    assert "The Pulumi CLI is not on PATH" in message
    assert "Using the rehearsal instead" in message


@pytest.mark.usefixtures("no_cli")
def test_the_rehearsal_refuses_to_detect_drift(capsys):
    """It sees less than the engine, so it reports that instead of no drift."""
    assert 2 == dev.main(["drift"])
    assert "Fix: install the Pulumi CLI" in capsys.readouterr().err
