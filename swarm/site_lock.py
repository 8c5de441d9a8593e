"""The record of a stack's Swarm, in a file beside the program, for offline previews.

Owns the format of `recorded.<stack>.json` and, for each field of `Site` that is recorded, the
question that it answers. An answer counts only for the same question, so a new tag does not get
the old digest. The file is for people and for version control: sorted, without secrets.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.names import network_name
from config.problems import ConfigError, Problem
from config.settings import Settings
from config.types import ImageReference
from swarm.site import LOOPBACK, Site

Record = Mapping[str, Mapping[str, Any]]
NOT_RECORDED = "not-recorded"


@dataclass(frozen=True, kw_only=True)
class Fact:
    """The question that a field of `Site` answers, and the field's value without an answer.

    `question` holds all settings that the answer depends on; empty when nothing is looked up.
    """

    question: Callable[[Settings], str]
    default: Callable[[Settings], Any]


@dataclass(frozen=True, kw_only=True)
class UsedValue:
    """A value that an offline preview uses; `fix` is empty when the value is right."""

    key: str
    value: str
    source: str
    fix: str = ""

    def __str__(self) -> str:
        """Return what the preview prints about it."""
        text = f"{self.key}: {self.value}, {self.source}"
        return f"{text}; fix: {self.fix}" if self.fix else text


def _image(configured: Callable[[Settings], ImageReference | None]) -> Fact:
    def question(settings: Settings) -> str:
        image, platforms = configured(settings), settings.cluster.platforms
        if image is None or image.digest:
            return ""
        return f"{image} for {','.join(platforms)}"

    return Fact(
        question=question, default=lambda s: str(image) if (image := configured(s)) else None
    )


def _platforms(configured: Callable[[Settings], ImageReference | None]) -> Fact:
    return Fact(
        question=lambda s: str(image) if (image := configured(s)) else "",
        default=lambda s: s.cluster.platforms if configured(s) else (),
    )


def _caddy_image(settings: Settings) -> ImageReference | None:
    return settings.caddy.image if settings.caddy.mode == "managed" else None


def _is_local(settings: Settings) -> bool:
    return settings.ingress is not None and settings.ingress.is_local


# Other fields keep their defaults: offline, drift, the existing network and what runs cannot be
# seen, and nothing is pulled, so the machine needs no login.
FACTS: dict[str, Fact] = {
    "image": _image(lambda s: s.cluster.image),
    "notebook_image": _image(lambda s: s.cluster.notebook_image),
    "caddy_image": _image(_caddy_image),
    "image_platforms": _platforms(lambda s: s.cluster.image),
    "notebook_image_platforms": _platforms(lambda s: s.cluster.notebook_image),
    "caddy_image_platforms": _platforms(_caddy_image),
    "caddy_network_id": Fact(
        question=lambda s: s.caddy.network if s.caddy.mode == "external" else "",
        default=lambda s: NOT_RECORDED if s.caddy.mode == "external" else None,
    ),
    "network_id": Fact(
        question=lambda s: network_name(s.cluster.name) if s.network.mode == "external" else "",
        default=lambda s: NOT_RECORDED if s.network.mode == "external" else None,
    ),
    "network_subnets": Fact(
        question=lambda s: network_name(s.cluster.name) if s.network.mode == "external" else "",
        default=lambda _: (),
    ),
    "other_network_ids": Fact(
        question=lambda s: ",".join(s.network.others),
        default=lambda s: (NOT_RECORDED,) * len(s.network.others),
    ),
    "ingress_addresses": Fact(
        question=lambda s: ",".join(s.shared.control_placement) if _is_local(s) else "",
        default=lambda s: (LOOPBACK,) if _is_local(s) else (),
    ),
}


def record_of(settings: Settings, site: Site) -> dict[str, dict[str, Any]]:
    """Return the record of `site`: for each key the question and the answer."""
    questions = {field: fact.question(settings) for field, fact in FACTS.items()}
    return {
        _key(field): {"asked": question, "found": getattr(site, field)}
        for field, question in sorted(questions.items())
        if question
    }


def site_from(settings: Settings, record: Record, name: str) -> tuple[Site, list[UsedValue]]:
    """Return the site from settings and the record called `name`, and the values it uses."""
    chosen = {field: _choose(field, settings, record, name) for field in FACTS}
    site = Site(**{field: value for field, (value, _) in chosen.items()})
    return site, [used for _, used in chosen.values() if used]


def _choose(
    field: str, settings: Settings, record: Record, name: str
) -> tuple[Any, UsedValue | None]:
    key, question = _key(field), FACTS[field].question(settings)
    default = FACTS[field].default(settings)
    if not question:
        configured = UsedValue(key=key, value=str(default), source="configured")
        return default, configured if default else None
    answer = record.get(key, {})
    if answer.get("asked") == question:
        recorded = answer["found"]
        value = tuple(recorded) if isinstance(recorded, list) else recorded
        return value, UsedValue(key=key, value=_spelled(value), source=f"recorded in {name}")
    source = f"not in {name}, which has {answer['asked']!r}" if answer else f"not in {name}"
    used = UsedValue(key=key, value=_spelled(default), source=source, fix=record_command(name))
    return default, used


def _key(field: str) -> str:
    """Return a field's key in the record: `caddy_image` is `caddyImage`."""
    first, *rest = field.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _spelled(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def path_of(project: Path, stack: str) -> Path:
    """Return the path of a stack's record."""
    return project / f"recorded.{stack}.json"


def record_command(name: str) -> str:
    """Return the command that writes the record called `name`."""
    return f"make record STACK={name.removeprefix('recorded.').removesuffix('.json')}"


def read(path: Path) -> Record:
    """Return the record in `path`, empty without one; raises `ConfigError` when it is broken."""
    if not path.exists():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if all({"asked", "found"} == set(answer) for answer in record.values()):
            return dict(record)
    except (ValueError, AttributeError, TypeError):
        pass
    problem = Problem(
        key=path.name,
        found="not a record",
        expected="what `make record` writes",
        fix=f"rm {path.name}; {record_command(path.name)}",
    )
    raise ConfigError("The record cannot be read", [problem])


def write(path: Path, record: Record) -> None:
    """Write `record` to `path`; the same answers make the same file."""
    path.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def outdated(old: Record, new: Record) -> list[str]:
    """Return the keys that differ between two records; none without an old record."""
    if not old:
        return []
    plain = json.loads(json.dumps(new))
    return sorted(key for key in old.keys() | plain if old.get(key) != plain.get(key))
