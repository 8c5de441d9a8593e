"""Deadlines: their remaining time, and shorter deadlines within them."""

from health.timing import Deadline


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
