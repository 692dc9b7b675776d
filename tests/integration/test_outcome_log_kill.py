"""A writer that is killed at any moment: what it acknowledged is in the log, once and whole."""

from __future__ import annotations

import pytest

from infra.evidence.learning.kill_writer import kill_writers


@pytest.mark.parametrize(("kind", "num_kills", "life_s"), [("local", 40, 0.15), ("s3", 10, 1.2)])
def test_no_acknowledged_label_is_lost_and_none_doubled(
    kind, num_kills, life_s, request, tmp_path
):
    """Killed at random moments, each successor adopts what the dead writer left."""
    root = str(tmp_path / "log") if kind == "local" else request.getfixturevalue("s3_root")
    found = kill_writers(root, tmp_path, num_kills=num_kills, life_s=life_s)
    assert found.num_acknowledged > num_kills
    assert found.num_appended > 0
    assert (found.num_lost, found.num_doubled, found.num_faults, found.num_left) == (0, 0, 0, 0)
