"""`python3 -m preview.comment TITLE FILE`: text that is not to be trusted, fit for a comment.

The text was made by a pull request's own code, so none of it may act in the comment: it stands
inside a fence that it cannot close, without control characters, and no longer than GitHub takes.
What is too long is cut in its middle, for errors and verdicts stand at the end.
Needs nothing but Python.
"""

import re
import sys
from pathlib import Path

LONGEST = 60_000  # GitHub takes 65,536 characters
LEFT_OUT = "… more than fits is left out here: see the run …"
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[^\t\n\x20-\x7e\u00a0-\ud7ff\ue000-\ufffd]")
# What turns the direction of writing or takes no place can make a text look like another.
_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")


def comment(title: str, text: str) -> str:
    """Return Markdown with `title` as it is and `text` as nothing but text."""
    clean = _INVISIBLE.sub("", _CONTROL.sub("", text))
    cut = clean
    if len(clean) > LONGEST:
        cut = f"{clean[: LONGEST // 2]}\n{LEFT_OUT}\n{clean[-(LONGEST // 2) :]}"
    longest = max(map(len, re.findall(r"`+", cut)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"### {title}\n\n{fence}diff\n{cut.rstrip()}\n{fence}\n"


def read(path: Path) -> str:
    """Return a file's text, whatever its bytes; a link is not followed."""
    if path.is_symlink() or not path.is_file():
        raise SystemExit(f"{path} is not a file")
    most = 4 * LONGEST
    with path.open("rb") as file:
        begin = file.read(most)
        file.seek(max(most, path.stat().st_size - most))
        return (begin + file.read(most)).decode("utf-8", errors="replace")


if __name__ == "__main__":
    print(comment(sys.argv[1], read(Path(sys.argv[2]))), end="")
