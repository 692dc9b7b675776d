"""A writer of the outcome log that is killed at any moment, and what became of its rows.

Run as a program it imports once, then gives birth to a writer for each line that it reads, and
tells its death: ``python -m infra.evidence.learning.kill_writer ROOT SPOOL ACKNOWLEDGED``.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from infra import services
from monitoring.log_check import check
from monitoring.outcome import Label
from monitoring.outcome_log import SegmentWriter, read_table
from monitoring.segment_store import open_store

ROOT = services.ROOT


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterKills:
    """What was left after the last kill, once a successor had flushed."""

    num_kills: int
    num_acknowledged: int
    """Labels that a writer was told are safe."""

    num_lost: int
    """Of those, the ones that the log lacks."""

    num_appended: int
    """Labels in the log of which nobody was told."""

    num_doubled: int
    """Labels that the log holds more than once."""

    num_faults: int
    """What a thorough check of the segments finds."""

    num_left: int
    """Files that still lie in the spool."""


def kill_writers(
    root: str, folder: Path, *, num_kills: int, life_s: float, seed: int = 7
) -> WriterKills:
    """Kill one writer after the other, each after a random time, and count what is in the log.

    Args:
        root: An empty log.
        folder: For the spool, and for what was acknowledged.
        num_kills: Writers, one after the other on the same spool.
        life_s: Longest life; lives are drawn uniformly below it.
        seed: Of the lives.
    """
    spool, told, chance = folder / "spool", folder / "acknowledged", random.Random(seed)  # noqa: S311 - moments, no secrets
    with subprocess.Popen(
        [sys.executable, "-m", __name__, root, str(spool), str(told)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        if parent.stdin is None or parent.stdout is None:
            raise RuntimeError("the parent of the writers has no pipes")
        for life in range(num_kills):
            parent.stdin.write(f"{life * 10_000}\n")
            parent.stdin.flush()
            pid = int(parent.stdout.readline())
            time.sleep(chance.uniform(0.0, life_s))
            os.kill(pid, signal.SIGKILL)
            if parent.stdout.readline() != "dead\n":
                raise RuntimeError(f"writer {pid} outlived its kill")
        parent.stdin.close()
    heir = SegmentWriter(root, "labels", writer="heir", spool=spool)
    heir.flush()
    heir.close()
    return _counted(root, spool, told, num_kills)


def _counted(root: str, spool: Path, told: Path, num_kills: int) -> WriterKills:
    acknowledged = {f"d{line}" for line in told.read_text().splitlines()}
    rows = read_table(root, "labels", columns=["decision_id", "source"]).to_pylist()
    found = Counter((row["source"], row["decision_id"]) for row in rows)
    kept = {name for source, name in found if source == "acknowledged"}
    return WriterKills(
        num_kills=num_kills,
        num_acknowledged=len(acknowledged),
        num_lost=len(acknowledged - kept),
        num_appended=sum(source == "appended" for source, _ in found),
        num_doubled=sum(count > 1 for count in found.values()),
        num_faults=len(check(open_store(root), is_thorough=True)["labels"].faults),
        num_left=sum(path.is_file() for path in spool.rglob("*")),
    )


def _label(number: int, source: str) -> Label:
    now = datetime(2026, 3, 1 + number % 2, tzinfo=UTC)
    return Label(time=now, decision_id=f"d{number}", score=0.5, source=source)


def _work(root: str, spool: Path, told: str, start: int) -> None:
    """Write labels until killed; two of three are told once they are safe."""
    writer = SegmentWriter(root, "labels", writer="child", spool=spool)
    writer.start()

    def flush() -> None:
        while True:
            writer.flush()

    threading.Thread(target=flush, daemon=True).start()
    out = os.open(told, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    while True:
        writer.append(_label(start, "appended"))
        labels = [_label(start + i, "acknowledged") for i in range(2)]
        writer.settle(writer.offer_durably(labels))
        os.write(out, b"%d\n%d\n" % (start, start + 1))
        start += 2


def main(root: str, spool: str, told: str) -> None:
    """Give birth to a writer for each line, and tell its process and its death."""
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _work(root, Path(spool), told, int(line))
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
        os.waitpid(pid, 0)
        sys.stdout.write("dead\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
