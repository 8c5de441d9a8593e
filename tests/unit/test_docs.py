"""The documentation matches the program, and its links work."""

import re

import pytest

from tests.changes import CHANGES, LOST, NOTEBOOK
from tests.conftest import ROOT
from tests.docs import TABLES, written

# What the program fills in, in the messages of docs/troubleshooting.md.
VALUE = r"…|: |<\w+>|recorded\.….json|role=data-worker|COMPLETED"
# Of Pulumi, its Docker provider and Swarm.
FOREIGN_MESSAGES = (
    *(
        "failed to load checkpoint",
        "the stack is currently locked",
        "insufficient resources on N nodes",
    ),
    *("name conflicts with an existing object", "service dask_", "already exists"),
    "network with name dask-network already exists",
    "could not open config file from filePath",
    "EOF occurred in violation of protocol",
    *(
        "PULUMI_ACCESS_TOKEN must be set for login",
        "passphrase must be set with PULUMI_CONFIG_PASSPHRASE",
    ),
)
CODE = ("config", "swarm", "caddy", "health", "components", "tools", "images", "lab")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", TABLES)
def test_generated_tables_are_up_to_date(page):
    """`python -m tests.docs` writes them."""
    text, expected = written(page)
    assert expected == text


@pytest.mark.parametrize(
    "change",
    [change for change in CHANGES if NOTEBOOK in change.restarts],
    ids=lambda change: change.what,
)
def test_a_change_that_replaces_the_notebook_names_the_kernels(change):
    """Kernels are clients: the scheduler drops what they compute when they stop."""
    assert "kernel" in change.effect or change.effect.startswith(LOST)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    """Links to moved or renamed pages and headings fail."""
    for path, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", page.read_text()):
        target = page.parent / path if path else page
        assert target.is_file(), path
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            names = {
                re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings
            }
            assert anchor in names


def test_every_page_is_in_the_readme():
    """The README is where a reader starts."""
    readme = (ROOT / "README.md").read_text()
    assert [] == [page.name for page in PAGES[1:] if f"(docs/{page.name})" not in readme]


def program():
    """Return the program's source with adjacent texts joined, and with … for their values."""
    folders = [ROOT / name for name in CODE]
    files = [path for top in folders for end in ("py", "sh") for path in top.rglob(f"*.{end}")]
    text = re.sub(r'"\s+f?"', "", "\n".join(path.read_text() for path in files))
    return re.sub(r"\{[^{}]*\}", "…", text)


def test_the_program_has_the_messages_of_the_troubleshooting_page():
    """A reader searches the page for the message on the terminal."""
    page, source = (ROOT / "docs" / "troubleshooting.md").read_text(), program()
    rows = re.findall(r"(?m)^\| (`.*?) \|", page)
    messages = [message for row in rows for message in re.findall(r"`([^`]+)`", row)]
    parts = [part.strip(" .") for text in messages for part in re.split(VALUE, text)]
    wanted = {part for part in parts if " " in part} - {*FOREIGN_MESSAGES}
    assert len(wanted) > 40
    assert [] == sorted(part for part in wanted if part not in source)
