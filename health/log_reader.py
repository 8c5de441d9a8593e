"""What the probe says, as it says it: a thread that follows its service's log."""

import json
import queue
import threading
import time
from contextlib import suppress
from typing import Any

from health.probe.messages import MARK
from swarm.manager import MANAGER_ERRORS, Manager

BEGINNING = "starting the probe"
PAUSE_SECONDS = 0.5  # before an interrupted log is followed again


class Listener:
    """Follows the log of one service; what is heard is kept up to date by `wait`.

    `said` is the last progress, `members` are the workers last seen (None before any look), and
    `outcome` is the probe's last message, with `proof` or `failure`.
    """

    def __init__(self, service_id: str) -> None:
        self.said = BEGINNING
        self.members: list[str] | None = None
        self.outcome: dict[str, Any] | None = None
        self._inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._follow, args=[service_id], daemon=True).start()

    def wait(self, seconds: float) -> None:
        """Take in all messages, waiting `seconds` for one if there is none."""
        with suppress(queue.Empty):
            self._take(self._inbox.get(timeout=seconds))
            while True:
                self._take(self._inbox.get_nowait())

    def _take(self, message: dict[str, Any]) -> None:
        if "progress" not in message:
            self.outcome = message
            return
        self.said = message["progress"]
        self.members = message.get("members", self.members)

    def _follow(self, service_id: str) -> None:
        # Ends with the launcher; a message that is heard twice does no harm.
        while True:
            with suppress(*MANAGER_ERRORS):
                for line in Manager().follow(service_id):
                    self._hear(line)
            time.sleep(PAUSE_SECONDS)

    def _hear(self, line: str) -> None:
        if line.startswith(MARK):
            with suppress(ValueError):
                self._inbox.put(json.loads(line.removeprefix(MARK)))
