"""Measure parts of the evidence of learning, and write its page."""

from __future__ import annotations

from typing import Annotated

import typer

from infra.evidence.learning import BOOK


def main(
    *,
    part: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(BOOK.parts)}.")] = None,
    do_write: Annotated[bool, typer.Option("--write", help="Make the page.")] = False,
    logs: Annotated[int | None, typer.Option(help="Simulated logs of each world.")] = None,
    rows: Annotated[str | None, typer.Option(help="Sizes of the log, by commas.")] = None,
    kills: Annotated[int | None, typer.Option(help="Of each kind of process.")] = None,
) -> None:
    """Measure parts, and write docs/evidence/learning.md and .json from all that were."""
    settings = {"logs": logs, "rows": rows, "kills": kills}
    BOOK.command(part or (), does_write=do_write, settings=settings)


if __name__ == "__main__":
    typer.run(main)
