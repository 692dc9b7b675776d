"""The measurement writes what it says, through the parts that serving uses."""

from monitoring.log_check import check
from monitoring.log_rate import measure_rate
from monitoring.segment_store import open_store


def test_every_row_of_the_measurement_is_in_the_log(tmp_path):
    """Rows, bytes and seconds are of the same work."""
    found = measure_rate(
        tmp_path / "log", spool=tmp_path / "spool", num_features=8, num_rows=70, rows_per_turn=32
    )
    outcomes = check(open_store(tmp_path / "log"))["outcomes"]
    assert found.num_rows == outcomes.num_rows == 70
    assert found.num_segment_bytes == outcomes.num_bytes
    assert found.num_dropped == 0
    assert found.rows_per_core_s > 0
    assert min(found.append_s, found.spool_s, found.commit_s) >= 0
