"""Estimators of a policy's value: sums by hand, what always holds, and a world of known truth."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import InvalidInputError
from training.proof.coverage import coverage_study
from training.proof.influence import effective_rows, interval
from training.proof.off_policy import (
    Estimator,
    LoggedRows,
    contributions,
    difference,
    evaluable,
    paired,
    value,
)
from training.proof.outcome_model import cross_fitted
from training.proof.simulation import LogShape, World

PAIR = np.array([[1.0, 0.0], [0.0, 1.0]])
"""A policy that takes the first candidate on the first row and the second on the second."""


def logged(**changes):
    """Return two rows: the first candidate seen with chance 1/2, the second with chance 1/4."""
    columns = {
        "score_NM": np.array([[1.0, 0.0], [0.0, 0.5]]),
        "weight_NM": np.array([[2.0, 0.0], [0.0, 4.0]]),
        "available_NM": np.ones((2, 2), dtype=bool),
        "predicted_NM": np.array([[0.75, 0.25], [0.5, 0.25]]),
        "penalty_NM": np.zeros((2, 2)),
        "cluster_N": np.array([0, 1]),
    }
    return LoggedRows(**{**columns, **changes})


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        (Estimator.IPS, (2 * 1.0 + 4 * 0.5) / 2),
        (Estimator.SNIPS, (2 * 1.0 + 4 * 0.5) / (2 + 4)),
        (Estimator.DR, (0.75 + 2 * (1 - 0.75) + 0.25 + 4 * (0.5 - 0.25)) / 2),
    ],
)
def test_values_are_the_sums_by_hand(estimator, expected):
    """Each estimator is its formula."""
    assert contributions(logged(), PAIR, estimator).value == pytest.approx(expected)


@pytest.mark.parametrize("estimator", list(Estimator))
def test_a_known_penalty_comes_off_whole(estimator):
    """Cost and latency are known of every candidate: they need no weight."""
    penalised = logged(penalty_NM=np.array([[0.1, 0.9], [0.9, 0.3]]))
    without = contributions(logged(), PAIR, estimator).value
    assert contributions(penalised, PAIR, estimator).value == pytest.approx(without - 0.2)


def test_clipping_widens_by_the_most_it_can_bias():
    """Weights 2 and 4 clipped at 3 leave out (0 + 1) / 2 of weight."""
    clipped = contributions(logged(clip=3.0), PAIR, Estimator.IPS)
    assert clipped.value == pytest.approx((2 * 1.0 + 3 * 0.5) / 2)
    assert clipped.max_bias == pytest.approx(0.5)
    found = value(logged(clip=3.0), PAIR, Estimator.IPS)
    assert found.high - found.low > 1.0


rows_strategy = st.integers(0, 10_000)


def drawn(seed, num_rows=60):
    """Return rows of a random log, and two random policies."""
    rng = np.random.default_rng(seed)
    log = World.make(seed=seed % 7).log(
        LogShape(num_rows=num_rows, num_calibration=10),
        champion_blur=0.4,
        bad_blur=0.5,
        seed=seed,
    )
    shape = log.quality_NM.shape
    rows = LoggedRows.of(log.rows, rng.random(shape), penalty_NM=rng.random(shape))
    chances = [rng.random(shape) * log.rows.available_NM for _ in range(2)]
    return rows, *(p_NM / p_NM.sum(axis=1, keepdims=True) for p_NM in chances)


@settings(max_examples=25, deadline=None)
@given(rows_strategy, st.sampled_from(list(Estimator)))
def test_a_difference_is_that_of_the_values(seed, estimator):
    """The paired estimate is one value less the other; a policy gains nothing on itself."""
    rows, one_NM, two_NM = drawn(seed)
    gain = difference(rows, one_NM, two_NM, estimator)
    apart = value(rows, one_NM, estimator).value - value(rows, two_NM, estimator).value
    assert gain.value == pytest.approx(apart)
    nothing = difference(rows, one_NM, one_NM, estimator)
    assert nothing.low == nothing.high == pytest.approx(0.0)
    assert abs(paired(rows, one_NM, two_NM, estimator).influence_N.sum()) < 1e-9


@settings(max_examples=25, deadline=None)
@given(rows_strategy)
def test_full_rows_give_the_plain_mean(seed):
    """Where every candidate answered all three estimators are the mean of what was earned."""
    rows, policy_NM, _ = drawn(seed)
    rng = np.random.default_rng(seed)
    full = dataclasses.replace(
        rows,
        weight_NM=rows.available_NM.astype(float),
        score_NM=rng.random(rows.score_NM.shape),
    )
    earned_NM = policy_NM * (full.score_NM - full.penalty_NM)
    for estimator in Estimator:
        found = value(full, policy_NM, estimator)
        assert found.value == pytest.approx(earned_NM.sum(axis=1).mean())
        assert found.effective_rows == pytest.approx(len(full))


def test_a_policy_must_keep_to_what_is_available():
    """Mass outside the mask, or not summing to one, is an error."""
    masked = logged(available_NM=np.array([[False, True], [True, True]]))
    with pytest.raises(InvalidInputError, match="available"):
        value(masked, PAIR, Estimator.DR)
    with pytest.raises(InvalidInputError, match="sum to 1"):
        value(logged(), PAIR / 2, Estimator.DR)
    with pytest.raises(InvalidInputError, match="shape"):
        value(logged(), PAIR[:, :1], Estimator.DR)
    with pytest.raises(InvalidInputError, match="no held-out row"):
        value(logged().subset(np.zeros(2, dtype=bool)), PAIR[:0], Estimator.DR)


def test_without_a_common_choice_snips_says_so():
    """A policy that never meets a logged choice has no self-normalised value."""
    with pytest.raises(InvalidInputError, match="explore more"):
        value(logged(), PAIR[::-1], Estimator.SNIPS)


def test_bad_rows_are_refused():
    """Shapes and clips are checked."""
    with pytest.raises(InvalidInputError, match="shape"):
        logged(penalty_NM=np.zeros((2, 3)))
    with pytest.raises(InvalidInputError, match="clip"):
        logged(clip=0.5)
    with pytest.raises(InvalidInputError, match="cluster_N"):
        logged(cluster_N=np.zeros(3, dtype=int))


def test_rows_that_prove_nothing_are_counted_by_reason():
    """No label, one candidate, no exploration: each is left out under its name."""
    log = World.make().log(
        LogShape(num_rows=40, num_calibration=10, masked_share=0.0),
        champion_blur=0.4,
        bad_blur=0.5,
        seed=0,
    )
    rows = log.rows
    score_NM, available_NM = rows.score_NM.copy(), rows.available_NM.copy()
    propensity_NM = rows.propensity_NM.copy()
    score_NM[0] = np.nan
    available_NM[1] = np.isfinite(score_NM[1])
    propensity_NM[2] = np.where(np.isfinite(score_NM[2]), 1.0, np.nan)
    kept_N, left_out = evaluable(
        dataclasses.replace(
            rows, score_NM=score_NM, available_NM=available_NM, propensity_NM=propensity_NM
        )
    )
    assert left_out == {"no_label": 1, "one_available": 1, "no_exploration": 1}
    assert np.flatnonzero(~kept_N).tolist() == [0, 1, 2]


def test_copies_of_a_cluster_make_nothing_surer():
    """Three equal rows of one query tell as much as one."""
    rng = np.random.default_rng(0)
    influence_N = rng.normal(size=50) / 50
    once = interval(0.0, influence_N, np.arange(50), np.ones(50))
    thrice = interval(
        0.0, np.repeat(influence_N, 3) / 3, np.repeat(np.arange(50), 3), np.ones(150)
    )
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))
    assert thrice.num_clusters == 50


def test_few_rows_that_say_much_widen_the_interval():
    """Of two estimates of one variance that of the heavier tail is less sure."""
    clusters = np.arange(400)
    even_N = np.where(clusters % 2, 1.0, -1.0) / 400
    rare_N = np.where(clusters < 4, np.where(clusters % 2, 10.0, -10.0), 0.0) / 400
    even, rare = (interval(0.0, column, clusters, np.ones(400)) for column in (even_N, rare_N))
    assert even.high == pytest.approx(1.966 / np.sqrt(399), rel=1e-3)
    assert rare.high > 1.1 * even.high
    flat = interval(0.3, np.zeros(80), np.arange(80), np.ones(80))
    assert flat.low == flat.high == 0.3
    with pytest.raises(InvalidInputError, match="two clusters"):
        interval(0.0, np.zeros(3), np.zeros(3, dtype=int), np.ones(3))


@given(st.lists(st.floats(0.0, 100.0), min_size=1, max_size=30))
def test_effective_rows_lie_between_none_and_all(weights):
    """Kish's number is at most that of the rows."""
    assert 0.0 <= effective_rows(np.array(weights)) <= len(weights) + 1e-6


