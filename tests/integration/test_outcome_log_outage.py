"""A store that is away, slow to tell, or shared: rows are neither lost nor doubled."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import numpy as np
import pytest

from deployments.recording.outcomes import OutcomeRecorder
from monitoring.outcome import LABEL_SCHEMA, Label
from monitoring.outcome_log import SegmentWriter, SpoolLimits, read_table
from monitoring.segment import Origin, segment_bytes
from monitoring.segment_store import open_store, segment_key
from monitoring.spool import read_spool_file

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def label(number):
    """Return a label."""
    return Label(time=NOON, decision_id=f"d{number}", score=0.5, source="user")


def writer_of(root, tmp_path, **limits):
    """Return a writer of labels."""
    return SegmentWriter(
        root, "labels", writer="one", spool=tmp_path / "spool", limits=SpoolLimits(**limits)
    )


def ids(root):
    """Return the decision ids in the log, as numbers, in the order of the log."""
    rows = read_table(root, "labels", columns=["decision_id"]).to_pylist()
    return [int(row["decision_id"][1:]) for row in rows]


def test_a_lost_acknowledgement_makes_no_second_row(s3_root, lossy, tmp_path):
    """The bucket took the segment, each answer was lost: the next try finds it and goes on."""
    writer = writer_of(s3_root, tmp_path)
    for number in range(10):
        writer.append(label(number))
    lossy.mode = "cut"
    with pytest.raises(OSError, match="S3"):
        writer.flush()
    assert lossy.num_cut == 3
    assert (writer.num_written, writer.num_retries) == (0, 1)
    lossy.mode = "pass"
    assert ids(s3_root) == list(range(10))
    assert writer.flush() == 10
    assert ids(s3_root) == list(range(10))
    assert len(open_store(s3_root).files("labels")) == 1


def test_an_outage_costs_nothing_and_leaves_few_segments(s3_root, lossy, tmp_path):
    """Rows of eight failed flushes wait in two files, and come in order when the store is back."""
    writer = writer_of(s3_root, tmp_path)
    lossy.mode = "refuse"
    for number in range(8):
        writer.append(label(number))
        started_s = time.monotonic()
        with pytest.raises(OSError, match="S3"):
            writer.flush()
        assert time.monotonic() - started_s < 15
    lossy.mode = "pass"
    assert writer.flush() == 8
    assert ids(s3_root) == list(range(8))
    assert len(open_store(s3_root).files("labels")) == 2
    assert writer.counts()["dropped"] == 0


def test_a_long_outage_drops_the_oldest_rows_and_counts_them(s3_root, lossy, tmp_path):
    """The spool stays within its bytes; what is left are the newest rows, each once."""
    limit = 40_000
    writer = writer_of(s3_root, tmp_path, max_spool_bytes=limit)
    lossy.mode = "refuse"
    for start in range(0, 4000, 100):
        for number in range(start, start + 100):
            writer.append(label(number))
        writer.spool_now()
        size = sum(path.stat().st_size for path in (tmp_path / "spool").rglob("*.spool"))
        assert size <= limit
    with pytest.raises(OSError, match="S3"):
        writer.flush()
    lossy.mode = "pass"
    num_written = writer.flush()
    assert writer.num_dropped == 4000 - num_written > 0
    assert ids(s3_root) == list(range(4000 - num_written, 4000))


def test_a_segment_of_other_rows_is_not_taken_for_ours(s3_root, tmp_path):
    """Somebody put another file under our name: ours is set aside, not lost, and counted."""
    writer = writer_of(s3_root, tmp_path)
    writer.append(label(1))
    writer.spool_now()
    writer._spool.seal()
    (file,) = writer._spool.sealed
    table = read_spool_file(file.path, LABEL_SCHEMA).table
    key = segment_key("labels", "2026-03-01", file.name)
    open_store(s3_root).put_new(key, segment_bytes(table, Origin(digest="another")))
    assert writer.flush() == 0
    assert writer.num_dropped == 1
    (aside,) = (tmp_path / "spool").rglob(".damaged/*.spool")
    assert read_spool_file(aside, LABEL_SCHEMA).table.num_rows == 1


async def features(_):
    """Return features."""
    return "e" * 64, np.zeros(2, dtype=np.float32)


async def test_labels_are_acknowledged_within_the_outage(s3_root, lossy, tmp_path):
    """They are safe on disk; forty calls at once share few syncs; all arrive when it is over."""
    lossy.mode = "refuse"
    recorder = OutcomeRecorder(s3_root, flush_s=0.05, features=features, spool=tmp_path / "spool")
    running = asyncio.create_task(recorder.run())
    started_s = time.monotonic()
    await asyncio.gather(*(recorder.add_labels([label(number)]) for number in range(40)))
    assert time.monotonic() - started_s < 2
    assert recorder.log_counts()["labels"]["spooled"] == 40
    lossy.mode = "pass"
    for _ in range(400):
        if recorder.counts()["labels_written"] == 40:
            break
        await asyncio.sleep(0.05)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert sorted(ids(s3_root)) == list(range(40))
