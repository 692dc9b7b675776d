"""From the log to training rows: what may be learned from is taken, all else is left out."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from monitoring.outcome import Attempt, Label, Outcome, Status, Timing, Usage
from monitoring.outcome_log import SegmentWriter
from router.errors import InvalidInputError
from router.records import Decision, Policy, QueryShape, Refusal, Routing
from training.data.outcome_rows import latest_labels, training_set_from_log

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SCHEMA_HASH = "f" * 64
NAMES = ("small", "large", "wide")


class LogFiles:
    """A log that is written by the code that serving writes it with."""

    def __init__(self, root):
        """Start an empty log."""
        self.root = root
        self._writers = {
            table: SegmentWriter(root, table, writer="test") for table in ("outcomes", "labels")
        }

    def answer(self, number, choice, *, query="aa", score=1.0, **changes):
        """Log the answer of one candidate to one query, and its label unless ``score`` is None."""
        fields = {
            "policy": Policy.PINNED,
            "propensity": 1.0,
            "refusals": (None, None, None),
            "schema_hash": SCHEMA_HASH,
            "answered_by": choice,
            "status": Status.OK,
            "features": (0.5, -1.0),
            "ttft_s": 0.75,
            "usage": Usage(input_tokens=100 + number, output_tokens=10, cost_usd=0.001),
            **changes,
        }
        decision = Decision(
            decision_id=f"d{number}",
            router_version="7",
            feature_schema_hash=fields["schema_hash"],
            candidate_ids=NAMES,
            refusals=fields["refusals"],
            choice=choice,
            propensity=fields["propensity"],
            policy=fields["policy"],
            features_F=np.array(fields["features"], dtype=np.float32),
        )
        self._writers["outcomes"].append(
            Outcome(
                time=NOON + timedelta(seconds=number),
                decision=decision,
                shape=QueryShape(num_chars=80, num_images=1),
                routing=Routing(),
                query_sha256=query,
                requested_model="auto",
                pool_age_s=0.1,
                attempts=(Attempt(candidate_id=choice, started_s=0.25, duration_s=1.5),),
                answered_by=fields["answered_by"],
                status=fields["status"],
                timing=Timing(latency_s=1.75, time_to_first_token_s=fields["ttft_s"]),
                usage=fields["usage"],
            )
        )
        if score is not None:
            self.label(number, score)

    def label(self, number, score, *, after_s=0, source="exact_match"):
        """Log a label."""
        self._writers["labels"].append(
            Label(
                time=NOON + timedelta(seconds=after_s),
                decision_id=f"d{number}",
                score=score,
                source=source,
            )
        )

    def read(self, **changes):
        """Write what was logged, and read it as a training set."""
        for writer in self._writers.values():
            writer.flush()
        arguments = {"schema_hash": SCHEMA_HASH, "candidate_ids": NAMES, **changes}
        return training_set_from_log(self.root, **arguments)


@pytest.fixture
def log(tmp_path):
    """Return an empty log."""
    return LogFiles(tmp_path)


def same(array, expected):
    """Compare arrays in which NaN equals NaN."""
    return np.array_equal(array, np.array(expected), equal_nan=True)


NAN = float("nan")


def test_pinned_answers_to_one_query_make_one_row(log):
    """All were asked for sure, so the row has full information, whatever its order in the log."""
    for number, (choice, score) in enumerate([("wide", 0.0), ("small", 1.0), ("large", 0.5)]):
        log.answer(number, choice, score=score)
    found = log.read()
    assert same(found.score_NM, [[1.0, 0.5, 0.0]])
    assert same(found.propensity_NM, [[1.0, 1.0, 1.0]])
    assert same(found.input_tokens_NM, [[101, 102, 100]])
    assert found.full_information().tolist() == [True]
    assert same(found.features_NF, [[0.5, -1.0]])
    assert (found.num_chars_N.tolist(), found.num_images_N.tolist()) == ([80], [1])


def test_a_candidate_that_was_not_pinned_was_not_available(log):
    """Two of three asked: the row is full for the two."""
    log.answer(0, "small")
    log.answer(1, "large")
    found = log.read()
    assert found.available_NM.tolist() == [[True, True, False]]
    assert same(found.score_NM, [[1.0, 1.0, NAN]])
    assert found.full_information().tolist() == [True]


def test_a_routed_answer_keeps_propensity_and_availability(log):
    """One score, its logged chance, and who else might have been chosen."""
    log.answer(
        0,
        "large",
        score=0.5,
        policy=Policy.EXPLORE,
        propensity=0.05,
        refusals=(None, None, Refusal.COLD),
    )
    found = log.read()
    assert same(found.score_NM, [[NAN, 0.5, NAN]])
    assert same(found.propensity_NM, [[NAN, 0.05, NAN]])
    assert found.available_NM.tolist() == [[True, True, False]]
    assert found.full_information().tolist() == [False]


def test_routed_answers_to_one_query_stay_apart_but_in_one_group(log):
    """Each was drawn on its own; a split never parts them."""
    for number, query in ((0, "aa"), (1, "bb"), (2, "aa")):
        log.answer(number, "small", query=query, policy=Policy.GREEDY)
    found = log.read()
    assert len(found) == 3
    by_query = dict(zip(found.input_tokens_NM[:, 0].tolist(), found.group_N, strict=True))
    assert by_query[100] == by_query[102] != by_query[101]


def test_pinned_and_routed_answers_to_one_query_share_its_group(log):
    """Else a validation row could have been trained on."""
    log.answer(0, "small", policy=Policy.GREEDY)
    log.answer(1, "small")
    assert log.read().group_N.tolist() == [0, 0]


def test_latency_is_the_answering_attempt_not_the_request(log):
    """It began 0.25 s after arrival and took 1.5 s; the first token came at 0.75, so 0.5 in."""
    log.answer(0, "small")
    found = log.read()
    assert found.latency_s_NM[0, 0] == 1.5
    assert found.ttft_s_NM[0, 0] == 0.5
    assert found.output_tokens_NM[0, 0] == 10


def test_what_an_answer_did_not_report_is_nan(log):
    """No usage and no first byte leave the score usable."""
    log.answer(0, "small", usage=None, ttft_s=None)
    found = log.read()
    assert found.score_NM[0, 0] == 1.0
    unknown = (found.input_tokens_NM, found.output_tokens_NM, found.ttft_s_NM)
    assert np.isnan([cells[0, 0] for cells in unknown]).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"score": None},
        {"policy": Policy.FALLBACK},
        {"answered_by": "large"},
        {"answered_by": None},
        {"status": Status.TRUNCATED},
        {"status": Status.FAILED},
        {"schema_hash": "0" * 64},
        {"schema_hash": ""},
    ],
    ids=str,
)
def test_an_answer_that_teaches_nothing_sure_is_left_out(log, changes):
    """Unlabelled, fallen back, answered by another, broken off, of foreign features."""
    log.answer(0, "small", **{"policy": Policy.GREEDY, "query": "bb", **changes})
    log.answer(1, "small")
    assert log.read().input_tokens_NM[:, 0].tolist() == [101]


def test_answers_of_other_candidates_are_left_out(log):
    """The columns are those asked for, in their order."""
    log.answer(0, "small")
    log.answer(1, "wide", policy=Policy.GREEDY, query="bb")
    found = log.read(candidate_ids=("large", "wide"))
    assert found.candidate_ids == ("large", "wide")
    assert same(found.score_NM, [[NAN, 1.0]])
    assert found.available_NM.tolist() == [[True, True]]


def test_the_later_label_wins(log):
    """Order of arrival in the log does not matter, time does; another answer's label stays."""
    log.answer(0, "small", score=None)
    log.answer(1, "large", score=0.25)
    log.label(0, 1.0, after_s=20)
    log.label(0, 0.0, after_s=10)
    assert same(log.read().score_NM, [[1.0, 0.25, NAN]])
    assert latest_labels(log.root) == {"d0": 1.0, "d1": 0.25}


def test_a_label_without_an_outcome_is_no_row(log):
    """It may belong to an outcome that was lost."""
    log.answer(0, "small")
    log.label(99, 1.0)
    assert len(log.read()) == 1


def test_a_log_that_teaches_nothing_is_refused_with_the_remedy(log):
    """An empty one, and one of other features: the message says what to do."""
    for _ in range(2):
        with pytest.raises(InvalidInputError, match="calibrate first, or send labels") as caught:
            log.read()
        assert SCHEMA_HASH[:12] in str(caught.value)
        log.answer(0, "small", schema_hash="0" * 64)
