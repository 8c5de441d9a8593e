"""The probe's messages: a thread follows the log of its service."""

import json
import queue
import threading
import time
from contextlib import suppress
from typing import Any

from health.probe.messages import MARK
from health.timing import TIMING
from swarm.manager import MANAGER_ERRORS, Manager


class LogReader:
    """The probe's last messages; `wait` updates them.

    `progress` is the last step, `members` are the workers last seen (None before that), and
    `outcome` is the last message, with `proof` or `failure`.
    """

    def __init__(self) -> None:
        self.progress = "starting the probe"
        self.members: list[str] | None = None
        self.outcome: dict[str, Any] | None = None
        # No SimpleQueue: a signal at the end of its time limit makes `get` wait for ever.
        self._inbox: queue.Queue[dict[str, Any]] = queue.Queue()

    def follow(self, service_id: str) -> None:
        """Follow the log of a service until the launcher ends."""
        threading.Thread(target=self._read, args=[service_id], daemon=True).start()

    def wait(self, seconds: float) -> None:
        """Take all messages, waiting up to `seconds` for the first one."""
        with suppress(queue.Empty):
            self._take(self._inbox.get(timeout=seconds))
            while True:
                self._take(self._inbox.get_nowait())

    def _take(self, message: dict[str, Any]) -> None:
        if "progress" not in message:
            self.outcome = message
            return
        self.progress = message["progress"]
        self.members = message.get("members", self.members)

    def _read(self, service_id: str) -> None:
        # After an interruption the log starts again; reading a message twice does no harm.
        while True:
            with suppress(*MANAGER_ERRORS):
                for line in Manager().follow(service_id):
                    self._receive(line)
            time.sleep(TIMING.follow_pause)

    def _receive(self, line: str) -> None:
        if line.startswith(MARK):
            with suppress(ValueError):
                self._inbox.put(json.loads(line.removeprefix(MARK)))
