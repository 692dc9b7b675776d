"""What a log on disk says of its new labels and queries."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from monitoring.outcome import Label, Outcome, Status
from monitoring.outcome_log import SegmentWriter
from router.records import Decision, Policy, QueryShape, Routing
from training.jobs import log_signs
from training.jobs.log_signs import drift_since, num_labels_since

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
HASHES = ("a" * 64, "b" * 64)


class LogFiles:
    """A log that is written by the code that serving writes it with."""

    def __init__(self, root):
        """Start an empty log."""
        self.root = root
        self._writers = {
            table: SegmentWriter(root, table, writer="test") for table in ("outcomes", "labels")
        }
        self._rng = np.random.default_rng(0)
        self._num_rows = 0

    def labels(self, time, num_labels):
        """Log labels of one time."""
        for number in range(num_labels):
            label = Label(time=time, decision_id=f"d{number}", score=1.0, source="gold")
            self._writers["labels"].append(label)

    def queries(self, start, num_rows, *, shift=0.0, policy=Policy.GREEDY, schema_hash=HASHES[0]):
        """Log queries, one a second, their features moved."""
        for second in range(num_rows):
            self._num_rows += 1
            features_F = self._rng.normal(size=4) + shift
            decision = Decision(
                decision_id=f"d{self._num_rows}",
                router_version="7",
                feature_schema_hash=schema_hash,
                candidate_ids=("aster",),
                refusals=(None,),
                choice="aster",
                propensity=1.0,
                policy=policy,
                features_F=features_F.astype(np.float32),
            )
            outcome = Outcome(
                time=start + timedelta(seconds=second),
                decision=decision,
                shape=QueryShape(num_chars=80, num_images=0),
                routing=Routing(),
                query_sha256="aa",
                requested_model="auto",
                pool_age_s=0.1,
                attempts=(),
                answered_by="aster",
                status=Status.OK,
            )
            self._writers["outcomes"].append(outcome)

    def flush(self):
        """Write what was logged."""
        for writer in self._writers.values():
            writer.flush()


@pytest.fixture
def log(tmp_path, monkeypatch):
    """An empty log, of which few queries tell a drift."""
    monkeypatch.setattr(log_signs, "MAX_DRIFT_ROWS", 600)
    return LogFiles(tmp_path)


def test_labels_count_from_the_second_after_the_last_run(log):
    """Those of the day before, of an earlier hour and of that very time do not count."""
    for time, number in [(NOON - 26 * HOUR, 3), (NOON - HOUR, 5), (NOON, 7), (NOON + HOUR, 11)]:
        log.labels(time, number)
    log.flush()
    assert num_labels_since(log.root, NOON) == 11
    assert num_labels_since(log.root, None) == 26


def test_an_empty_log_has_neither(log):
    """No label, and no drift that could be told."""
    assert num_labels_since(log.root, None) == 0
    assert drift_since(log.root, NOON) is None


def test_queries_that_moved_are_told_from_those_that_did_not(log):
    """Those before the run against those after it."""
    log.queries(NOON - 3 * HOUR, 700)
    log.queries(NOON + HOUR, 700)
    log.flush()
    assert drift_since(log.root, NOON) < 0.2
    log.queries(NOON + 3 * HOUR, 1400, shift=1.0)
    log.flush()
    assert drift_since(log.root, NOON) > 0.2


def test_what_is_no_traffic_of_today_is_left_out(log):
    """Pinned questions, queries of long ago, and features of another schema."""
    log.queries(NOON - 3 * HOUR, 700)
    log.queries(NOON - 24 * 9 * HOUR, 700, shift=5.0)
    log.queries(NOON - 2 * HOUR, 700, shift=5.0, schema_hash=HASHES[1])
    log.queries(NOON + HOUR, 700, shift=5.0, policy=Policy.PINNED)
    log.queries(NOON + 2 * HOUR, 700)
    log.flush()
    assert drift_since(log.root, NOON) < 0.2


def test_a_few_queries_tell_no_drift(log):
    """However far they moved."""
    log.queries(NOON - 3 * HOUR, 700)
    log.queries(NOON + HOUR, 100, shift=9.0)
    log.flush()
    assert drift_since(log.root, NOON) is None
