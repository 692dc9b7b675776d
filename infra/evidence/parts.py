"""A page of evidence in parts, each measured by a command of its own.

A part leaves its result as ``.run/evidence/PAGE/PART.json``. What it tells of it is kept beside
the page, in ``parts/PAGE/PART.json``: the page is made of these, so that a part can be measured
anew without the others' results. A part is a module of the page's package with three functions:

    run(**settings) -> dict        measures; the settings it names are options of the command line
    lines(result) -> list[Entry]   holds the figures against their bars
    section(result) -> str         tells in Markdown how they came about
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import textwrap
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import typer

from infra import services
from infra.evidence.entry import FOLDER, Entry, by_line, write_page
from infra.provenance import commit, conditions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


WIDTH = 100
"""Characters in a line of a page's prose."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A part's result, and of what."""

    commit: str
    conditions: str
    elapsed_s: float
    command: str
    result: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a part tells of a measurement."""

    commit: str
    conditions: str
    elapsed_s: float
    command: str
    entries: tuple[Entry, ...]
    """Named by their line alone, without a letter."""

    section: tuple[str, ...]
    """Lines of Markdown, heading included."""


def read_told(path: Path) -> Told:
    """Return what a part told."""
    value = json.loads(path.read_text())
    entries = tuple(Entry(**entry) for entry in value.pop("entries"))
    return Told(entries=entries, section=tuple(value.pop("section")), **value)


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


def verdicts(entries: Sequence[Entry]) -> str:
    """Return the table of a page's lines."""
    rows = (
        (e.line, f"{e.figure:g} {e.unit}", e.bar, "yes" if e.holds else "**no**") for e in entries
    )
    return f"""{table(("line", "figure", "bar", "holds"), rows)}

A line with a letter is a further figure of the same promise; the first of them holds only where
all do."""


def wrapped(section: Iterable[str]) -> str:
    """Return a section with its prose wrapped anew, whatever the width of the figures in it."""
    blocks = "\n".join(section).split("\n\n")
    is_prose = [not block.startswith(("#", "|", "-", "`" * 3, "!")) for block in blocks]
    return "\n\n".join(
        textwrap.fill(block, WIDTH, break_long_words=False, break_on_hyphens=False)
        if prose
        else block
        for block, prose in zip(blocks, is_prose, strict=True)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """A page of evidence and its parts."""

    name: str
    """Of the page below docs/evidence, and of the package below ``infra.evidence``."""

    title: str
    parts: tuple[str, ...]
    """In the order of the page's sections."""

    @property
    def results(self) -> Path:
        """The folder of what was measured."""
        return services.RUN / "evidence" / self.name

    def part(self, name: str) -> Part:
        """Return the module of a part."""
        module: Any = importlib.import_module(f"infra.evidence.{self.name}.{name}")
        return module

    def measure(
        self, name: str, settings: dict[str, Any], *, folder: Path | None = None
    ) -> Measured:
        """Run a part with the settings that it names, and store its result."""
        part = self.part(name)
        known = inspect.signature(part.run).parameters
        used = {
            key: value for key, value in settings.items() if key in known and value is not None
        }
        options = "".join(f" --{key.replace('_', '-')} {value}" for key, value in used.items())
        began_s = time.monotonic()
        result = part.run(**used)
        measured = Measured(
            commit=commit(),
            conditions=conditions(),
            elapsed_s=round(time.monotonic() - began_s, 1),
            command=f"python -m infra.evidence.{self.name} --part {name}{options}",
            result=result,
        )
        folder = folder or self.results
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(dataclasses.asdict(measured), indent=1)
        (folder / f"{name}.json").write_text(text + "\n")
        return measured

    def stored(self, *, folder: Path | None = None) -> dict[str, Measured]:
        """Return the results that lie in the folder, by part."""
        paths = {name: (folder or self.results) / f"{name}.json" for name in self.parts}
        return {
            name: Measured(**json.loads(path.read_text()))
            for name, path in paths.items()
            if path.exists()
        }

    def tell(self, name: str, measured: Measured) -> Told:
        """Return what a part tells of its result."""
        part = self.part(name)
        return Told(
            commit=measured.commit,
            conditions=measured.conditions,
            elapsed_s=measured.elapsed_s,
            command=measured.command,
            entries=tuple(
                dataclasses.replace(entry, command=measured.command, commit=measured.commit)
                for entry in part.lines(measured.result)
            ),
            section=tuple(part.section(measured.result).strip().splitlines()),
        )

    def page(self, told: dict[str, Told], entries: Sequence[Entry]) -> str:
        """Return the page: how it was measured, the lines, and a section for each part."""
        runs = table(
            ("part", "command", "commit", "machine", "s"),
            (
                (
                    name,
                    f"`{one.command}`",
                    f"`{one.commit}`",
                    one.conditions,
                    f"{one.elapsed_s:.0f}",
                )
                for name, one in told.items()
            ),
        )
        sections = "\n\n".join(wrapped(one.section) for one in told.values())
        missing = [name for name in self.parts if name not in told]
        absent = f"\nNot measured: {', '.join(missing)}.\n" if missing else ""
        return f"# {self.title}\n\n{runs}\n{absent}\n{verdicts(entries)}\n\n{sections}\n"

    def write(self, *, folder: Path | None = None, into: Path = FOLDER) -> list[Entry]:
        """Write the page and its entries from the results that there are, and what is kept."""
        kept = into / "parts" / self.name
        kept.mkdir(parents=True, exist_ok=True)
        for name, measured in self.stored(folder=folder).items():
            text = json.dumps(dataclasses.asdict(self.tell(name, measured)), indent=1)
            (kept / f"{name}.json").write_text(text + "\n")
        paths = {name: kept / f"{name}.json" for name in self.parts}
        told = {name: read_told(path) for name, path in paths.items() if path.exists()}
        lines = [entry for one in told.values() for entry in one.entries]
        entries = by_line(sorted(lines, key=lambda entry: entry.line))
        write_page(self.name, self.page(told, entries), entries, folder=into)
        return entries

    def command(self, parts: Sequence[str], *, does_write: bool, settings: dict[str, Any]) -> None:
        """Measure parts, write the page if asked to, and tell how the figures stand.

        Raises:
            SystemExit: If one of them misses its bar.
        """
        if unknown := sorted(set(parts) - set(self.parts)):
            message = f"{unknown} are no parts; take of {', '.join(self.parts)}"
            raise typer.BadParameter(message, param_hint="--part")
        told: list[Entry] = []
        for name in parts:
            told += self.tell(name, self.measure(name, settings)).entries
        if does_write:
            told = self.write()
        for entry in told:
            mark = "✓" if entry.holds else "✗"
            typer.echo(f"{mark} {entry.line}  {entry.figure:g} {entry.unit}  ({entry.bar})")
        if not all(entry.holds for entry in told):
            raise SystemExit(1)
