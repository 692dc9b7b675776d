"""Each command does what its help says, and prints one JSON object."""

import json

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from monitoring.log_cli import app
from monitoring.log_reader import read_table
from monitoring.outcome import OUTCOME_SCHEMA
from monitoring.outcome_log import SegmentWriter
from monitoring.segment_store import open_store


@pytest.fixture
def root(tmp_path, outcome, label):
    """Return a log of two days."""
    root = tmp_path / "log"
    for table, make in (("outcomes", outcome), ("labels", label)):
        for number in range(4):
            writer = SegmentWriter(root, table, writer="one")
            writer.append(make(number, days=number // 2))
            writer.flush()
    return root


def run(root, *arguments):
    """Return exit code and what was printed."""
    result = CliRunner().invoke(app, [*arguments], env={"POINTSMAN_OUTCOME_LOG": str(root)})
    is_json = result.exit_code in {0, 1} and result.stdout
    return result.exit_code, json.loads(result.stdout) if is_json else result.output


def test_compact_merges_closed_days(root):
    """Two days of two tables."""
    code, found = run(root, "compact")
    assert (code, found["num_merged"], found["num_removed"]) == (0, 4, 8)
    assert len(open_store(root).files("outcomes")) == 2


def test_retain_drops_what_is_old(root):
    """Days of March 2026 are more than a day old."""
    code, found = run(root, "retain", "--days", "1")
    assert (code, found["num_removed"]) == (0, 8)
    assert read_table(root, "outcomes").num_rows == 0


def test_delete_takes_decisions_and_tenants(root):
    """All outcomes of the fixture are one decision, d0."""
    code, found = run(root, "delete", "--decision-id", "d0")
    assert (code, found["num_deleted_rows"]) == (0, 5)
    assert run(root, "delete", "--tenant", "nobody")[1]["num_deleted_rows"] == 0
    assert run(root, "delete")[0] == 0


def test_verify_fails_where_a_file_is_broken(root):
    """Exit code 1, and the file is named."""
    code, found = run(root, "verify")
    assert (code, found["outcomes"]["num_rows"], found["labels"]["num_files"]) == (0, 4, 4)
    path = root / open_store(root).files("labels")[0].key
    path.write_bytes(b"no Parquet")
    code, found = run(root, "verify", "--thorough")
    assert code == 1
    assert path.name in found["labels"]["faults"][0]


def test_export_writes_one_file(root, tmp_path):
    """All columns or some, as Parquet or lines of JSON, from a day on."""
    code, found = run(root, "export", str(tmp_path / "all.parquet"))
    assert (code, found) == (0, {"num_rows": 4})
    assert pq.read_schema(tmp_path / "all.parquet").names == OUTCOME_SCHEMA.names
    options = ("--table", "labels", "--columns", "decision_id,time", "--since", "2026-03-02")
    assert run(root, "export", str(tmp_path / "some.jsonl"), *options)[1] == {"num_rows": 2}
    lines = (tmp_path / "some.jsonl").read_text().splitlines()
    assert {json.loads(line)["decision_id"] for line in lines} == {"d2", "d3"}
    assert run(root, "export", str(tmp_path / "none.jsonl"), "--since", "1d")[1] == {"num_rows": 0}


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("--table", "answers"), "none of"),
        (("--columns", "answer"), "no column answer"),
        (("--since", "yesterday"), "neither"),
    ],
)
def test_a_wrong_option_is_named(root, tmp_path, arguments, fault):
    """Nothing is written."""
    code, text = run(root, "export", str(tmp_path / "out.jsonl"), *arguments)
    assert code == 2
    assert fault in " ".join(text.replace("│", " ").split())
    assert not (tmp_path / "out.jsonl").exists()


def test_a_wrong_place_is_refused(root, tmp_path):
    """A log that is not there is a slip of the pen; an unknown ending too."""
    assert run(tmp_path / "nowhere", "compact")[0] == 2
    assert run(root, "export", str(tmp_path / "out.csv"))[0] == 2
