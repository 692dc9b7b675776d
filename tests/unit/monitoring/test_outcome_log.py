"""What is appended can be read back, whole, or is counted as lost."""

import contextlib
import errno
import os
import re
import tempfile
import threading
import time
from datetime import UTC, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from written_logs import hashes, segments, spooled, write

from monitoring.frames import frame_header
from monitoring.outcome import LABEL_SCHEMA, OUTCOME_SCHEMA, Label
from monitoring.outcome_log import SegmentWriter, SpoolLimits, read_table, spool_folder
from monitoring.spool import read_spool_file
from router.errors import InvalidInputError


@pytest.fixture
def writer(tmp_path):
    """Return a writer of outcomes."""
    return SegmentWriter(tmp_path, "outcomes", writer="one")


def test_an_outcome_comes_back_with_every_column(tmp_path, outcome):
    """All values are what float32 and microseconds can hold, so they come back equal."""
    row = outcome().row()
    assert not [name for name, value in row.items() if value is None]
    assert write(tmp_path, "outcomes", [outcome()]) == 1
    (found,) = read_table(tmp_path, "outcomes").to_pylist()
    listed = {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in row.items()
    }
    listed = {
        name: list(value) if isinstance(value, tuple) else value for name, value in listed.items()
    }
    assert found == listed


def test_a_segment_has_the_schema(tmp_path, outcome, label):
    """Types are those of the contract, whatever the rows hold."""
    write(tmp_path, "outcomes", [outcome(tenant=None, usage=None)])
    write(tmp_path, "labels", [label()])
    assert read_table(tmp_path, "outcomes").schema.equals(OUTCOME_SCHEMA)
    assert read_table(tmp_path, "labels").schema.equals(LABEL_SCHEMA)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.builds(
            Label,
            time=st.datetimes(
                min_value=pd.Timestamp("1970-01-01").to_pydatetime(),
                max_value=pd.Timestamp("2200-01-01").to_pydatetime(),
                timezones=st.just(UTC),
            ),
            decision_id=st.text(st.characters(codec="utf-8"), max_size=8),
            score=st.floats(0, 1, width=32),
            source=st.text(st.characters(codec="utf-8"), max_size=8),
            grader_version=st.just(""),
        ),
        max_size=5,
    )
)
def test_any_label_comes_back(labels):
    """Times of all dates, texts of all scripts, and none at all."""
    with tempfile.TemporaryDirectory() as folder:
        assert write(Path(folder), "labels", labels) == len(labels)
        found = read_table(Path(folder), "labels").to_pylist()
    key = repr
    assert sorted(found, key=key) == sorted((one.row() for one in labels), key=key)


def test_rows_lie_under_their_date(tmp_path, outcome):
    """A row of 23:59:59 UTC and one of the next second lie in two folders."""
    late = outcome().time.replace(hour=23, minute=59, second=59)
    write(tmp_path, "outcomes", [outcome(time=late), outcome(time=late + timedelta(seconds=1))])
    found = [re.sub("-[0-9a-f]{8}-", "-", str(path)) for path in segments(tmp_path)]
    assert found == [
        "outcomes/date=2026-03-01/one-00000000.parquet",
        "outcomes/date=2026-03-02/one-00000000.parquet",
    ]


def test_a_flush_writes_what_came_since_the_last(tmp_path, writer, outcome):
    """Each has its own segment; one without rows writes none."""
    assert writer.flush() == 0
    assert not segments(tmp_path)
    for number in range(2):
        writer.append(outcome(number))
        assert writer.flush() == 1
    assert len(segments(tmp_path)) == 2
    assert hashes(tmp_path) == [0, 1]
    assert writer.num_written == 2


def test_two_writers_do_not_collide(tmp_path, outcome):
    """A token makes the names of two writers differ, even where they were given one name."""
    for name, number in (("one", 1), ("one", 2)):
        write(tmp_path, "outcomes", [outcome(number)], name=name)
    assert hashes(tmp_path) == [1, 2]


def test_rows_survive_a_folder_that_cannot_be_written(tmp_path, writer, outcome):
    """The flush fails and says so; once the folder is there, the rows are written in order."""
    obstacle = tmp_path / "outcomes"
    obstacle.write_text("a file where the folder should be")
    writer.append(outcome(1))
    with pytest.raises(OSError, match="outcomes"):
        writer.flush()
    writer.append(outcome(2))
    assert writer.num_written == 0
    obstacle.unlink()
    assert writer.flush() == 2
    assert hashes(tmp_path) == [1, 2]


