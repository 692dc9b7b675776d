"""One acceptance line with the figure that was measured for it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import psutil

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


def commit() -> str:
    """Return the commit that was measured, marked where the tree has changes of its own."""
    head = _git("rev-parse", "--short=12", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":!docs/evidence")
    return f"{head}+changes" if changed else head


def conditions() -> str:
    """Return the machine that measured, in a line."""
    memory_gb = psutil.virtual_memory().total / 2**30
    return (
        f"{os.cpu_count()} cores, {memory_gb:.0f} GB, no accelerator, "
        f"Python {platform.python_version()}"
    )


def write_page(
    name: str, markdown: str, entries: Sequence[Entry], *, folder: Path = FOLDER
) -> None:
    """Write a page and, beside it, its entries."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(markdown)
    rows = [asdict(entry) for entry in entries]
    (folder / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n")


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],  # noqa: S607 - whichever git is on the path
        cwd=services.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()
