"""Measure parts of the evidence of serving, and write its page."""

from __future__ import annotations

from typing import Annotated

import typer

from infra.evidence.serving import BOOK


def main(
    *,
    part: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(BOOK.parts)}.")] = None,
    do_write: Annotated[bool, typer.Option("--write", help="Make the page.")] = False,
    minutes: Annotated[float | None, typer.Option(help="That a soak lasts.")] = None,
    requests: Annotated[int | None, typer.Option(help="That a drill sends.")] = None,
) -> None:
    """Measure parts, and write docs/evidence/serving.md and .json from all that were."""
    settings = {"minutes": minutes, "requests": requests}
    BOOK.command(part or (), does_write=do_write, settings=settings)


if __name__ == "__main__":
    typer.run(main)
