"""The launcher's times: its constants in seconds, and deadlines."""

import time
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How long the launcher waits for what, in seconds."""

    appear: float = 45  # for a declared service to be created or updated
    lead: float = 3  # an update may reach the Swarm this long before its proof starts
    crowded: float = 3  # Swarm has this long to end surplus tasks of a service by itself
    unplaced: float = 20  # a task may wait for a node this long before the nodes are examined
    examine_pause: float = 5
    # An election of another manager takes 10 s to 20 s after the last message of the old one
    # (https://github.com/moby/swarmkit, manager/state/raft), and a request that arrives meanwhile
    # may take as long as any answer may.
    silence: float = 45
    margin: float = 5  # the probe gives up this long before the launcher, so that it can report
    last_line: float = 4  # from the end of the probe's last task to the arrival of its last line
    logs: float = 6  # for the logs in a report; a node that is down does not answer
    follow_pause: float = 0.5
    linger: float = 30  # a launcher reads the last lines of its finished service within this time
    rollback_share: float = 0.25  # of the deadline, kept for a rollback
    rollback_limit: float = 60
    reaper_grace: float = 60  # beyond the launcher's deadline; then the launcher counts as dead
    reaper_pause: float = 0.5


TIMING = Timing()


@dataclass(frozen=True)
class Deadline:
    """The `end` of a wait, by the monotonic clock; `limit` is its whole length in seconds."""

    limit: float
    end: float

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """Return the deadline in `seconds` from now."""
        return cls(seconds, time.monotonic() + seconds)

    def sub(self, seconds: float) -> "Deadline":
        """Return the deadline in `seconds` from now, or this one if it is earlier."""
        return min(self, Deadline.after(seconds), key=lambda deadline: deadline.end)

    def earlier(self, seconds: float) -> "Deadline":
        """Return the deadline that comes `seconds` before this one."""
        return Deadline(self.limit - seconds, self.end - seconds)

    def remaining(self) -> float:
        """Return the seconds until the deadline, negative after it."""
        return self.end - time.monotonic()

    @property
    def passed(self) -> bool:
        """Whether the deadline is over."""
        return self.remaining() <= 0
