"""The published figures, in sums that can be checked by hand and in what holds for any curve."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import InvalidInputError
from training.benchmark.metrics import (
    COST_WEIGHTS,
    CostBounds,
    envelope,
    log_cheapness,
    normalised_auc,
    peak_quality,
    quality_neutral_cost,
    rank_score,
    share_of_gap,
)

COSTS = [4.0, 1.0, 2.0, 2.0, 3.0]
QUALITIES = [0.8, 0.4, 0.6, 0.5, 0.55]
"""Of the two points at cost 2 the better stays; the one at 3 is worse than a cheaper one."""

UNIT = st.floats(0, 1)
POINTS = st.lists(st.tuples(st.floats(1e-6, 1e3), UNIT), min_size=1, max_size=20)
BOUNDS = CostBounds(1.0, 16.0)


def test_the_sweep_is_none_and_fifty_powers():
    """0, then 1e-4 to 1e4 in equal ratios."""
    assert len(COST_WEIGHTS) == 51
    assert COST_WEIGHTS[0] == 0.0
    assert COST_WEIGHTS[1] == pytest.approx(1e-4)
    assert COST_WEIGHTS[-1] == pytest.approx(1e4)
    assert np.ptp(np.diff(np.log10(COST_WEIGHTS[1:]))) == pytest.approx(0.0, abs=1e-12)


def test_the_envelope_keeps_what_no_cheaper_point_beats():
    """(1, .4), (2, .6), (4, .8)."""
    cost_P, quality_P = envelope(COSTS, QUALITIES)
    assert cost_P.tolist() == [1.0, 2.0, 4.0]
    assert quality_P.tolist() == [0.4, 0.6, 0.8]


def test_a_dearer_point_of_equal_quality_is_left_out():
    """(1, .5) and (2, .5): the second buys nothing."""
    assert envelope([2.0, 1.0], [0.5, 0.5]).cost_P.tolist() == [1.0]


def test_area():
    """(1 * (.4 + .6)/2 + 2 * (.6 + .8)/2) / 3 = (.5 + 1.4) / 3 = .63333."""
    assert normalised_auc(COSTS, QUALITIES) == pytest.approx(1.9 / 3)


def test_one_point_has_no_area():
    """A curve that never moves has no range of costs."""
    assert math.isnan(normalised_auc([2.0, 2.0], [0.5, 0.4]))


def test_peak():
    """0.8, at the dearest point."""
    assert peak_quality(COSTS, QUALITIES) == 0.8


@pytest.mark.parametrize(
    ("best_quality", "best_cost", "expected"),
    [(0.6, 8.0, 0.25), (0.61, 8.0, 0.5), (0.81, 8.0, math.inf), (0.6, 0.0, math.inf)],
)
def test_quality_neutral_cost(best_quality, best_cost, expected):
    """2/8 for what (2, .6) gives; 4/8 for anything above; inf for more than the peak."""
    found = quality_neutral_cost(COSTS, QUALITIES, best_quality=best_quality, best_cost=best_cost)
    assert found == expected


@pytest.mark.parametrize(
    ("cost", "expected"), [(1.0, 1.0), (4.0, 0.5), (16.0, 0.0), (0.1, 1.0), (99.0, 0.0)]
)
def test_cheapness_halves_with_the_square_root(cost, expected):
    """log2(16/4) / log2(16/1) = 2/4; beyond the bounds it is that of the bound."""
    assert log_cheapness(cost, BOUNDS) == expected


def test_rank_score():
    """1.1 * .8 * .5 / (.1 * .8 + .5) = .44 / .58 = .758621."""
    assert rank_score(0.8, 4.0, BOUNDS) == pytest.approx(0.44 / 0.58)


def test_rank_score_of_the_extremes():
    """At the dearest model's cost, or never right: 0."""
    assert rank_score(0.8, 16.0, BOUNDS) == 0.0
    assert rank_score(0.0, 4.0, BOUNDS) == 0.0
    assert rank_score(0.0, 16.0, BOUNDS) == 0.0


@pytest.mark.parametrize("bounds", [(1.0, 1.0), (0.0, 1.0), (math.nan, math.nan)])
def test_a_pool_without_a_range_of_costs_has_no_rank_score(bounds):
    """One price for all, a free model, or none known."""
    assert math.isnan(rank_score(0.8, 1.0, CostBounds(*bounds)))


