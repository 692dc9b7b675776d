"""The floor: worked shares, a slack that falls with confidence, and the promise it makes.

Axis legend: N = queries, M = candidates, S = slacks, L = drops.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import ArtifactError
from router.floor import DROPS_L, SLACKS_S, Floor


def two_candidates(gap_N, cheap_score_N):
    """Calibrate on a dear candidate that is always right and a cheap one predicted below it."""
    gap_N = np.array(gap_N)
    quality_NM = np.column_stack([0.9 - gap_N, np.full(len(gap_N), 0.9)])
    cost_NM = np.broadcast_to([1.0, 2.0], quality_NM.shape)
    score_NM = np.column_stack([cheap_score_N, np.ones(len(gap_N))])
    return Floor.calibrate(quality_NM, cost_NM, score_NM, np.ones(quality_NM.shape, dtype=bool))


def simulated(rng, num_rows):
    """Return predictions, costs and scores of four candidates; predictions err by 0.15."""
    truth_NM = rng.uniform(0.2, 0.95, size=(num_rows, 4))
    quality_NM = np.clip(truth_NM + 0.15 * rng.normal(size=truth_NM.shape), 0.0, 1.0)
    score_NM = np.clip(truth_NM + 0.1 * rng.normal(size=truth_NM.shape), 0.0, 1.0)
    return quality_NM, np.broadcast_to([1.0, 2.0, 4.0, 8.0], truth_NM.shape), score_NM


FOUR = two_candidates([0.105, 0.205, 0.305, 0.405], [1.0, 1.0, 0.5, 0.0])


def test_risks_are_counted_in_worked_shares():
    """Slack 0.31 takes the third cheap answer and loses 0.5; slack 0.41 the fourth, losing 1."""
    at = {slack: FOUR.risk_SL[slack == SLACKS_S][0] for slack in (0.0, 0.3, 0.31, 0.41)}
    half = DROPS_L == 0.5
    assert (at[0.0] == 0).all()
    assert (at[0.3] == 0).all()
    assert (at[0.31][0], at[0.31][half].item()) == (0.25, 0.0)
    assert (at[0.41][0], at[0.41][half].item()) == (0.5, 0.25)
    assert FOUR.num_queries == 4


@pytest.mark.parametrize(
    ("drop", "confidence", "slack"),
    [(0.0, 0.9, 0.0), (0.0, 0.75, 0.3), (0.0, 0.5, 0.4), (0.5, 0.5, 1.0), (0.54, 0.5, 1.0)],
)
def test_the_slack_is_the_largest_safe_one(drop, confidence, slack):
    """(4 r + 1) / 5 is 0.2, 0.4 and 0.6 for r of 0, 1/4 and 1/2; 0.54 counts as 0.5."""
    assert FOUR.slack(drop, confidence) == slack


@given(
    st.integers(0, 1000),
    st.integers(1, 60),
    st.lists(st.floats(0.0, 1.0), min_size=2, max_size=2).map(sorted),
    st.lists(st.floats(0.01, 0.99), min_size=2, max_size=2).map(sorted),
)
def test_the_slack_rises_with_the_drop_and_falls_with_confidence(seed, num_rows, drops, shares):
    """Whoever gives up more, or asks for less certainty, may choose among more."""
    quality_NM, cost_NM, score_NM = simulated(np.random.default_rng(seed), num_rows)
    available_NM = np.ones(quality_NM.shape, dtype=bool)
    floor = Floor.calibrate(quality_NM, cost_NM, score_NM, available_NM)
    assert (np.diff(floor.risk_SL, axis=0) >= 0).all()
    assert floor.slack(drops[0], shares[0]) <= floor.slack(drops[1], shares[0])
    assert floor.slack(drops[0], shares[1]) <= floor.slack(drops[0], shares[0])


def test_the_promise_holds_on_a_simulated_world():
    """Over 400 calibrations of 60 queries, new queries keep the drop as often as promised."""
    rng = np.random.default_rng(0)
    shares = (0.7, 0.8, 0.9, 0.95)
    kept, slacks = np.zeros((400, len(shares))), np.zeros((400, len(shares)))
    for draw in range(len(kept)):
        quality_NM, cost_NM, score_NM = simulated(rng, 60)
        available_NM = np.ones(quality_NM.shape, dtype=bool)
        floor = Floor.calibrate(quality_NM, cost_NM, score_NM, available_NM)
        quality_NM, cost_NM, score_NM = simulated(rng, 200)
        best_N, rows = quality_NM.argmax(axis=1), np.arange(200)
        for i, confidence in enumerate(shares):
            slack = floor.slack(0.2, confidence)
            within_NM = quality_NM >= quality_NM.max(axis=1, keepdims=True) - slack
            cheapest_N = np.where(within_NM, cost_NM, np.inf).argmin(axis=1)
            taken_N = cheapest_N if slack else best_N
            lost_N = score_NM[rows, best_N] - score_NM[rows, taken_N]
            kept[draw, i], slacks[draw, i] = (lost_N <= 0.2).mean(), slack
    assert (kept.mean(axis=0) >= shares).all()
    assert (kept.mean(axis=0) < np.array(shares) + 0.03).all()
    assert (np.diff(slacks.mean(axis=0)) < 0).all()
    assert slacks.mean(axis=0)[-1] > 0.05


def test_masked_candidates_neither_tempt_nor_lead():
    """With the cheap one masked, no slack changes the choice, so none loses anything."""
    quality_NM, cost_NM, score_NM = np.array([[0.9, 0.8, 0.1]]), np.ones((1, 3)), np.ones((1, 3))
    score_NM[0, 0] = np.nan
    floor = Floor.calibrate(quality_NM, cost_NM, score_NM, np.array([[False, True, False]]))
    assert (floor.risk_SL == 0).all()


def test_without_queries_nothing_is_promised():
    """No calibration row gives slack 0 at any confidence, however small."""
    empty = np.empty((0, 3))
    floor = Floor.calibrate(empty, empty, empty, empty.astype(bool))
    assert floor.num_queries == 0
    assert floor.slack(1.0, 0.01) == 0.0


def test_a_round_trip_keeps_every_slack():
    """Arrays give the same floor back."""
    again = Floor.from_arrays(FOUR.to_arrays())
    assert np.array_equal(again.risk_SL, FOUR.risk_SL)
    assert again.num_queries == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"risk_SL": np.zeros((3, 3))}, r"shape \(3, 3\)"),
        ({"num_queries": np.zeros(2, dtype=np.int64)}, "shape"),
        ({"risk_SL": None}, "lacks the array 'risk_SL'"),
    ],
)
def test_arrays_that_are_no_floor_are_refused(change, message):
    """Missing and misshapen arrays are artifact errors."""
    arrays = {k: v for k, v in {**FOUR.to_arrays(), **change}.items() if v is not None}
    with pytest.raises(ArtifactError, match=message):
        Floor.from_arrays(arrays)
