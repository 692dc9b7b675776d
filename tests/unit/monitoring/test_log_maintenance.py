"""Upkeep changes files, never rows, except those that somebody wants gone."""

import os
import threading
from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from written_logs import Log

from monitoring import log_maintenance, log_reader, segment_merge
from monitoring.log_maintenance import apply_deletions, compact, delete, retain
from monitoring.log_reader import live_segments, read_table, scan
from monitoring.outcome import OUTCOME_SCHEMA
from monitoring.segment import Origin, segment_bytes
from monitoring.segment_merge import LogBusyError, groups_of_a_day, merge, remove_replaced
from monitoring.segment_store import StoredFile, segment_key
from router.errors import InvalidInputError

TODAY = date(2026, 3, 10)


def test_compaction_leaves_one_file_a_day_and_every_row(log):
    """Two closed days of three segments become one each; a plain reader sees each row once."""
    for number in range(6):
        log.write(number, days=number % 2)
    before = read_table(log.root, "outcomes").sort_by("query_sha256")
    done = compact(log.store, today=TODAY)
    assert (done.num_merged, done.num_removed) == (4, 12)
    assert log.files() == ["merged-00000000", "merged-00000000"]
    assert read_table(log.root, "outcomes").sort_by("query_sha256").equals(before)
    assert len(pd.read_parquet(log.root / "outcomes")) == 6
    assert compact(log.store, today=TODAY).num_merged == 0


def test_large_segments_are_read_and_written_in_parts(log, monkeypatch):
    """Many row groups, read one after the other, hold the same rows in the same order."""
    for number in range(5):
        log.write(number)
    before = read_table(log.root, "outcomes")
    monkeypatch.setattr(segment_merge, "ROW_GROUP_BYTES", 1)
    monkeypatch.setattr(log_reader, "_GROUP_BYTES", 1)
    compact(log.store, today=TODAY)
    (file,) = log.store.files("outcomes")
    assert pq.read_metadata(log.root / file.key).num_row_groups == 5
    assert read_table(log.root, "outcomes").equals(before)
    found = scan(log.root, "outcomes", ["status"], pc.field("decision_id") == "d3")
    assert [batch.to_pylist() for batch in found] == [[{"status": "ok"}]]


def test_a_compaction_while_a_table_is_read_is_waited_out(log, monkeypatch):
    """The files that were listed are gone when they are opened: the table is read anew."""
    for number in range(3):
        log.write(number)
    real, lists = log_reader.live_segments, []

    def list_then_compact(store, table, **options):
        files = real(store, table, **options)
        if not lists:
            lists.append(files)
            with monkeypatch.context() as patch:
                patch.setattr(log_reader, "live_segments", real)
                compact(log.store, today=TODAY)
        return files

    monkeypatch.setattr(log_reader, "live_segments", list_then_compact)
    assert log.ids() == [0, 1, 2]
    assert len(lists[0]) == 3


def test_today_is_left_to_its_writers(log):
    """Only closed days are compacted; what comes late is merged by the next run."""
    for number in range(2):
        log.write(number)
    assert compact(log.store, today=date(2026, 3, 1)).num_merged == 0
    compact(log.store, today=TODAY)
    log.write(2)
    compact(log.store, today=TODAY)
    assert log.files() == ["merged-00000001"]
    assert log.ids() == [0, 1, 2]


def test_segments_of_a_day_are_grouped_by_size(log):
    """Groups stay within the target, and never mix days; large files are not touched again."""
    files = [
        StoredFile(f"labels/date=2026-03-0{d}/f-{n}.parquet", 40) for d in (1, 2) for n in "abc"
    ]
    groups = list(groups_of_a_day(files, 100))
    assert [len(group) for group in groups] == [2, 1, 2, 1]
    assert all(len({file.date for file in group}) == 1 for group in groups)
    log.write(1)
    log.write(2)
    names, sizes = log.files(), [file.size_bytes for file in log.store.files("outcomes")]
    compact(log.store, today=TODAY, target_bytes=min(sizes))
    assert log.files() == names


class KilledError(Exception):
    """The process died here."""


