"""The generated tables of `docs/`: `python -m tests.docs` writes them."""

import yaml

from bench.measure import with_table
from tests.changes import table as changes
from tests.conftest import ROOT


def keys():
    """Return the table of the config keys, from Pulumi.yaml."""
    config = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]
    rows = [f"| `{key}` | {default(of)} | {of['description']} |" for key, of in config.items()]
    return "\n".join(["| Key | Default | What it is |", "|---|---|---|", *rows])


def default(declared):
    """Return the default of a key as the table shows it."""
    value = declared["default"]
    if isinstance(value, bool):
        value = str(value).lower()
    elif isinstance(value, list):
        value = " ".join(value)
    return f"`{value}`" if value not in ("", {}) else "none"


TABLES = {"configuration.md": ("keys", keys), "changes.md": ("changes", changes)}


def written(page):
    """Return a page's text, and the text with its table as it should be."""
    name, table = TABLES[page]
    text = (ROOT / "docs" / page).read_text()
    return text, with_table(text, name, table())


if __name__ == "__main__":
    for page in TABLES:
        (ROOT / "docs" / page).write_text(written(page)[1])
