"""One acceptance line with the figure that was measured for it."""

from __future__ import annotations

import json
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


def write_page(
    name: str, markdown: str, entries: Sequence[Entry], *, folder: Path = FOLDER
) -> None:
    """Write a page and, beside it, its entries."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(markdown)
    rows = [asdict(entry) for entry in entries]
    (folder / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n")