class DyingStore:
    """A store whose process dies at the n-th change."""

    def __init__(self, store, num_changes):
        """Take the store, and how many changes succeed."""
        self._store, self._left = store, num_changes

    def __getattr__(self, name):
        """Pass reading on."""
        return getattr(self._store, name)

    def _change(self):
        if self._left == 0:
            raise KilledError
        self._left -= 1

    def put_new(self, key, data):
        """Die, or put."""
        self._change()
        return self._store.put_new(key, data)

    def delete(self, key):
        """Die, or delete."""
        self._change()
        self._store.delete(key)


@pytest.mark.parametrize("num_changes", range(16))
def test_a_killed_compaction_shows_each_row_once_and_is_finished_by_the_next(log, num_changes):
    """Wherever it dies, our readers see every row once, then and after the next run."""
    for number in range(3):
        log.write(number, days=0)
    try:
        compact(DyingStore(log.store, num_changes), today=TODAY)
    except KilledError:
        assert log.ids() == log.ids("labels") == [0, 1, 2]
    compact(log.store, today=TODAY)
    assert log.files() == ["merged-00000000"]
    assert log.ids() == log.ids("labels") == [0, 1, 2]


@pytest.mark.parametrize("num_changes", range(16))
def test_a_killed_deletion_is_finished_by_the_next_run(log, num_changes):
    """The wish is recorded first, so no run has to be told it again."""
    for number in range(3):
        log.write(number)
    try:
        delete(DyingStore(log.store, num_changes), now=log._make().time, decision_ids=["d1"])
    except KilledError:
        assert set(log.ids()) >= {0, 2}
        if num_changes < 4:  # the probe of the store takes three
            assert log.ids() == [0, 1, 2]
            return
    apply_deletions(log.store)
    assert log.ids() == log.ids("labels") == [0, 2]
    everything = pd.read_parquet(log.root / "outcomes")
    assert sorted(everything["decision_id"]) == ["d0", "d2"]


def test_a_second_commit_of_a_merged_segment_adds_no_row(log):
    """A writer whose acknowledgement was lost puts its segment again, after the compaction."""
    for number in range(3):
        log.write(number)
    first = log.store.files("outcomes")[0]
    data = (log.root / first.key).read_bytes()
    compact(log.store, today=TODAY)
    log.write(3)
    compact(log.store, today=TODAY)
    assert log.store.put_new(first.key, data)
    assert log.ids() == [0, 1, 2, 3]
    compact(log.store, today=TODAY)
    assert log.files() == ["merged-00000001"]


def test_of_two_runs_that_merge_one_day_one_is_refused(log):
    """Whether the other committed before or after the first one looked."""
    for number in range(2):
        log.write(number)
    live = live_segments(log.store, "outcomes")
    merge(log.store, "outcomes", live)
    with pytest.raises(LogBusyError, match="run again"):
        merge(log.store, "outcomes", live)
    assert log.ids() == [0, 1]


@pytest.mark.parametrize("round_number", range(5))
def test_racing_runs_lose_and_double_nothing(log, round_number):
    """Four compactions at once: each is done or told that another was first."""
    for number in range(4):
        log.write(number)
    barrier, refusals = threading.Barrier(4), []

    def run():
        barrier.wait()
        try:
            compact(log.store, today=TODAY)
        except OSError as error:
            refusals.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refusals) < 4, round_number
    assert all(isinstance(error, LogBusyError | FileNotFoundError) for error in refusals)
    assert log.ids() == log.ids("labels") == [0, 1, 2, 3]
    compact(log.store, today=TODAY)
    assert len(log.files()) == 1


def test_a_column_of_a_newer_version_survives(log):
    """An older compaction does not take away what a newer writer wrote."""
    log.write(1)
    schema = OUTCOME_SCHEMA.append(pa.field("mood", pa.string()))
    row = log._make(2).row() | {"mood": "good"}
    table = pa.Table.from_pylist([row], schema=schema)
    key = segment_key("outcomes", "2026-03-01", "newer-00000000")
    log.store.put_new(key, segment_bytes(table, Origin(digest="n")))
    compact(log.store, today=TODAY)
    (file,) = log.store.files("outcomes")
    assert sorted(map(str, pq.read_table(log.root / file.key)["mood"].to_pylist())) == [
        "None", "good",
    ]  # fmt: skip


