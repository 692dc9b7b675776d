"""Reading takes what is committed, and the columns and days that are asked for."""

from datetime import date

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from written_logs import hashes, segments, write

from monitoring.outcome import OUTCOME_SCHEMA
from monitoring.outcome_log import TABLES, read_table, scan


def test_a_segment_in_the_making_is_not_read(tmp_path, outcome):
    """Readers skip dotted names: half a file is nobody's row."""
    write(tmp_path, "outcomes", [outcome(1)])
    folder = tmp_path / "outcomes" / "date=2026-03-01"
    (folder / ".two-00000000.parquet.1234").write_bytes(b"PAR1 and no more")
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


def test_duckdb_reads_the_log_as_it_lies(tmp_path, outcome):
    """Without Pointsman: SQL over a folder of Parquet, with the partition as a column."""
    duckdb = pytest.importorskip("duckdb")
    write(tmp_path, "outcomes", [outcome(1), outcome(2, days=1)])
    files = f"read_parquet('{tmp_path}/outcomes/*/*.parquet', hive_partitioning=true)"
    with duckdb.connect() as connection:
        rows = connection.sql(
            f"SELECT date, features[2], attempts[1].error FROM {files} WHERE date > '2026-03-01'"  # noqa: S608 - a file of this test
        ).fetchall()
    assert [(str(day), *rest) for day, *rest in rows] == [("2026-03-02", -1.5, "it went away")]


def test_pandas_reads_the_log_as_it_lies(tmp_path, outcome):
    """Without Pointsman: a folder of Parquet, partitioned by date."""
    write(tmp_path, "outcomes", [outcome(1), outcome(2, days=1)])
    frame = pd.read_parquet(tmp_path / "outcomes")
    assert [name for name in frame.columns if name != "date"] == OUTCOME_SCHEMA.names
    assert sorted(frame["date"].astype(str)) == ["2026-03-01", "2026-03-02"]
    assert frame["attempts"].iloc[0][0]["error"] == "it went away"
    assert str(frame["time"].dt.tz) == "UTC"


def test_a_scan_opens_no_file_of_the_days_before(log):
    """A file that cannot be read is no trouble where its day is not asked for."""
    log.write(1, days=0)
    log.write(2, days=1)
    (log.root / log.store.files("outcomes")[0].key).write_bytes(b"no Parquet")
    batches = list(scan(log.root, "outcomes", ["decision_id"], since=date(2026, 3, 2)))
    assert [row for batch in batches for row in batch["decision_id"].to_pylist()] == ["d2"]
