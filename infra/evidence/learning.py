"""Write the evidence of learning: ``python -m infra.evidence.learning --part NAME``, ``--write``.

Each part measures on its own and leaves its result as ``.run/evidence/learning/NAME.json``;
``--write`` makes the page of whatever results lie there. A part is a module `learning_NAME`
with three functions, and its name in `PARTS`:

    run(**settings) -> dict        measures; the settings it names are options of the command line
    lines(result) -> list[Entry]   holds the figures against their bars
    section(result) -> str         tells in Markdown how they came about
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import time
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from infra import services
from infra.evidence.entry import FOLDER, Entry, by_line, write_page
from infra.provenance import commit, conditions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

PARTS = ("loop", "newcomer", "studies", "promotion", "kills", "log", "scale")
"""In the order of the page's sections."""

RESULTS = services.RUN / "evidence" / "learning"
MODULE = "infra.evidence.learning"


class Part(Protocol):
    """What a part's module holds."""

    def run(self, **settings: object) -> dict[str, Any]:
        """Measure, and return what JSON can say."""
        ...

    def lines(self, result: dict[str, Any]) -> list[Entry]:
        """Return the figures with their bars; the commit is filled in later."""
        ...

    def section(self, result: dict[str, Any]) -> str:
        """Return a section of the page, heading included."""
        ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A part's result, and of what."""

    commit: str
    conditions: str
    elapsed_s: float
    command: str
    result: dict[str, Any]


def part_module(name: str) -> Part:
    """Return the module of a part."""
    module: Any = importlib.import_module(f"{MODULE}_{name}")
    return module


def figure(line: str, value: float, unit: str, bar: str, *, holds: bool) -> Entry:
    """Return a part's entry; command and commit are those of its measurement."""
    return Entry(
        line=line,
        figure=round(float(value), 4),
        unit=unit,
        bar=bar,
        holds=bool(holds),
        command="",
        commit="",
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def measure(name: str, settings: dict[str, Any], *, folder: Path = RESULTS) -> Measured:
    """Run a part with the settings that it names, and store its result."""
    part = part_module(name)
    known = inspect.signature(part.run).parameters
    used = {key: value for key, value in settings.items() if key in known and value is not None}
    options = "".join(f" --{key.replace('_', '-')} {value}" for key, value in used.items())
    began_s = time.monotonic()
    result = part.run(**used)
    measured = Measured(
        commit=commit(),
        conditions=conditions(),
        elapsed_s=round(time.monotonic() - began_s, 1),
        command=f"python -m {MODULE} --part {name}{options}",
        result=result,
    )
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(dataclasses.asdict(measured), indent=1)
    (folder / f"{name}.json").write_text(text + "\n")
    return measured


def stored(*, folder: Path = RESULTS) -> dict[str, Measured]:
    """Return the results that lie in the folder, by part."""
    paths = {name: folder / f"{name}.json" for name in PARTS}
    return {
        name: Measured(**json.loads(path.read_text()))
        for name, path in paths.items()
        if path.exists()
    }


def entries_of(name: str, measured: Measured) -> list[Entry]:
    """Return a part's lines."""
    return [
        dataclasses.replace(entry, command=measured.command, commit=measured.commit)
        for entry in part_module(name).lines(measured.result)
    ]


def page(found: dict[str, Measured], entries: Sequence[Entry]) -> str:
    """Return the page: how it was measured, the lines, and a section for each part."""
    runs = table(
        ("part", "command", "commit", "machine", "s"),
        (
            (name, f"`{m.command}`", f"`{m.commit}`", m.conditions, f"{m.elapsed_s:.0f}")
            for name, m in found.items()
        ),
    )
    verdicts = table(
        ("line", "figure", "bar", "holds"),
        (
            (e.line, f"{e.figure:g} {e.unit}", e.bar, "yes" if e.holds else "**no**")
            for e in entries
        ),
    )
    sections = "\n\n".join(
        part_module(name).section(m.result).strip() for name, m in found.items()
    )
    missing = [name for name in PARTS if name not in found]
    absent = f"\nNot measured: {', '.join(missing)}.\n" if missing else ""
    return f"""# Learning

{runs}
{absent}
{verdicts}

{sections}
"""


def write(*, folder: Path = RESULTS, into: Path = FOLDER) -> list[Entry]:
    """Write the page and its entries from the results that there are."""
    found = stored(folder=folder)
    told = [entry for name, measured in found.items() for entry in entries_of(name, measured)]
    entries = by_line(sorted(told, key=lambda entry: entry.line))
    write_page("learning", page(found, entries), entries, folder=into)
    return entries


def main(
    *,
    part: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(PARTS)}.")] = None,
    do_write: Annotated[bool, typer.Option("--write", help="Make the page.")] = False,
    logs: Annotated[int | None, typer.Option(help="Simulated logs of each world.")] = None,
    rows: Annotated[str | None, typer.Option(help="Sizes of the log, by commas.")] = None,
    kills: Annotated[int | None, typer.Option(help="Of each kind of process.")] = None,
) -> None:
    """Measure parts, and write docs/evidence/learning.md and .json from all that were."""
    if unknown := sorted(set(part or ()) - set(PARTS)):
        raise typer.BadParameter(f"{unknown} are no parts; take of {PARTS}", param_hint="--part")
    told: list[Entry] = []
    for name in part or ():
        told += entries_of(name, measure(name, {"logs": logs, "rows": rows, "kills": kills}))
    if do_write:
        told = write()
    for entry in told:
        mark = "✓" if entry.holds else "✗"
        typer.echo(f"{mark} {entry.line}  {entry.figure:g} {entry.unit}  ({entry.bar})")
    if not all(entry.holds for entry in told):
        raise SystemExit(1)


if __name__ == "__main__":
    typer.run(main)