def test_what_a_killed_writer_left_half_written_is_removed(log):
    """Once it is old: a young one may be in the making."""
    log.write(1)
    folder = log.root / "outcomes" / "date=2026-03-01"
    old, young = (folder / f".one-00000001.parquet.{name}" for name in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"PAR1")
    os.utime(old, (0, datetime(2026, 3, 8, 23, tzinfo=UTC).timestamp()))
    os.utime(young, (0, datetime(2026, 3, 9, 1, tzinfo=UTC).timestamp()))
    compact(log.store, today=TODAY)
    assert (old.exists(), young.exists()) == (False, True)


def test_retention_drops_whole_days(log):
    """Seven days before today are kept, with today; older ones go from every table."""
    for number, days in enumerate((0, 1, 2, 8, 9)):
        log.write(number, days=days)
    done = retain(log.store, days=7, today=TODAY)
    assert done.num_removed == 4
    assert log.ids() == log.ids("labels") == [2, 3, 4]
    assert not (log.root / "outcomes" / "date=2026-03-01").exists()
    with pytest.raises(InvalidInputError, match="days"):
        retain(log.store, days=0, today=TODAY)


def test_a_deleted_decision_goes_with_its_labels_and_stays_away(log):
    """From raw files too; and when its rows come late from a spool, the next run takes them."""
    for number in range(3):
        log.write(number)
    done = delete(log.store, now=log._make().time, decision_ids=["d1"])
    assert done.num_deleted_rows == 2
    assert log.ids() == log.ids("labels") == [0, 2]
    for table in ("outcomes", "labels"):
        assert len(pd.read_parquet(log.root / table)) == 2
    log.write(1)
    assert log.ids() == [0, 1, 2]
    compact(log.store, today=TODAY)
    assert log.ids() == log.ids("labels") == [0, 2]


def test_a_tenant_goes_until_the_time_of_the_wish(log):
    """Its later outcomes stay, those of others and of none too; late labels of its own go."""
    now = log._make().time + timedelta(seconds=10)
    log.write(0)
    log.write(1, tenant="other")
    log.write(2, tenant=None)
    log.write(20)
    done = delete(log.store, now=now, tenant="acme")
    assert done.num_deleted_rows == 2
    assert log.ids() == log.ids("labels") == [1, 2, 20]
    log._writers["labels"].append(log._label(0))
    log._writers["labels"].flush()
    assert apply_deletions(log.store).num_deleted_rows == 1
    assert log.ids("labels") == [1, 2, 20]


def test_a_log_without_wishes_is_left_alone(log):
    """Nothing is read twice and nothing written."""
    log.write(1)
    assert apply_deletions(log.store) == log_maintenance.Upkeep()
    assert delete(log.store, now=log._make().time) == log_maintenance.Upkeep()
    assert log.store.files("deletions") == []


def test_a_store_that_overwrites_is_refused(log):
    """Two runs could then take each other's rows away."""

    class Overwriting(DyingStore):
        def put_new(self, key, data):
            self._store.delete(key)
            return self._store.put_new(key, data)

    store = Overwriting(log.store, 10**6)
    with pytest.raises(InvalidInputError, match="If-None-Match"):
        compact(store, today=TODAY)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.sampled_from(["write", "compact", "delete", "repeat"]), max_size=8))
def test_any_sequence_keeps_exactly_the_rows_that_were_not_deleted(
    tmp_path_factory, outcome, label, decision, steps
):
    """Writing, compacting, deleting and second commits, in any order."""
    log = Log(tmp_path_factory.mktemp("log"), outcome, label, decision)
    expected, number, segments = set(), 0, {}
    for step in steps:
        if step == "write":
            log.write(number)
            expected.add(number)
            number += 1
            for file in log.store.files("outcomes"):
                segments.setdefault(file.key, (log.root / file.key).read_bytes())
        elif step == "compact":
            compact(log.store, today=TODAY)
        elif step == "delete" and expected:
            gone = min(expected)
            expected.discard(gone)
            delete(log.store, now=outcome().time, decision_ids=[f"d{gone}"])
        elif step == "repeat":
            for key, data in segments.items():
                if "merged" not in key:
                    log.store.put_new(key, data)
        assert set(log.ids()) == expected
        assert len(log.ids()) == len(expected)
    remove_replaced(log.store, "outcomes")
    assert sorted(log.ids()) == sorted(expected)
