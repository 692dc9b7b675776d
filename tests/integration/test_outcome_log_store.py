"""One contract for every store of segments: a local folder, and S3 over HTTP."""

from __future__ import annotations

import json
import threading
from datetime import UTC, date, datetime

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from monitoring.log_cli import app
from monitoring.outcome import Label
from monitoring.outcome_log import SegmentWriter, read_table, scan
from monitoring.segment_store import S3Store, StoredFile, StoreError, keeps_first, open_store

KEY = "labels/date=2026-03-01/one-00000000.parquet"


@pytest.fixture(params=["local", "s3"])
def root(request, tmp_path):
    """Return the address of an empty log."""
    return (
        str(tmp_path / "log") if request.param == "local" else request.getfixturevalue("s3_root")
    )


@pytest.fixture
def store(root):
    """Return the store of an empty log."""
    return open_store(root)


def content(store, key):
    """Return what lies under a key."""
    with store.filesystem.open_input_stream(store.path(key)) as source:
        return source.read()


def test_a_file_is_stored_once(store, tmp_path):
    """The second of two files of one key is refused, and the first stays as it is."""
    assert store.put_new(KEY, b"first")
    assert not store.put_new(KEY, b"second")
    (tmp_path / "third").write_bytes(b"third")
    assert not store.put_new(KEY, tmp_path / "third")
    assert content(store, KEY) == b"first"
    assert keeps_first(store)
    assert store.files("labels") == [StoredFile(KEY, 5)]


def test_a_file_comes_from_memory_or_from_disk(store, tmp_path):
    """Both arrive whole."""
    data = bytes(range(256)) * 9000
    (tmp_path / "large").write_bytes(data)
    assert store.put_new(KEY, tmp_path / "large")
    assert content(store, KEY) == data


def test_of_racing_writers_one_is_first(store):
    """Eight threads put eight contents under each of five keys: one is told it was first."""
    for number in range(5):
        key = f"labels/date=2026-03-01/race-{number:08d}.parquet"
        barrier, firsts = threading.Barrier(8), []

        def put(place, key=key, barrier=barrier, firsts=firsts):
            barrier.wait()
            if store.put_new(key, b"%d" % place):
                firsts.append(b"%d" % place)

        threads = [threading.Thread(target=put, args=(place,)) for place in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert firsts == [content(store, key)]


def test_files_are_listed_by_table_and_day(store):
    """Ends included, sorted; other tables and other files are not seen."""
    days = ("2026-02-28", "2026-03-01", "2026-03-02")
    keys = [f"labels/date={day}/one-{n:08d}.parquet" for day in days for n in range(2)]
    for key in (*reversed(keys), "labelsx/date=2026-03-01/a-0.parquet", "labels/date=x/a.parquet"):
        store.put_new(key, b"x")
    store.put_new("labels/date=2026-03-01/notes.txt", b"x")
    assert [file.key for file in store.files("labels")] == keys
    assert [file.key for file in store.files("labels", since=date(2026, 3, 1))] == keys[2:]
    assert [file.key for file in store.files("labels", until=date(2026, 3, 1))] == keys[:4]
    assert [file.date for file in store.files("labels")][::2] == list(days)
    assert store.files("outcomes") == []


def test_a_deleted_file_is_gone_and_may_be_deleted_again(store):
    """A second run of the same deletion changes nothing."""
    store.put_new(KEY, b"x")
    for _ in range(2):
        store.delete(KEY)
        assert store.files("labels") == []
    assert store.put_new(KEY, b"y")


def test_an_absent_file_is_an_error_of_the_file_system(store):
    """Readers tell it from an outage."""
    with pytest.raises(FileNotFoundError):
        content(store, KEY)


def labels(first, count):
    """Return labels of one day, one a minute."""
    return [
        Label(
            time=datetime(2026, 3, 1, 12, number % 60, tzinfo=UTC),
            decision_id=f"d{number}",
            score=0.5,
            source="user",
        )
        for number in range(first, first + count)
    ]


def test_rows_go_through_spool_and_store_and_come_back(root, tmp_path):
    """Nothing is left in the spool, and the segment is readable Parquet with checked pages."""
    writer = SegmentWriter(root, "labels", writer="one", spool=tmp_path / "spool")
    for label in labels(0, 100):
        writer.append(label)
    assert writer.flush() == 100
    writer.close()
    assert not [path for path in (tmp_path / "spool").rglob("*") if path.is_file()]
    rows = read_table(root, "labels", columns=["decision_id"]).to_pylist()
    assert [row["decision_id"] for row in rows] == [f"d{number}" for number in range(100)]
    assert sum(batch.num_rows for batch in scan(root, "labels", since=date(2026, 3, 2))) == 0
    store = open_store(root)
    with store.filesystem.open_input_file(store.path(store.files("labels")[0].key)) as source:
        assert pq.ParquetFile(source, page_checksum_verification=True).read().num_rows == 100


@pytest.mark.usefixtures("s3_environment")
def test_a_bucket_that_is_not_there_is_a_store_error():
    """The address is wrong: every call says so as an OSError, which keeps rows in the spool."""
    store = open_store("s3://no-such-bucket-anywhere/log")
    assert isinstance(store, S3Store)
    with pytest.raises(StoreError, match="NoSuchBucket"):
        store.put_new(KEY, b"x")
    with pytest.raises(StoreError, match="NoSuchBucket"):
        store.files("labels")
    assert isinstance(StoreError("x"), OSError)


def command(*arguments):
    """Run a command of the log, and return what it prints."""
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_upkeep_works_on_every_store(root, tmp_path):
    """Compact, delete, verify, export and retain, as an operator calls them."""
    for start in (0, 10, 20):
        writer = SegmentWriter(root, "labels", writer="one", spool=tmp_path / "spool")
        for label in labels(start, 10):
            writer.append(label)
        writer.flush()
        writer.close()
    assert command("compact", "--root", root) == {
        "num_merged": 1, "num_removed": 3, "num_deleted_rows": 0,
    }  # fmt: skip
    assert command("delete", "--root", root, "--decision-id", "d7")["num_deleted_rows"] == 1
    assert [file.name for file in open_store(root).files("labels")] == ["merged-00000001"]
    found = command("verify", "--root", root, "--thorough")["labels"]
    assert (found["num_rows"], found["num_replaced_files"], found["faults"]) == (29, 0, [])
    output = str(tmp_path / "labels.jsonl")
    assert command("export", output, "--root", root, "--table", "labels") == {"num_rows": 29}
    assert command("retain", "--root", root, "--days", "1")["num_removed"] == 1
    assert read_table(root, "labels").num_rows == 0
