"""What was measured, and on what: the commit and the machine."""

from __future__ import annotations

import os
import platform
import subprocess

import psutil

from infra import services


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


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],  # noqa: S607 - whichever git is on the path
        cwd=services.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()
