"""A writer that is killed at any moment: what it acknowledged is in the log, once and whole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from monitoring.log_check import check
from monitoring.outcome_log import SegmentWriter, read_table
from monitoring.segment_store import open_store

ROOT = Path(__file__).resolve().parents[2]
PARENT = """
import os, sys, threading
from datetime import UTC, datetime
from pathlib import Path
from monitoring.outcome import Label
from monitoring.outcome_log import SegmentWriter

root, spool, acknowledged = sys.argv[1], Path(sys.argv[2]), sys.argv[3]

def label(number, source):
    now = datetime(2026, 3, 1 + number % 2, tzinfo=UTC)
    return Label(time=now, decision_id=f"d{number}", score=0.5, source=source)

def work(start):
    writer = SegmentWriter(root, "labels", writer="child", spool=spool)
    writer.start()

    def flush():
        while True:
            writer.flush()

    threading.Thread(target=flush, daemon=True).start()
    out = os.open(acknowledged, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    while True:
        writer.append(label(start, "appended"))
        labels = [label(start + i, "acknowledged") for i in range(2)]
        writer.settle(writer.offer_durably(labels))
        os.write(out, b"%d\\n%d\\n" % (start, start + 1))
        start += 2

for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        work(int(line))
    print(pid, flush=True)
    os.waitpid(pid, 0)
    print("dead", flush=True)
"""
"""Imports once, then gives birth to a writer for each line, and tells its death."""


@pytest.mark.parametrize(("kind", "num_kills", "life_s"), [("local", 40, 0.15), ("s3", 10, 1.2)])
def test_no_acknowledged_label_is_lost_and_none_doubled(
    kind, num_kills, life_s, request, tmp_path
):
    """Killed at random moments, each successor adopts what the dead writer left."""
    root = str(tmp_path / "log") if kind == "local" else request.getfixturevalue("s3_root")
    spool, told, chance = tmp_path / "spool", tmp_path / "acknowledged", random.Random(7)
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, root, str(spool), str(told)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        for life in range(num_kills):
            parent.stdin.write(f"{life * 10_000}\n")
            parent.stdin.flush()
            pid = int(parent.stdout.readline())
            time.sleep(chance.uniform(0.0, life_s))
            os.kill(pid, signal.SIGKILL)
            assert parent.stdout.readline() == "dead\n"
    heir = SegmentWriter(root, "labels", writer="heir", spool=spool)
    heir.flush()
    heir.close()
    acknowledged = [int(line) for line in told.read_text().splitlines()]
    rows = read_table(root, "labels", columns=["decision_id", "source"]).to_pylist()
    found = [int(row["decision_id"][1:]) for row in rows if row["source"] == "acknowledged"]
    assert len(acknowledged) > num_kills
    assert set(acknowledged) <= set(found)
    assert len(set(found)) == len(found)
    appended = [row["decision_id"] for row in rows if row["source"] == "appended"]
    assert len(set(appended)) == len(appended)
    assert check(open_store(root), is_thorough=True)["labels"].faults == []
    assert not [path for path in spool.rglob("*") if path.is_file()]
