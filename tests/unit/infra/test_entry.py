"""Evidence entries: one per acceptance line, which holds only as a whole."""

from __future__ import annotations

import json

from infra.evidence.entry import Entry, by_line, write_page


def entry(line, *, holds):
    """An entry of which only line and verdict matter."""
    return Entry(
        line=line, figure=1.0, unit="s", bar="at most 2", holds=holds, command="c", commit="0"
    )


def test_a_line_holds_only_as_a_whole():
    """The first entry of a line takes the verdict of all; further ones get a letter."""
    told = by_line([entry("A1", holds=True), entry("A1", holds=False), entry("A2", holds=True)])
    assert [(e.line, e.holds) for e in told] == [("A1", False), ("A1b", False), ("A2", True)]


def test_a_page_has_its_entries_beside_it(tmp_path):
    """The JSON beside a page lists every entry with all of its fields."""
    write_page("page", "# Page\n", [entry("A1", holds=True)], folder=tmp_path)
    assert (tmp_path / "page.md").read_text() == "# Page\n"
    (row,) = json.loads((tmp_path / "page.json").read_text())
    assert row.keys() == {"line", "figure", "unit", "bar", "holds", "command", "commit"}
