"""What the rehearsal has made: one JSON file for each stack of a lab, with secrets as they are."""

import json
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lab.layout import chosen_lab
from lab.rehearsal.program import Resource


def state_file(stack: str) -> Path:
    """The file of a stack, below the folder of `Pulumi.yaml`."""
    return Path(".pulumi", "rehearsal", chosen_lab().name, f"{stack}.json")


class State:
    """The resources of a stack by key, and its outputs; a preview writes nothing."""

    def __init__(self, path: Path, *, preview: bool = False) -> None:
        self.path, self.preview, self._lock = path, preview, threading.Lock()
        kept = json.loads(path.read_text()) if path.exists() else {}
        self.outputs: dict[str, Any] = kept.get("outputs", {})
        resources = kept.get("resources", {})
        self.resources = {key: Resource(**resource) for key, resource in resources.items()}

    def shown(self, *, secrets: bool) -> dict[str, Any]:
        """Return the outputs; secrets are masked unless asked for."""
        return {
            name: "[secret]" if output["secret"] and not secrets else output["value"]
            for name, output in self.outputs.items()
        }

    def put(self, key: str, resource: Resource | None) -> None:
        """Keep a resource, or forget it."""
        with self._lock:
            self.resources.pop(key, None)
            if resource:
                self.resources[key] = resource
            self.save()

    def save(self) -> None:
        """Write the file, readable for this user only; without resources there is none."""
        if self.preview:
            return
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self.path.with_suffix(".draft")
        draft.touch(mode=0o600)
        resources = {key: asdict(resource) for key, resource in self.resources.items()}
        kept = {"resources": resources, "outputs": self.outputs}
        draft.write_text(json.dumps(kept, indent=2, default=list))
        draft.replace(self.path)
        if not resources:
            self.path.unlink()
