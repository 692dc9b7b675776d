"""The documents' tables of figures are made of the entries beside the pages of evidence."""

import pytest

from infra.evidence.entry import Entry, write_page
from infra.measured import ABOUT, HEADLINES, headlines, index


def entry(line, *, holds=True):
    """Return one figure."""
    return Entry(
        line=line, figure=1.234567, unit=f"of {line}", bar="1 or more", holds=holds,
        command="measure", commit="c0ffee",
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """Return pages on which one line misses its bar."""
    for name in ABOUT:
        entries = [entry(line, holds=line != "D1") for line in HEADLINES[name]]
        write_page(name, "", entries, folder=tmp_path)
    return tmp_path


def test_the_front_page_shows_chosen_lines_and_counts_all(folder):
    """Those that miss too."""
    text = headlines(folder)
    num_lines = sum(map(len, HEADLINES.values()))
    assert "| [A2](docs/evidence/main-job.md) | 1.23 of A2 | 1 or more | yes |" in text
    assert "| [D1](docs/evidence/serving.md) | 1.23 of D1 | 1 or more | **no** |" in text
    assert f"{num_lines - 1} of {num_lines} lines hold" in text


def test_the_index_lists_what_misses(folder):
    """And no other line."""
    text = index(folder)
    assert text.count("**no**") == 1
    assert "[D1](serving.md)" in text
    assert f"| [serving](serving.md) | {ABOUT['serving']} | 5 | 4 |" in text


def test_a_line_that_is_shown_must_be_measured(folder):
    """A page without it is no reason to show less."""
    write_page("router", "", [entry("B1")], folder=folder)
    with pytest.raises(KeyError, match="B1d"):
        headlines(folder)
