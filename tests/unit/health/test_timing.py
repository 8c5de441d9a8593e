"""Deadlines: their remaining time, and shorter deadlines within them."""

from health.timing import TIMING, Deadline
from swarm.manager import ANSWER_SECONDS


def test_a_deadline_passes():
    """A negative limit has always passed."""
    assert 59 < Deadline.after(60).remaining() <= 60
    assert not Deadline.after(60).passed
    assert Deadline.after(-1).passed


def test_a_sub_deadline_is_never_later():
    """Its limit is for messages, so it is the shorter one."""
    deadline = Deadline.after(60)
    assert 5 == deadline.sub(5).limit
    assert deadline == deadline.sub(90)


def test_an_earlier_deadline_has_less_time():
    """Its limit is exact, for messages."""
    deadline = Deadline.after(60).earlier(15)
    assert 45 == deadline.limit
    assert 44 < deadline.remaining() <= 45


def test_an_election_of_a_manager_fails_no_proof():
    """It takes up to 20 s, and a request that arrives meanwhile as long as any."""
    assert TIMING.silence >= 20 + ANSWER_SECONDS


def test_the_reaper_waits_for_a_launcher_that_rolls_back():
    """The rollback is within the deadline; a request may still be under way after it."""
    assert TIMING.reaper_grace >= TIMING.linger + ANSWER_SECONDS


def test_the_probe_gives_up_before_the_launcher():
    """Its report must arrive in time."""
    assert TIMING.margin > TIMING.last_line > 0
