"""The documentation matches the program, and its links work."""

import re

import pytest

from tests.conftest import ROOT
from tests.docs import TABLES, written

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", TABLES)
def test_generated_tables_are_up_to_date(page):
    """`python -m tests.docs` writes them."""
    text, expected = written(page)
    assert expected == text


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
