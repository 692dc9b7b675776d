"""Tables of what was measured, for the documents: made of the entries under docs/evidence."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.evidence.entry import FOLDER, Entry
from infra.evidence.parts import table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HEADLINES = {
    "main-job": ("A2", "A2b", "A2c"),
    "router": ("B1d", "B1e", "B1i", "B4", "B4b"),
    "learning": ("C1", "C1c", "C4", "C5"),
    "serving": ("D1", "D1g", "D2c", "D2h", "D3"),
}
"""The lines that the front page shows, by page."""

ABOUT = {
    "main-job": "From nothing to a routed answer",
    "router": "The decision, on published outcomes",
    "learning": "From logged outcomes to a promoted version",
    "serving": "Changes, failures and load",
}
"""What each page is about, in the order of reading."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page of evidence."""

    name: str
    entries: tuple[Entry, ...]

    @property
    def num_missed(self) -> int:
        """Entries that do not hold."""
        return sum(not entry.holds for entry in self.entries)


def pages(folder: Path = FOLDER) -> list[Page]:
    """Return the pages, in the order of reading."""
    return [
        Page(
            name=name,
            entries=tuple(
                Entry(**row) for row in json.loads((folder / f"{name}.json").read_text())
            ),
        )
        for name in ABOUT
    ]


def headlines(folder: Path = FOLDER) -> str:
    """Return the front page's table, and how many lines hold in all.

    Raises:
        KeyError: If a line that should be shown is on no page.
    """
    found = pages(folder)
    rows = []
    for page in found:
        by_line = {entry.line: entry for entry in page.entries}
        rows += [_row(by_line[line], page.name, "docs/evidence/") for line in HEADLINES[page.name]]
    num_lines = sum(len(page.entries) for page in found)
    num_missed = sum(page.num_missed for page in found)
    text = table(("line", "figure", "bar", "held"), rows)
    return (
        f"{text}\n\n{num_lines - num_missed} of {num_lines} lines hold; "
        "[those that do not](docs/evidence/README.md) are listed first.\n"
    )


def index(folder: Path = FOLDER) -> str:
    """Return the table of pages, and the lines that miss their bar."""
    found = pages(folder)
    overview = table(
        ("page", "about", "lines", "hold"),
        (
            (
                f"[{page.name}]({page.name}.md)",
                ABOUT[page.name],
                str(len(page.entries)),
                str(len(page.entries) - page.num_missed),
            )
            for page in found
        ),
    )
    missed = table(
        ("line", "figure", "bar", "held"),
        [
            _row(entry, page.name, "")
            for page in found
            for entry in page.entries
            if not entry.holds
        ],
    )
    return f"{missed}\n\n{overview}\n"


def _row(entry: Entry, page: str, folder: str) -> Sequence[str]:
    figure = f"{round(entry.figure, 2):g} {entry.unit}"
    held = "yes" if entry.holds else "**no**"
    return (f"[{entry.line}]({folder}{page}.md)", figure, entry.bar, held)
