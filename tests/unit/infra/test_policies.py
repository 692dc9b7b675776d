"""Ways of choosing are compared in sums that can be checked by hand."""

import dataclasses

import numpy as np
import pytest

from infra.asking import Ask, Asked
from infra.policies import Comparison
from infra.zoo.questions import Question

QUESTION = Question(
    question_id="q",
    task="t",
    speciality="reader",
    difficulty=1,
    text="?",
    images=(),
    answer="red",
    neutral=False,
)


def asked(score, cost_usd, latency_s=1.0):
    """Return one answer."""
    return Asked(
        ask=Ask(question=QUESTION),
        decision_id="dec_0",
        answered_by="any",
        reply="red",
        score=score,
        cost_usd=cost_usd,
        latency_s=latency_s,
    )


def answers(scores, cost_usd, latency_s=1.0):
    """Return one answer per score, all at one price and pace."""
    return [asked(score, cost_usd, latency_s) for score in scores]


@pytest.fixture
def comparison():
    """Return four questions answered by a cheap, a dear and a middling candidate."""
    return Comparison.of(
        answers((1, 0, 1, 1), 0.002, 1.5),
        {
            "cheap": answers((1, 0, 0, 0), 0.001, 1.0),
            "middling": answers((0, 0, 1, 0), 0.002, 2.0),
            "dear": answers((1, 0, 1, 1), 0.010, 3.0),
        },
    )


def row(comparison, name):
    """Return one policy's row."""
    return next(found for found in comparison.rows() if found.name == name)


def test_rows_are_the_router_everyone_alone_chance_and_the_oracle(comparison):
    """In this order."""
    names = [found.name for found in comparison.rows()]
    assert names == ["auto", "cheap", "middling", "dear", "random", "oracle"]


def test_a_candidate_alone_is_its_own_mean(comparison):
    """Dear is right in 3 of 4, at 0.010 USD and 3 s each."""
    dear = row(comparison, "dear")
    assert (dear.quality, dear.mean_cost_usd) == (0.75, pytest.approx(0.010))
    assert (dear.latency_p50_s, dear.latency_p99_s) == (3.0, 3.0)
    assert comparison.candidate_ids[comparison.best_single] == "dear"


def test_random_is_the_mean_of_all(comparison):
    """(1 + 1 + 3) right of 12, at (0.001 + 0.002 + 0.010) / 3 USD; half within 2 s."""
    random = row(comparison, "random")
    assert random.quality == pytest.approx(5 / 12)
    assert random.mean_cost_usd == pytest.approx(0.013 / 3)
    assert random.latency_p50_s == 2.0


def test_the_oracle_takes_the_cheapest_that_is_right(comparison):
    """Cheap, then cheap where all are wrong, middling, dear: (1 + 1 + 2 + 10) / 4 = 3.5 mUSD."""
    oracle = row(comparison, "oracle")
    assert oracle.quality == 0.75
    assert oracle.mean_cost_usd == pytest.approx(0.0035)
    assert oracle.latency_p50_s == 1.5  # of 1, 1, 2 and 3


def test_the_oracle_knows_the_answers_even_where_all_is_free():
    """Candidates of one's own machine may have price 0."""
    free = Comparison.of(
        answers((0, 0), 0.0),
        {"wrong": answers((0, 0), 0.0), "right": answers((1, 1), 0.0)},
    )
    assert free.oracle().quality == 1.0
    assert free.oracle().mean_cost_usd == 0.0


def test_quantiles_are_those_of_the_answers():
    """Latencies of 0 to 100 s: half within 50, all but one of a hundred within 99."""
    paced = [asked(1.0, 0.001, float(latency_s)) for latency_s in range(101)]
    auto = row(Comparison.of(paced, {"one": paced}), "auto")
    assert auto.latency_p50_s == pytest.approx(50.0)
    assert auto.latency_p99_s == pytest.approx(99.0)


def test_the_gain_is_over_the_best_single_candidate(comparison):
    """The router's answers are as good as the dear one's: no gain, and none in doubt."""
    assert comparison.gain_interval() == (0.0, 0.0, 0.0)


def test_the_gain_comes_with_its_interval():
    """Better on 30 of 100, worse on 10: +0.2, give or take 2 * sqrt(0.4 - 0.04) / 10 = 0.12."""
    auto = answers([1] * 30 + [0] * 10 + [1] * 60, 0.001)
    alone = answers([0] * 30 + [1] * 10 + [1] * 60, 0.001)
    other = answers([0] * 100, 0.001)
    comparison = Comparison.of(auto, {"other": other, "alone": alone})
    gain, low, high = comparison.gain_interval()
    assert gain == pytest.approx(0.2)
    assert low == pytest.approx(0.08, abs=0.03)
    assert high == pytest.approx(0.32, abs=0.03)
    assert comparison.gain_interval() == (gain, low, high)


def test_the_order_of_candidates_changes_no_figure(comparison):
    """Only the order of the rows."""
    order = [2, 0, 1]
    moved = dataclasses.replace(
        comparison,
        candidate_ids=tuple(comparison.candidate_ids[m] for m in order),
        score_NM=comparison.score_NM[:, order],
        cost_usd_NM=comparison.cost_usd_NM[:, order],
        latency_s_NM=comparison.latency_s_NM[:, order],
    )
    one, other = (sorted(map(str, found.rows())) for found in (comparison, moved))
    assert one == other
    assert np.array_equal(moved.auto_score_N, comparison.auto_score_N)