def test_share_of_gap():
    """(.78 - .75) / (.90 - .75) = .2; with no gap there is no share."""
    assert share_of_gap(0.78, 0.75, 0.90) == pytest.approx(0.2)
    assert share_of_gap(0.72, 0.75, 0.90) == pytest.approx(-0.2)
    assert math.isnan(share_of_gap(0.75, 0.75, 0.75))


@pytest.mark.parametrize(
    ("cost", "quality"),
    [([], []), ([1.0], [1.0, 2.0]), ([math.nan], [1.0]), ([-1.0], [1.0]), ([1.0], [math.inf])],
)
def test_what_is_no_curve_is_refused(cost, quality):
    """No point, unequal lengths, unknown or negative costs."""
    with pytest.raises(InvalidInputError) as caught:
        envelope(cost, quality)
    assert caught.value.field == "cost_L"


@given(POINTS)
def test_an_envelope_rises(points):
    """In cost and in quality, and it holds the cheapest point and the best."""
    cost, quality = zip(*points, strict=True)
    cost_P, quality_P = envelope(cost, quality)
    assert (np.diff(cost_P) > 0).all()
    assert (np.diff(quality_P) > 0).all()
    assert cost_P[0] == min(cost)
    assert quality_P[-1] == max(quality) == peak_quality(cost, quality)
    assert set(zip(cost_P.tolist(), quality_P.tolist(), strict=True)) <= set(points)


@given(POINTS)
def test_an_envelope_is_its_own(points):
    """Taking it twice changes nothing, and neither does the order of the points."""
    once = envelope(*zip(*points, strict=True))
    again = envelope(*once)
    turned = envelope(*zip(*reversed(points), strict=True))
    for other in (again, turned):
        assert np.array_equal(once.cost_P, other.cost_P)
        assert np.array_equal(once.quality_P, other.quality_P)


@given(POINTS)
def test_the_area_lies_within_the_qualities(points):
    """It is a mean of the envelope's quality over cost."""
    cost, quality = zip(*points, strict=True)
    area = normalised_auc(cost, quality)
    assert math.isnan(area) or min(quality) - 1e-9 <= area <= max(quality) + 1e-9


@given(POINTS, st.floats(0.01, 100))
def test_the_unit_of_cost_changes_no_figure(points, factor):
    """Neither area nor quality-neutral cost."""
    cost, quality = zip(*points, strict=True)
    scaled = [factor * c for c in cost]
    before = quality_neutral_cost(cost, quality, best_quality=0.5, best_cost=2.0)
    after = quality_neutral_cost(scaled, quality, best_quality=0.5, best_cost=2.0 * factor)
    assert before == pytest.approx(after)


@given(POINTS, st.data())
def test_with_the_best_single_on_the_curve_its_quality_costs_no_more(points, data):
    """QNC is at most 1, and above 0."""
    cost, quality = zip(*points, strict=True)
    i = data.draw(st.integers(0, len(points) - 1))
    found = quality_neutral_cost(cost, quality, best_quality=quality[i], best_cost=cost[i])
    assert 0 < found <= 1


@given(POINTS, UNIT)
def test_a_further_point_never_makes_quality_dearer(points, best_quality):
    """The envelope of more points is at or above that of fewer."""
    cost, quality = zip(*points, strict=True)
    fewer, more = (
        quality_neutral_cost(c, q, best_quality=best_quality, best_cost=1.0)
        for c, q in ((cost[:1], quality[:1]), (cost, quality))
    )
    assert more <= fewer


@given(st.floats(1e-3, 1), st.floats(1, 16))
def test_the_rank_score_lies_between_accuracy_and_cheapness(quality, cost):
    """As any weighted harmonic mean does."""
    cheapness = log_cheapness(cost, BOUNDS)
    score = rank_score(quality, cost, BOUNDS)
    assert min(quality, cheapness) - 1e-9 <= score <= max(quality, cheapness) + 1e-9


@given(UNIT, UNIT, st.floats(1, 16), st.floats(1, 16))
def test_the_rank_score_rises_with_accuracy_and_falls_with_cost(one, other, low, high):
    """Weakly: nothing is gained where either is 0."""
    worse, better = sorted((one, other))
    cheap, dear = sorted((low, high))
    assert rank_score(worse, cheap, BOUNDS) <= rank_score(better, cheap, BOUNDS) + 1e-12
    assert rank_score(worse, dear, BOUNDS) <= rank_score(worse, cheap, BOUNDS) + 1e-12