def test_a_prediction_never_saw_its_row():
    """Turning a query's labels round moves the predictions of other queries alone."""
    log = World.make().log(LogShape(num_rows=400), champion_blur=0.4, bad_blur=0.5, seed=1)
    rows, inputs_NP = log.rows, log.rows.features_NF.astype(float)
    own_N = rows.group_N == rows.group_N[0]
    turned_NM = np.where(own_N[:, None], 1 - rows.score_NM, rows.score_NM)
    before_NM = cross_fitted(rows, inputs_NP)
    after_NM = cross_fitted(dataclasses.replace(rows, score_NM=turned_NM), inputs_NP)
    assert np.array_equal(before_NM[own_N], after_NM[own_N])
    assert not np.array_equal(before_NM, after_NM)
    assert ((before_NM >= 0) & (before_NM <= 1)).all()


def test_predictions_of_an_outcome_model_are_better_than_none():
    """Cross-fitted predictions are nearer to the true qualities than a constant is."""
    log = World.make().log(LogShape(num_rows=2000), champion_blur=0.4, bad_blur=0.5, seed=1)
    predicted_NM = cross_fitted(log.rows, log.rows.features_NF.astype(float))
    error = np.square(predicted_NM - log.quality_NM).mean()
    assert error < 0.5 * log.quality_NM.var()


