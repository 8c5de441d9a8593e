"""What was found on a stack's Swarm, in a file beside the program for previews without the Swarm.

Owns the form of `recorded.<stack>.json` and, for each field of `Site`, what was asked: an answer
counts only for the same question, so that a changed tag is not given the old one's digest. The
file is for reading and for version control: sorted, without secrets.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from config.problems import ConfigError, complaint
from config.settings import Settings, key_of
from config.types import ImageReference
from swarm.site import LOOPBACK, Site

Record = Mapping[str, Mapping[str, Any]]
NOT_RECORDED = "not-recorded"


@dataclass(frozen=True, kw_only=True)
class Fact:
    """How a field of `Site` is asked for, and what holds where it is not asked or not recorded.

    `asked` is all of the settings that the answer depends on, empty when nothing is looked up.
    """

    asked: Callable[[Settings], str]
    otherwise: Callable[[Settings], Any]


@dataclass(frozen=True, kw_only=True)
class Used:
    """A value that a preview took without asking; `cure` is empty when it is the true one."""

    key: str
    value: str
    source: str
    cure: str = ""


def _image(named: Callable[[Settings], ImageReference | None]) -> Fact:
    def asked(settings: Settings) -> str:
        image, made_for = named(settings), settings.platform
        if image is None or image.digest:
            return ""
        return f"{image} for {made_for.os}/{made_for.architecture}"

    return Fact(asked=asked, otherwise=lambda s: str(image) if (image := named(s)) else None)


FACTS: dict[str, Fact] = {
    "image": _image(lambda s: s.image),
    "notebook_image": _image(lambda s: s.notebook_image),
    "caddy_image": _image(lambda s: s.caddy_image if s.caddy_mode == "managed" else None),
    "caddy_network_id": Fact(
        asked=lambda s: s.caddy_network if s.caddy_mode == "external" else "",
        otherwise=lambda s: NOT_RECORDED if s.caddy_mode == "external" else None,
    ),
    # What was changed by hand can be repaired only where it can be seen.
    "touched": Fact(asked=lambda _: "", otherwise=lambda _: ""),
    "front_addresses": Fact(
        asked=lambda s: ",".join(s.control_placement) if s.is_local else "",
        otherwise=lambda s: (LOOPBACK,) if s.is_local else (),
    ),
}


def record_of(settings: Settings, site: Site) -> dict[str, dict[str, Any]]:
    """Return what the file says of `site`: for each key what was asked and what was found."""
    asked = {each.name: FACTS[each.name].asked(settings) for each in fields(site)}
    return {
        key_of(name): {"asked": question, "found": getattr(site, name)}
        for name, question in sorted(asked.items())
        if question
    }


def site_from(settings: Settings, record: Record, name: str) -> tuple[Site, list[Used]]:
    """Return the site as far as settings and the record called `name` tell, and what was used."""
    chosen = {fact: _choose(fact, settings, record, name) for fact in FACTS}
    site = Site(**{fact: value for fact, (value, _) in chosen.items()})
    return site, [used for _, used in chosen.values() if used]


def _choose(fact: str, settings: Settings, record: Record, name: str) -> tuple[Any, Used | None]:
    key, question = key_of(fact), FACTS[fact].asked(settings)
    otherwise = FACTS[fact].otherwise(settings)
    if not question:
        configured = Used(key=key, value=str(otherwise), source="configured")
        return otherwise, configured if otherwise else None
    answer = record.get(key, {})
    if answer.get("asked") == question:
        found = answer["found"]
        value = tuple(found) if isinstance(found, list) else found
        return value, Used(key=key, value=_spelled(value), source=f"recorded in {name}")
    source = f"not in {name}, which has {answer['asked']!r}" if answer else f"not in {name}"
    cure = f"make record STACK={name.split('.', 1)[1].removesuffix('.json')}"
    return otherwise, Used(key=key, value=_spelled(otherwise), source=source, cure=cure)


def _spelled(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def file_of(project: Path, stack: str) -> Path:
    """Return where the record of a stack is."""
    return project / f"recorded.{stack}.json"


def read(path: Path) -> Record:
    """Return the record in `path`, empty without one; raises `ConfigError` when it is broken."""
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if all({"asked", "found"} == set(answer) for answer in found.values()):
            return dict(found)
    except (ValueError, AttributeError, TypeError):
        pass
    allowed = "what `make record` writes"
    problem = complaint(path.name, "it is not a record", allowed, f"rm {path.name}; make record")
    raise ConfigError("What was recorded cannot be read", [problem])


def write(path: Path, record: Record) -> None:
    """Put `record` into `path`, the same for the same answers."""
    path.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def outdated(record: Record, now: Record) -> list[str]:
    """Return the keys that a record has otherwise than they are now; none without a record."""
    if not record:
        return []
    plain = json.loads(json.dumps(now))
    return sorted(key for key in record.keys() | plain if record.get(key) != plain.get(key))
