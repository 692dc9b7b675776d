"""The log's labels are joined by precedence, and files without the newer columns are read."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq

from monitoring.label_precedence import LabelPrecedence
from monitoring.outcome import LABEL_SCHEMA, Label
from monitoring.outcome_log import SegmentWriter
from training.data.outcome_rows import latest_labels

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def label(number, source, score, *, days=0, **changes):
    """Return a label of an answer."""
    return Label(
        time=NOON + timedelta(days=days),
        decision_id=f"d{number}",
        score=score,
        source=source,
        **changes,
    )


def write(root, *labels):
    """Write labels as serving does."""
    writer = SegmentWriter(root, "labels", writer="test")
    for one in labels:
        writer.append(one)
    writer.flush()


def test_gold_counts_over_what_users_say_later(tmp_path):
    """A late label joins, days after; a label of gold stays."""
    write(
        tmp_path,
        label(0, "gold", 0.0, metrics={"true": 0.0}),
        label(0, "user", 1.0, days=3),
        label(1, "judge:m", 0.25),
        label(1, "user", 0.5, days=-3),
    )
    assert latest_labels(tmp_path) == {"d0": 0.0, "d1": 0.5}
    assert latest_labels(tmp_path, LabelPrecedence(("user",))) == {"d0": 1.0, "d1": 0.5}


def test_labels_of_files_without_metrics_still_join(tmp_path):
    """Segments of an earlier release lack the column."""
    schema = pa.schema([field for field in LABEL_SCHEMA if field.name != "metrics"])
    row = {name: value for name, value in label(0, "user", 0.5).row().items() if name != "metrics"}
    folder = tmp_path / "labels" / "date=2026-03-01"
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist([row], schema=schema), folder / "old-00000000.parquet")
    write(tmp_path, label(1, "user", 1.0))
    assert latest_labels(tmp_path) == {"d0": 0.5, "d1": 1.0}
