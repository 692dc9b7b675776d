"""One acceptance line with the figure that was measured for it."""

from __future__ import annotations

import dataclasses
import json
import string
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from infra import services

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FOLDER = services.ROOT / "docs" / "evidence"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A figure and the bar that it is held against."""

    line: str
    figure: float
    unit: str
    bar: str
    holds: bool
    command: str
    commit: str


def by_line(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries with one per line first, and the line's further figures as A1b, A1c, ….

    The first entry of a line holds only where all of that line's figures do.
    """
    seen: Counter[str] = Counter()
    told = []
    for entry in entries:
        letter = string.ascii_lowercase[seen[entry.line]]
        seen[entry.line] += 1
        if letter == "a":
            holds = all(other.holds for other in entries if other.line == entry.line)
            told.append(dataclasses.replace(entry, holds=holds))
        else:
            told.append(dataclasses.replace(entry, line=f"{entry.line}{letter}"))
    return told


def write_page(
    name: str, markdown: str, entries: Sequence[Entry], *, folder: Path = FOLDER
) -> None:
    """Write a page and, beside it, its entries."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(markdown)
    rows = [asdict(entry) for entry in entries]
    (folder / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n")