def test_few_labels_move_the_prior_a_little():
    """A candidate with a few labels keeps near the prior."""
    log = World.make().log(
        LogShape(num_rows=30, num_calibration=0), champion_blur=0.4, bad_blur=0.5, seed=1
    )
    prior_NM = np.full(log.quality_NM.shape, 0.4)
    predicted_NM = cross_fitted(log.rows, log.rows.features_NF, prior_NM=prior_NM)
    assert np.isfinite(predicted_NM).all()
    assert np.abs(predicted_NM - 0.4).max() <= 0.6


def test_intervals_hold_the_truth_on_a_few_logs():
    """On 40 logs most intervals hold the truth, and DR errs less than IPS."""
    study = coverage_study(40, shape=LogShape(num_rows=2000, num_calibration=0, user_error=0.0))
    assert study.coverage["dr"] >= 0.85
    assert study.coverage["dr_difference"] >= 0.85
    assert study.dr_over_ips < 0.8


@pytest.mark.slow
@pytest.mark.parametrize("is_graded", [False, True])
def test_coverage_is_within_93_to_97_percent(is_graded):
    """On 500 logs of 4,000 rows the DR intervals hold the truth as often as they say."""
    study = coverage_study(
        500, shape=LogShape(user_error=0.0, num_calibration=0, is_graded=is_graded)
    )
    assert 0.93 <= study.coverage["dr"] <= 0.97
    assert 0.93 <= study.coverage["dr_difference"] <= 0.97
    assert study.dr_over_ips < 1