def test_one_bad_date_does_not_repeat_the_others(tmp_path, writer, outcome):
    """Rows that were written before the failure are not written again."""
    obstacle = tmp_path / "outcomes" / "date=2026-03-02"
    obstacle.parent.mkdir()
    obstacle.write_text("in the way")
    for number, days in ((1, 0), (2, 1), (3, 2)):
        writer.append(outcome(number, days=days))
    with pytest.raises(OSError, match="date=2026-03-02"):
        writer.flush()
    assert writer.num_written == 1
    obstacle.unlink()
    assert writer.flush() == 2
    assert hashes(tmp_path) == [1, 2, 3]
    assert writer.num_written == 3


def test_a_full_buffer_drops_the_oldest_and_counts_them(tmp_path, outcome):
    """Of five rows in a buffer of three the first two are lost, and known to be."""
    limits = SpoolLimits(max_buffered_rows=3)
    writer = SegmentWriter(tmp_path, "outcomes", writer="one", limits=limits)
    for number in range(5):
        writer.append(outcome(number))
    assert writer.num_dropped == 2
    assert writer.flush() == 3
    assert hashes(tmp_path) == [2, 3, 4]


def test_the_buffer_stays_bounded_while_the_spool_fails(tmp_path, outcome):
    """Two rows wait and three more come: the oldest two of five are dropped."""
    obstacle = tmp_path / "spool"
    obstacle.write_text("a file where the folder should be")
    limits = SpoolLimits(max_buffered_rows=3)
    writer = SegmentWriter(tmp_path, "outcomes", writer="one", spool=obstacle, limits=limits)
    for count in (2, 3):
        for number in range(count):
            writer.append(outcome(10 * count + number))
        with pytest.raises(OSError, match="spool"):
            writer.flush()
    assert (writer.num_dropped, writer.num_spooled) == (2, 0)
    obstacle.unlink()
    assert writer.flush() == 3
    assert hashes(tmp_path) == [30, 31, 32]


def test_a_spool_that_fails_does_not_keep_the_store_waiting(tmp_path, outcome, monkeypatch):
    """A full disk refuses new rows; what lies in the spool is committed, which makes room."""
    writer = SegmentWriter(tmp_path, "outcomes", writer="one")
    writer.append(outcome(1))
    with monkeypatch.context() as patch:
        patch.setattr(writer, "_ship_sealed", lambda: None)
        writer.flush()

    def refuse(*_):
        raise OSError(errno.ENOSPC, "no space left on device")

    writer.append(outcome(2))
    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", refuse)
        with pytest.raises(OSError, match="no space"):
            writer.flush()
    assert hashes(tmp_path) == [1]
    assert writer.flush() == 1
    assert hashes(tmp_path) == [1, 2]


def test_started_writers_spool_rows_as_they_come(tmp_path, outcome):
    """Without a flush a row is on disk within moments; the next writer commits it."""
    writer = SegmentWriter(tmp_path, "outcomes", writer="one")
    writer.start()
    writer.append(outcome(1))
    deadline = time.monotonic() + 5
    while writer.num_spooled < 1 and time.monotonic() < deadline:
        time.sleep(0.001)
    (path,) = spooled(tmp_path)
    assert read_spool_file(path, OUTCOME_SCHEMA).table.num_rows == 1
    writer.append(outcome(2))
    writer.close()
    assert hashes(tmp_path) == []
    heir = SegmentWriter(tmp_path, "outcomes", writer="two")
    assert heir.flush() == 2
    heir.close()
    assert hashes(tmp_path) == [1, 2]
    assert not [path for path in (tmp_path / ".spool").rglob("*") if path.is_file()]


def test_a_living_writers_rows_are_its_own(tmp_path, outcome):
    """A flush of another writer leaves them."""
    first, second = (SegmentWriter(tmp_path, "outcomes", writer=name) for name in ("a", "b"))
    first.append(outcome(1))
    first.spool_now()
    assert second.flush() == 0
    assert first.flush() == 1


@pytest.mark.parametrize("changes", [{"source": "\ud800"}, {"source": 5}, {"score": 1j}])
def test_safe_rows_are_synced_and_misfits_refused(tmp_path, label, changes):
    """One offer with a value that fits no column is refused whole; its neighbour is kept."""
    writer = SegmentWriter(tmp_path, "labels", writer="one")
    bad = writer.offer_durably([label(1), label(2, **changes)])
    good = writer.offer_durably([label(3)])
    with pytest.raises(InvalidInputError, match="labels"):
        writer.settle(bad)
    writer.settle(good)
    assert good.is_safe
    (path,) = spooled(tmp_path)
    assert read_spool_file(path, LABEL_SCHEMA).table["decision_id"].to_pylist() == ["d3"]


