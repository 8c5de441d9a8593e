"""What a pull request's own code has written cannot act in the comment."""

import subprocess
import sys

import pytest

from preview.comment import LEFT_OUT, LONGEST, comment, read
from tests.conftest import ROOT


def test_the_text_stands_in_a_fence():
    """Title as it is, then nothing but text."""
    assert "### Preview\n\n```diff\n+ Service x\n```\n" == comment("Preview", "+ Service x\n")


@pytest.mark.parametrize("ticks", ["```", "````", "`" * 40])
def test_the_text_cannot_leave_its_fence(ticks):
    """The fence is longer than any in the text."""
    lines = comment("Preview", f"a\n{ticks}\n@everybody <img src=x>").splitlines()
    fence = lines[2].removesuffix("diff")
    assert len(ticks) < len(fence)
    assert [2, len(lines) - 1] == [i for i, line in enumerate(lines) if fence in line]


def test_control_characters_are_gone():
    """Colours of a terminal, bells and what turns the direction of writing."""
    shown = comment("Preview", "\x1b[31mred\x1b[0m\x07 a\u202eb\u200bc\td")
    assert "red abc\td" in shown


@pytest.mark.parametrize("length", [LONGEST + 5, 30 * LONGEST])
def test_a_long_text_is_cut_and_says_so(tmp_path, length):
    """GitHub refuses longer ones; the end is what tells of an error or a broken rule."""
    (tmp_path / "report").write_text("begin" + "x" * length + "end")
    shown = comment("Preview", read(tmp_path / "report"))
    assert len(shown) < 65_536
    assert f"\n{LEFT_OUT}\n" in shown
    assert "\nbegin" in shown
    assert "end\n```" in shown


def test_a_link_is_not_followed(tmp_path):
    """An artifact could point at a file of the machine that comments."""
    (tmp_path / "report").symlink_to("/etc/passwd")
    with pytest.raises(SystemExit, match="is not a file"):
        read(tmp_path / "report")


def test_any_bytes_can_be_read(tmp_path):
    """What is no text is shown as such instead of failing."""
    (tmp_path / "report").write_bytes(b"a\xff\xfeb")
    assert "a\ufffd\ufffdb" == read(tmp_path / "report")


def test_it_needs_nothing_but_python(tmp_path):
    """The job that comments sets nothing up."""
    (tmp_path / "report").write_text("+ Service x")
    command = [sys.executable, "-S", "-m", "preview.comment", "Preview", tmp_path / "report"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert comment("Preview", "+ Service x") == done.stdout
