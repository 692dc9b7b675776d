"""What a drill came to, and how it is told."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
import typer

from infra.evidence.parts import figure, table
from monitoring.log_reader import read_table

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from infra.evidence.entry import Entry

LINE = "D4"

ROWS_WITHIN_S = 15.0
"""Within which the last rows of a drill are in the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """One drill with its verdict."""

    name: str
    value: float
    """The figure that is held against the bar."""

    unit: str
    bar: str
    holds: bool
    figures: dict[str, float] = field(default_factory=dict)
    """What else was measured, by what it is."""

    def tell(self) -> Drill:
        """Print it, and return it."""
        mark = "✓" if self.holds else "✗"
        typer.echo(f"{mark} {self.name}: {self.value:g} {self.unit} ({self.bar})")
        for name, value in self.figures.items():
            typer.echo(f"    {value:10.4g}  {name}")
        return self


def stored(drills: list[Drill]) -> dict[str, Any]:
    """Return drills as a part's result."""
    return {"drills": [dataclasses.asdict(drill) for drill in drills]}


def entries(result: dict[str, Any], line: str) -> list[Entry]:
    """Return a line's entries, one for each drill."""
    return [
        figure(line, one["value"], f"{one['unit']}: {one['name']}", one["bar"], holds=one["holds"])
        for one in result["drills"]
    ]


def drill_table(result: dict[str, Any]) -> str:
    """Return what was measured beside, a row for each drill."""
    return table(
        ("drill", "measured"),
        (
            (
                one["name"],
                "; ".join(f"{round(value, 3):g} {name}" for name, value in one["figures"].items()),
            )
            for one in result["drills"]
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The outcome rows of a drill's requests."""

    attempts: dict[str, list[dict[str, Any]]]
    """Calls of candidates by decision."""

    status: dict[str, str]
    num_rows: int

    @property
    def num_attempts(self) -> int:
        """Calls of candidates in all."""
        return sum(map(len, self.attempts.values()))

    @property
    def num_doubled(self) -> int:
        """Rows beyond one for a decision."""
        return self.num_rows - len(self.status)


def rows_since(log: Path, began: datetime, *, num: int = 0) -> Rows:
    """Return the log's outcome rows since a time, once there are so many or they stay out."""
    deadline_s = time.monotonic() + ROWS_WITHIN_S
    while True:
        found = read_table(
            log,
            "outcomes",
            columns=["decision_id", "attempts", "status"],
            filters=pc.field("time") >= began,
        ).to_pylist()
        if len(found) >= num or time.monotonic() > deadline_s:
            break
        time.sleep(0.5)
    return Rows(
        attempts={row["decision_id"]: row["attempts"] for row in found},
        status={row["decision_id"]: row["status"] for row in found},
        num_rows=len(found),
    )
