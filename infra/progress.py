"""Say what is being done, for how long already, and how long it usually takes."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

REPORT_EVERY_S = 10.0
"""Seconds between lines where the output is not a terminal."""


class Step:
    """One thing being done; ``detail`` may be set while it runs."""

    def __init__(self, title: str, expected_s: float) -> None:
        """Start the clock."""
        self.title = title
        self.expected_s = expected_s
        self.detail = ""
        self._started_s = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the step began."""
        return time.monotonic() - self._started_s

    def line(self, mark: str) -> str:
        """Return the step's state in one line."""
        detail = f"  {self.detail}" if self.detail else ""
        return (
            f"{mark} {self.title}  {self.elapsed_s:.0f} s of about {self.expected_s:.0f} s{detail}"
        )


@contextmanager
def step(title: str, *, expected_s: float) -> Iterator[Step]:
    """Report a step while the body runs: in place on a terminal, else a line every 10 s."""
    current = Step(title, expected_s)
    finished = threading.Event()
    reporter = threading.Thread(target=_report, args=(current, finished), daemon=True)
    print(f"… {title}  (about {expected_s:.0f} s)", flush=True)
    reporter.start()
    mark = "✗"
    try:
        yield current
        mark = "✓"
    finally:
        finished.set()
        reporter.join()
        clear = "\r\x1b[K" if sys.stdout.isatty() else ""
        print(f"{clear}{current.line(mark)}", flush=True)


def _report(current: Step, finished: threading.Event) -> None:
    is_terminal = sys.stdout.isatty()
    while not finished.wait(0.5 if is_terminal else REPORT_EVERY_S):
        start, end = ("\r\x1b[K", "") if is_terminal else ("", "\n")
        print(f"{start}{current.line('…')}", end=end, flush=True)
