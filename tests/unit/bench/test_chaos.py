"""The table of `make chaos` gets into its page."""

from bench.chaos import PAGE, row, table, write


def test_the_table_replaces_the_old_table(tmp_path):
    """The first table too, where there was none; the text around it stays."""
    page = tmp_path / "recovery.md"
    page.write_text("before\n<!-- recovery -->\n<!-- /recovery -->\nafter\n")
    for what in ("old", "new"):
        write(page, table([(what, "1.0", "right")], 3))
    text = page.read_text()
    assert text.startswith("before\n<!-- recovery -->\n| Fault | Seconds")
    assert text.endswith("| new | 1.0 | right |\n<!-- /recovery -->\nafter\n")
    assert "old" not in text


def test_a_row_has_the_median_and_every_end():
    """A round that ended differently is not hidden."""
    ends = [(1.0, "right"), (9.0, "WRONG"), (2.0, "right")]
    assert ("a fault", "2.0", "right; WRONG") == row("a fault", ends)


def test_the_page_has_the_places():
    """Otherwise the table would be lost."""
    assert "<!-- recovery -->\n" in PAGE.read_text()
    assert "<!-- /recovery -->" in PAGE.read_text()
