"""What the rehearsal has made and where: one JSON file for each stack, which holds secrets too."""

import json
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lab.rehearsal.resources import SWARM, Record


class State:
    """What exists, in an order in which everything comes after what it depends on.

    Reached is what this run has seen to, `rest` what it has not; that may depend on both others.
    """

    def __init__(self, path: Path, *, dry: bool = False) -> None:
        self.path, self.dry, self.lock = path, dry, threading.Lock()
        kept = json.loads(path.read_text()) if path.exists() else {}
        self.outputs: dict[str, Any] = kept.get("outputs", {})
        self.reached: dict[str, Record] = {}
        self.replaced: dict[str, Record] = {}
        self.rest = {key: Record(**each) for key, each in kept.get("resources", {}).items()}

    def forget_another_swarm(self, swarm_at: Callable[[str], str]) -> None:
        """Forget everything if the Swarm that it is on is no longer the one at its address."""
        known = [each for each in self.rest.values() if SWARM in each.outputs]
        gone = [each for each in known if each.outputs[SWARM] != swarm_at(each.id)]
        if gone:
            print(f"Another Swarm is at {gone[0].id} now: what was on the old one is forgotten.")
            self.rest, self.outputs = {}, {}
            self.save()

    def refresh(self, by_hand: Callable[[Record], str]) -> None:
        """Take in what somebody else has done to what there is."""
        for key, record in list(self.rest.items()):
            what = by_hand(record)
            if what == "gone":
                del self.rest[key]
            elif what == "changed":  # all that is sure is that it is not what it was
                self.rest[key] = replace(record, inputs={"name": record.inputs["name"]})

    def book(self, key: str, new: Record | None = None, old: Record | None = None) -> None:
        """Put `new`, or nothing, in the place of `key`; keep `old`, which it replaced, aside."""
        with self.lock:
            for group in (self.reached, self.replaced, self.rest):
                group.pop(key, None)
            if new:
                self.reached[key] = new
            if old:
                self.replaced[f"{key}::{old.id}"] = old
            self.save()

    def save(self) -> None:
        """Write the file, readable for this user only; without resources there is none."""
        if self.dry:
            return
        everything = {**self.reached, **self.replaced, **self.rest}
        kept = {key: asdict(each) for key, each in everything.items()}
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self.path.with_suffix(".draft")
        draft.touch(mode=0o600)
        draft.write_text(json.dumps({"resources": kept, "outputs": self.outputs}, indent=2))
        draft.replace(self.path)
        if not kept:
            self.path.unlink()
