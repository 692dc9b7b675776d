"""What the page on the outcome log shows can be run, and names every column."""

import re
from pathlib import Path

import pytest

from monitoring.outcome import LABEL_SCHEMA, OUTCOME_SCHEMA

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "outcome-log.md").read_text()


def test_every_column_is_explained():
    """In the table of its own kind of row."""
    _, outcomes, labels = re.split(r"## Columns of `\w+`", PAGE)
    assert set(re.findall(r"`(\w+)`", outcomes)) >= set(OUTCOME_SCHEMA.names)
    assert set(re.findall(r"`(\w+)`", labels)) >= set(LABEL_SCHEMA.names)


def test_the_blocks_run_one_after_another(log, monkeypatch, tmp_path):
    """On a log whose answers are known."""
    (tmp_path / ".run").mkdir()
    (tmp_path / ".run" / "outcomes").symlink_to(log.root)
    for number in range(4):
        log.write(number, answered_by="small")
    log.write(4, answered_by="small", labelled=False)
    log.write(5, answered_by="large")
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(block, "outcome-log.md", "exec"), names)  # noqa: S102 - our own page
    assert names["outcomes"].num_rows == 6
    assert names["scores"] == {f"d{number}": 0.5 for number in (0, 1, 2, 3, 5)}
    assert names["weight"] == pytest.approx({"small": 4 / 0.1})
    assert names["value"] == pytest.approx({"small": 0.5})
    assert names["bias"] == pytest.approx({"small": 0.25})
