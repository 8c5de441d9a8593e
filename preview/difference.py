"""What differs between two checkouts' registrations, as lines that a person reads; pure."""

import base64
import binascii
import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from preview.registered import Resource

CONFIG = "docker:index/serviceConfig:ServiceConfig"
COMMAND = "command:local:Command"
HIDDEN = "[secret]"


def difference(before: Sequence[Resource], after: Sequence[Resource]) -> list[str]:
    """Return the lines of all resources that were added (+), removed (-) or changed (!)."""
    old, new = ({each.key: each for each in some} for some in (before, after))
    lines: list[str] = []
    for key in sorted(old.keys() | new.keys()):
        if key not in old:
            lines.append(f"+ {key}")
        elif key not in new:
            lines.append(f"- {key}")
        elif changed := list(_changes(old[key], new[key])):
            lines += [f"! {key}", *changed]
    return lines


def _changes(old: Resource, new: Resource) -> Iterator[str]:
    before, after = dict(_flat("", _shown(old))), dict(_flat("", _shown(new)))
    for path in sorted(before.keys() | after.keys(), key=_naturally):
        if before.get(path) == after.get(path):
            continue
        if path == "data" and new.type == CONFIG:
            yield from _text_changes(str(before[path]), str(after[path]))
            continue
        gone, come = before.get(path, []), after.get(path, [])
        if isinstance(gone, list) and isinstance(come, list):
            yield from _list_changes(path, _written(gone), _written(come))
            continue
        for sign, side in (("-", before), ("+", after)):
            if path in side:
                yield f"{sign}     {path}: {json.dumps(side[path], ensure_ascii=False)}"


def _list_changes(path: str, old: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    # An argument that comes or goes moves all that follow, which are no changes.
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for what, begin, end, to_begin, to_end in matcher.get_opcodes():
        if what != "equal":
            yield from (f"-     {path}.{n}: {old[n]}" for n in range(begin, end))
            yield from (f"+     {path}.{n}: {new[n]}" for n in range(to_begin, to_end))


def _written(values: Sequence[object]) -> list[str]:
    return [json.dumps(each, ensure_ascii=False) for each in values]


def _text_changes(old: str, new: str) -> Iterator[str]:
    # With their ends: a text that differs in no more than one is another config too.
    for line in difflib.ndiff(old.splitlines(keepends=True), new.splitlines(keepends=True)):
        if line.startswith(("- ", "+ ")):
            yield f"{line[0]}     | {line[2:].rstrip()}"


def _naturally(path: str) -> list[tuple[int, str]]:
    return [(int(part) if part.isdigit() else -1, part) for part in path.split(".")]


def _shown(resource: Resource) -> dict[str, Any]:
    shown = {
        name: HIDDEN if name in resource.secret else value
        for name, value in resource.inputs.items()
    }
    if resource.type == CONFIG and "data" not in resource.secret:
        shown["data"] = _text(resource.inputs["data"])
    if resource.type == COMMAND and "stdin" not in resource.secret:
        shown["stdin"] = json.loads(resource.inputs["stdin"])
    return shown


def _text(data: str) -> str:
    try:
        return base64.b64decode(data, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return data


def _flat(path: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from _flat(f"{path}.{name}" if path else name, each)
    elif isinstance(value, list) and any(isinstance(each, Mapping | list) for each in value):
        for number, each in enumerate(value):
            yield from _flat(f"{path}.{number}", each)
    else:
        yield path, value
