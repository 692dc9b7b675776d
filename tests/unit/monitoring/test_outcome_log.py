"""What is appended can be read back, whole, or is counted as lost."""

import tempfile
import threading
from datetime import UTC, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.outcome import LABEL_SCHEMA, OUTCOME_SCHEMA, Label
from monitoring.outcome_log import TABLES, SegmentWriter, read_table


@pytest.fixture
def writer(tmp_path):
    """Return a writer of outcomes."""
    return SegmentWriter(tmp_path, "outcomes", writer="one")


def write(root, table, rows, *, name="one"):
    """Append rows and write them at once."""
    writer = SegmentWriter(root, table, writer=name)
    for row in rows:
        writer.append(row)
    return writer.flush()


def segments(root):
    """Return the files of the log, temporary ones included."""
    return sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())


def hashes(root):
    """Return the query hashes in the log, as numbers, sorted."""
    column = read_table(root, "outcomes", columns=["query_sha256"])["query_sha256"]
    return sorted(int(value, 16) for value in column.to_pylist())


def test_an_outcome_comes_back_with_every_column(tmp_path, outcome):
    """All values are what float32 and microseconds can hold, so they come back equal."""
    row = outcome().row()
    assert None not in row.values()
    assert write(tmp_path, "outcomes", [outcome()]) == 1
    (found,) = read_table(tmp_path, "outcomes").to_pylist()
    listed = {
        name: list(value) if isinstance(value, tuple) else value for name, value in row.items()
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
    assert [str(path) for path in segments(tmp_path)] == [
        "outcomes/date=2026-03-01/one-00000000.parquet",
        "outcomes/date=2026-03-02/one-00000001.parquet",
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
    """Segments are named after their writer, so processes need no lock between them."""
    for name, number in (("one", 1), ("two", 2)):
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
    writer = SegmentWriter(tmp_path, "outcomes", writer="one", max_buffered=3)
    for number in range(5):
        writer.append(outcome(number))
    assert writer.num_dropped == 2
    assert writer.flush() == 3
    assert hashes(tmp_path) == [2, 3, 4]


class Crowd:
    """A row in whose course others arrive, as they do while a slow disk is written."""

    def __init__(self, outcome, writer, arriving):
        """Take the row to be, and who arrives."""
        self._outcome, self._writer, self._arriving = outcome, writer, list(arriving)

    @property
    def time(self):
        """Return the time; the others arrive now."""
        while self._arriving:
            self._writer.append(self._arriving.pop())
        return self._outcome.time

    def row(self):
        """Return the outcome's columns."""
        return self._outcome.row()


def test_the_buffer_stays_bounded_while_writing_fails(tmp_path, outcome):
    """Three kept and three that arrived meanwhile make six; the oldest three are dropped."""
    (tmp_path / "outcomes").write_text("in the way")
    writer = SegmentWriter(tmp_path, "outcomes", writer="one", max_buffered=3)
    writer.append(Crowd(outcome(0), writer, [outcome(5), outcome(4), outcome(3)]))
    writer.append(outcome(1))
    writer.append(outcome(2))
    with pytest.raises(OSError, match="outcomes"):
        writer.flush()
    assert writer.num_dropped == 3
    (tmp_path / "outcomes").unlink()
    assert writer.flush() == 3
    assert hashes(tmp_path) == [3, 4, 5]


@pytest.mark.parametrize(
    "changes", [{"query_sha256": "\ud800"}, {"pool_age_s": "old"}, {"requested_model": 5}]
)
def test_a_row_that_fits_no_column_takes_no_other_with_it(tmp_path, writer, outcome, changes):
    """Half a surrogate pair, a word for a number: that row is dropped and counted."""
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


def test_a_segment_in_the_making_is_not_read(tmp_path, outcome):
    """Readers skip dotted names: half a file is nobody's row."""
    write(tmp_path, "outcomes", [outcome(1)])
    folder = tmp_path / "outcomes" / "date=2026-03-01"
    (folder / ".two-00000000.parquet").write_bytes(b"PAR1 and no more")
    assert hashes(tmp_path) == [1]
    assert len(pd.read_parquet(tmp_path / "outcomes")) == 1


def test_no_temporary_file_stays(tmp_path, outcome):
    """After a flush there are whole segments only."""
    write(tmp_path, "outcomes", [outcome()])
    assert not [path for path in segments(tmp_path) if path.name.startswith(".")]


@pytest.mark.parametrize("table", TABLES)
def test_a_log_nobody_wrote_is_empty_with_the_right_columns(tmp_path, table):
    """Without a folder, and with an empty one."""
    for root in (tmp_path / "absent", tmp_path):
        (tmp_path / table).mkdir(exist_ok=True)
        found = read_table(root, table)
        assert (found.num_rows, found.schema) == (0, TABLES[table])
        some = read_table(root, table, columns=("time", "decision_id"))
        assert some.column_names == ["time", "decision_id"]


def test_reading_takes_columns_and_filters(tmp_path, outcome):
    """A filter may speak of columns that are not read."""
    write(tmp_path, "outcomes", [outcome(1), outcome(2, answered_by="small")])
    found = read_table(
        tmp_path,
        "outcomes",
        columns=["query_sha256"],
        filters=pc.field("answered_by") == "small",
    )
    assert found.to_pylist() == [{"query_sha256": f"{2:064x}"}]


def test_a_segment_of_an_older_version_reads_with_nulls(tmp_path, outcome):
    """A column that was added since is null in rows that were written before."""
    write(tmp_path, "outcomes", [outcome(1)])
    path = tmp_path / "outcomes" / "date=2026-03-01" / "old-00000000.parquet"
    row = outcome(2).row()
    del row["tenant"]
    pq.write_table(pa.Table.from_pylist([row], schema=_without(OUTCOME_SCHEMA, "tenant")), path)
    found = read_table(tmp_path, "outcomes", columns=["tenant"])
    assert sorted(map(str, found["tenant"].to_pylist())) == ["None", "acme"]


def _without(schema, name):
    return schema.remove(schema.get_field_index(name))


def test_pandas_reads_the_log_as_it_lies(tmp_path, outcome):
    """Without Pointsman: a folder of Parquet, partitioned by date."""
    write(tmp_path, "outcomes", [outcome(1), outcome(2, days=1)])
    frame = pd.read_parquet(tmp_path / "outcomes")
    assert [name for name in frame.columns if name != "date"] == OUTCOME_SCHEMA.names
    assert sorted(frame["date"].astype(str)) == ["2026-03-01", "2026-03-02"]
    assert frame["attempts"].iloc[0][0]["error"] == "it went away"
    assert str(frame["time"].dt.tz) == "UTC"
