"""A segment says where its rows came from, and lies where its date is."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from monitoring.outcome import OUTCOME_SCHEMA
from monitoring.segment import Origin, by_date, parquet_options, segment_bytes

names = st.sets(
    st.one_of(
        st.builds(lambda n: f"host-1-ab-{n:08d}", st.integers(0, 40)),
        st.builds(lambda n: f"merged-{n:08d}", st.integers(0, 99_999_999)),
        st.text(st.characters(codec="utf-8"), max_size=12),
    ),
    max_size=30,
)


@given(names)
def test_the_names_of_replaced_segments_come_back(replaced):
    """Numbered or not, in ranges or alone."""
    origin = Origin(digest="d", replaces=frozenset(replaced))
    assert Origin.of(origin.to_metadata()) == origin


def test_many_segments_of_one_writer_take_little_room():
    """A day of one segment every two seconds fits in a hundred bytes."""
    origin = Origin(digest="", replaces=frozenset(f"host-7-{n:08d}" for n in range(43_200)))
    assert sum(map(len, origin.to_metadata().values())) < 100


def test_a_file_of_another_writer_has_no_origin():
    """It replaces nothing."""
    assert Origin.of(None) == Origin.of({b"other": b"x"}) == Origin(digest="")


def test_a_segment_carries_its_origin_and_its_rows(outcome):
    """Rows come back in order; texts have a dictionary, pages checksums."""
    table = pa.Table.from_pylist([outcome(n).row() for n in range(3)], schema=OUTCOME_SCHEMA)
    origin = Origin(digest="abc", replaces=frozenset({"merged-00000001"}))
    found = pq.ParquetFile(
        pa.BufferReader(segment_bytes(table, origin)), page_checksum_verification=True
    )
    assert Origin.of(found.metadata.metadata) == origin
    assert found.read().equals(table)
    columns = [found.metadata.row_group(0).column(n) for n in range(found.metadata.num_columns)]
    by_path = {column.path_in_schema: column for column in columns}
    assert "RLE_DICTIONARY" in by_path["candidate_ids.list.element"].encodings
    assert not by_path["features.list.element"].is_stats_set
    assert by_path["time"].is_stats_set


def test_what_is_to_stay_is_packed_tighter(outcome):
    """Merged features have their bytes split and take less room than fresh ones."""
    features_F = np.random.default_rng(0).standard_normal(1000, np.float32)
    row = outcome().row() | {"features": features_F}
    table = pa.Table.from_pylist([row] * 50, schema=OUTCOME_SCHEMA)
    merged = pa.BufferOutputStream()
    pq.write_table(table, merged, **parquet_options(OUTCOME_SCHEMA))
    data = merged.getvalue()
    found = pq.ParquetFile(pa.BufferReader(data))
    columns = [found.metadata.row_group(0).column(n) for n in range(found.metadata.num_columns)]
    encodings = {column.path_in_schema: column.encodings for column in columns}
    assert "BYTE_STREAM_SPLIT" in encodings["features.list.element"]
    assert data.size < len(segment_bytes(table, Origin(digest="")))


def test_options_know_columns_that_a_newer_version_added():
    """A nested column is named as Parquet names it."""
    schema = OUTCOME_SCHEMA.append(pa.field("notes", pa.list_(pa.struct([("by", pa.string())]))))
    assert "notes.list.element.by" in parquet_options(schema)["use_dictionary"]


def test_rows_are_parted_by_utc_date(outcome):
    """In the order of the dates, whatever the order of the rows."""
    rows = [outcome(n, days=days).row() for n, days in enumerate((1, 0, 1, -1))]
    table = pa.Table.from_pylist(rows, schema=OUTCOME_SCHEMA)
    parted = {date: part["query_sha256"].to_pylist() for date, part in by_date(table)}
    assert list(parted) == ["2026-02-28", "2026-03-01", "2026-03-02"]
    assert [int(text, 16) for text in parted["2026-03-02"]] == [0, 2]
    assert list(by_date(table.slice(0, 0))) == []