def test_a_full_spool_of_safe_rows_refuses_new_ones(tmp_path, label):
    """What was acknowledged is never dropped to make room."""
    limits = SpoolLimits(max_spool_bytes=2000, drops_oldest=False)
    writer = SegmentWriter(tmp_path, "labels", writer="one", limits=limits)

    def is_taken(number):
        offer = writer.offer_durably([label(number)])
        with contextlib.suppress(OSError):
            writer.settle(offer)
        return offer.is_safe

    taken = [is_taken(number) for number in range(30)]
    assert taken == sorted(taken, reverse=True)
    num_safe = sum(taken)
    assert 0 < num_safe < 30
    with pytest.raises(OSError, match="full"):
        writer.settle(writer.offer_durably([label(1)]))
    assert writer.num_dropped == 0
    assert writer.flush() == num_safe
    writer.settle(writer.offer_durably([label(1)]))


def test_a_spool_file_of_another_version_is_set_aside(tmp_path, outcome):
    """Its frames are sound and hold no rows: the rest goes on, and the loss is counted."""
    writer = SegmentWriter(tmp_path, "outcomes", writer="one")
    for number in (1, 2):
        writer.append(outcome(number))
        writer.spool_now()
        writer._spool.seal()
    payload = OUTCOME_SCHEMA.serialize().to_pybytes()
    first = spooled(tmp_path)[0]
    first.write_bytes(frame_header(memoryview(payload), 1) + payload)
    assert writer.flush() == 1
    assert hashes(tmp_path) == [2]
    assert writer.num_dropped == 1
    assert [path.parent.name for path in spooled(tmp_path)] == [".damaged"]


def test_rows_that_the_disk_altered_are_counted(tmp_path, outcome):
    """Of three frames the middle one is damaged: two rows are committed, one is known lost."""
    writer = SegmentWriter(tmp_path, "outcomes", writer="one")
    for number in (1, 2, 3):
        writer.append(outcome(number))
        writer.spool_now()
    (path,) = spooled(tmp_path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert writer.flush() == 2
    assert hashes(tmp_path) == [1, 3]
    assert writer.num_dropped == 1


def test_misfits_are_counted_once_whatever_the_store_does(tmp_path, writer, outcome):
    """A flush that fails after the rows were laid out counts nothing yet."""
    obstacle = tmp_path / "outcomes"
    obstacle.write_text("a file where the folder should be")
    for row in (outcome(1), outcome(2, pool_age_s="old")):
        writer.append(row)
    for _ in range(2):
        with pytest.raises(OSError, match="outcomes"):
            writer.flush()
    assert writer.num_dropped == 0
    obstacle.unlink()
    assert writer.flush() == 1
    assert writer.num_dropped == 1


def test_a_log_elsewhere_needs_a_local_spool(tmp_path):
    """Without one there is no place that survives; other addresses than S3's are unknown."""
    with pytest.raises(InvalidInputError, match="outcome_log_spool"):
        SegmentWriter("s3://bucket/log", "outcomes", writer="one")
    with pytest.raises(InvalidInputError, match="neither"):
        SegmentWriter("gs://bucket/log", "outcomes", writer="one", spool=tmp_path)
    folders = {spool_folder(root, tmp_path) for root in ("s3://a/b", "s3://a/c", tmp_path / "x")}
    assert len(folders) == 3
    assert spool_folder("s3://a/b", tmp_path) == spool_folder(Path("s3://a/b"), tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"query_sha256": "\ud800"},
        {"pool_age_s": "old"},
        {"requested_model": 5},
        {"pool_age_s": 1j},
        {"pool_age_s": 1 << 64},
    ],
)
def test_a_row_that_fits_no_column_takes_no_other_with_it(tmp_path, writer, outcome, changes):
    """Half a surrogate pair, a word for a number, no number at all: that row is counted."""
    for row in (outcome(1), outcome(2, **changes), outcome(3)):
        writer.append(row)
    assert writer.flush() == 2
    assert hashes(tmp_path) == [1, 3]
    assert (writer.num_written, writer.num_dropped) == (2, 1)
    writer.append(outcome(4))
    assert writer.flush() == 1


def test_a_segment_of_nothing_but_misfits_is_not_written(tmp_path, writer, outcome):
    """There is nothing to read, and no empty file."""
    writer.append(outcome(query_sha256="\ud800"))
    assert writer.flush() == 0
    assert not segments(tmp_path)
    assert writer.num_dropped == 1


def test_rows_that_arrive_while_others_are_written_are_kept(tmp_path, writer, outcome):
    """Four threads append, a fifth flushes: each row is written once."""
    finished = threading.Event()

    def append(start):
        for number in range(start, start + 50):
            writer.append(outcome(number))

    def flush():
        while not finished.is_set():
            writer.flush()

    flusher = threading.Thread(target=flush)
    threads = [threading.Thread(target=append, args=(50 * i,)) for i in range(4)]
    for thread in (flusher, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    finished.set()
    flusher.join()
    writer.flush()
    assert hashes(tmp_path) == list(range(200))
