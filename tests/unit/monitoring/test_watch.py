"""A worse champion is found, and one that is not is left alone however long it is watched."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.watch import Capital, Verdict, Watch, lower_bound
from router.errors import InvalidInputError


def traffic(rng, num, *, loss=0.0, hardness=0.0):
    """Return scores, right or wrong, and what a calibrated router expected of each query.

    Args:
        rng: Draws.
        num: Labels.
        loss: Quality that the router in charge loses.
        hardness: By how much the queries are harder, which is expected.
    """
    expected_N = np.clip(rng.beta(3, 1.5, num) - hardness, 0, 1)
    score_N = (rng.random(num) < np.clip(expected_N - loss, 0, 1)).astype(float)
    return score_N, expected_N


def runs(num, horizon, *, num_reference=1500, **change):
    """Watch ``num`` champions; return the verdicts and after how many labels they fell."""
    found = []
    for seed in range(num):
        rng = np.random.default_rng(seed)
        watch = Watch(*traffic(rng, num_reference), alpha=0.05, tolerance=0.0)
        watch.extend(*traffic(rng, horizon, **change))
        found.append((watch.verdict, watch.num_seen))
    return found


def share_of(verdict, found):
    """Return how many runs ended so."""
    return np.mean([one is verdict for one, _ in found])


def test_no_change_raises_no_alarm_over_a_long_horizon():
    """At alpha 0.05, read after each of 8,000 labels, at most 5 % of 100 champions are accused."""
    assert share_of(Verdict.REGRESSED, runs(100, 8000)) <= 0.05


def test_harder_queries_are_not_held_against_the_champion():
    """Traffic that is 0.15 harder, as expected, raises no more alarms."""
    assert share_of(Verdict.REGRESSED, runs(50, 5000, hardness=0.15)) <= 0.05


@pytest.mark.parametrize(("loss", "within"), [(0.3, 300), (0.2, 700), (0.1, 4000)])
def test_a_regression_is_found(loss, within):
    """Nine of ten are found within so many labels; the delays are printed."""
    found = runs(40, 2 * within, loss=loss)
    delays = [num for verdict, num in found if verdict is Verdict.REGRESSED]
    late = np.quantile(delays, 0.9)
    print(f"loss {loss}: median {np.median(delays):.0f}, 90 % {late:.0f} labels")  # noqa: T201 - seen with -s
    assert np.mean([v is Verdict.REGRESSED and n <= within for v, n in found]) >= 0.9


def test_a_champion_as_good_is_let_go():
    """With a tolerance of 0.1 the watch ends within 3,000 labels, and accuses none."""
    found = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        watch = Watch(*traffic(rng, 1500), tolerance=0.1)
        found.append((watch.extend(*traffic(rng, 3000)), watch.num_seen))
    assert share_of(Verdict.HOLDS, found) >= 0.9
    assert share_of(Verdict.REGRESSED, found) == 0.0


def test_the_control_variate_brings_the_verdict_sooner():
    """Against the same labels without what was expected."""
    delays = {True: [], False: []}
    for seed in range(20):
        for is_controlled, taken in delays.items():
            rng = np.random.default_rng(seed)
            (score_N, expected_N), (new_N, new_expected_N) = (
                traffic(rng, 2000),
                traffic(rng, 4000, loss=0.15),
            )
            flat_N, new_flat_N = np.full(2000, 0.5), np.full(4000, 0.5)
            watch = Watch(score_N, expected_N if is_controlled else flat_N, tolerance=0.0)
            watch.extend(new_N, new_expected_N if is_controlled else new_flat_N)
            taken.append(watch.num_seen)
    assert np.median(delays[True]) < np.median(delays[False])


def test_labels_one_by_one_or_at_once_give_one_verdict():
    """A job may read the log as often as it likes."""
    rng = np.random.default_rng(5)
    reference, (score_N, expected_N) = traffic(rng, 500), traffic(rng, 400, loss=0.4)
    at_once, one_by_one = Watch(*reference), Watch(*reference)
    at_once.extend(score_N, expected_N)
    for score, expected in zip(score_N, expected_N, strict=True):
        one_by_one.extend([score], [expected])
    assert one_by_one.verdict is at_once.verdict is Verdict.REGRESSED
    assert one_by_one.num_seen == at_once.num_seen < 400
    assert one_by_one.log_capital == pytest.approx(at_once.log_capital)
    assert at_once.extend([1.0] * 10, [0.0] * 10) is Verdict.REGRESSED


@given(st.floats(0.0, 1.0), st.lists(st.floats(0.0, 1.0), max_size=30))
def test_capital_is_never_lost_whole(mean, values):
    """No bet can ruin: the logarithm stays finite."""
    assert np.isfinite(Capital(mean).path(np.array(values))).all()


def test_bounds_hold_as_often_as_they_say():
    """Of 300 samples of mean 0.7, at most 5 % have their lower bound above it."""
    rng = np.random.default_rng(0)
    bounds = [lower_bound((rng.random(200) < 0.7).astype(float), 0.05) for _ in range(300)]
    assert np.mean(np.array(bounds) > 0.7) <= 0.05
    assert np.median(bounds) > 0.57


@pytest.mark.parametrize(
    ("scores", "expected", "options", "reason"),
    [
        ([0.5] * 99, [0.5] * 99, {}, "at least 100"),
        ([0.5] * 100, [0.5] * 99, {}, "one length"),
        ([1.5] * 100, [0.5] * 100, {}, "scores must lie"),
        ([0.5] * 100, [np.nan] * 100, {}, "expected must lie"),
        ([0.5] * 100, [0.5] * 100, {"alpha": 0.0}, "alpha"),
        ([0.5] * 100, [0.5] * 100, {"tolerance": -0.1}, "tolerance"),
    ],
)
def test_what_cannot_be_watched_is_refused(scores, expected, options, reason):
    """Too few labels, unequal lists, values and error rates out of their bounds."""
    with pytest.raises(InvalidInputError, match=reason):
        Watch(scores, expected, **options)


def test_no_new_label_changes_nothing():
    """An empty batch is no evidence."""
    watch = Watch([0.5] * 100, [0.5] * 100)
    assert watch.extend([], []) is Verdict.WAIT
    assert watch.num_seen == 0
