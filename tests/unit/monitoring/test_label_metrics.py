"""Named metrics lie in the label's row, and rows that never had them can be read."""

import pyarrow as pa
import pyarrow.parquet as pq

from monitoring.outcome import LABEL_SCHEMA


def test_metrics_survive_a_file(label, tmp_path):
    """As a list of name and value; none where one number was given."""
    rows = [label(0, metrics={"helpful": 0.5, "true": 1.0}).row(), label(1).row()]
    path = tmp_path / "labels.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=LABEL_SCHEMA), path)
    first, second = pq.read_table(path)["metrics"].to_pylist()
    assert first == [{"name": "helpful", "value": 0.5}, {"name": "true", "value": 1.0}]
    assert second is None
