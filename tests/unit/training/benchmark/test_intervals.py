"""Intervals hold the truth as often as they say, and what belongs together is drawn together."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import InvalidInputError
from training.benchmark.intervals import (
    Earned,
    Interval,
    Weighting,
    linked_clusters,
    paired_intervals,
    queries_needed,
)


def earned_of(*quality, pool=None, query=None, cluster=None):
    """Return what policies a, b, ... earned; by default in one pool, every entry a cluster."""
    quality_NA = np.array(quality, dtype=float).T
    one_by_one = np.arange(len(quality_NA))
    query_N = one_by_one if query is None else np.array(query)
    return Earned(
        policies=tuple("abcdefgh"[: len(quality)]),
        quality_NA=quality_NA,
        pool_N=np.zeros_like(one_by_one) if pool is None else np.array(pool),
        query_N=query_N,
        cluster_N=query_N if cluster is None else np.array(cluster),
    )


def intervals(earned, **options):
    """Return the intervals of policy a, from a fixed seed."""
    return paired_intervals(earned, "a", rng=np.random.default_rng(0), **options)


def test_the_difference_is_that_of_the_means():
    """(1+1+0+1)/4 - (1+0+0+0)/4 = .75 - .25 = .5; against c .75 - 1 = -.25."""
    found = intervals(earned_of([1, 1, 0, 1], [1, 0, 0, 0], [1, 1, 1, 1]))
    assert found["b"].difference == 0.5
    assert found["c"].difference == -0.25
    assert (found["b"].num_clusters, found["b"].num_queries) == (4, 4)


def test_pools_count_alike_or_queries_do():
    """Pool 0 gains 1 on one entry, pool 1 gains 0 on three: (1 + 0)/2 = .5, or 1/4 = .25."""
    earned = earned_of([1, 0, 1, 1], [0, 0, 1, 1], pool=[0, 1, 1, 1])
    assert intervals(earned)["b"].difference == 0.5
    assert intervals(earned, weighting=Weighting.QUERIES)["b"].difference == 0.25


def test_one_pool_is_taken_out_whole():
    """Pool 1 alone: no gain, on its three queries."""
    earned = earned_of([1, 0, 1, 1], [0, 0, 1, 1], pool=[0, 1, 1, 1])
    found = intervals(earned.of_pool(1))["b"]
    assert (found.difference, found.low, found.high, found.num_queries) == (0.0, 0.0, 0.0, 3)
    assert not found.is_significant


def test_the_width_is_that_of_the_normal_approximation():
    """Differences 1 (30), -1 (10), 0 (60): .2 ± 1.96 sqrt(.4 - .04)/10 = .2 ± .1176."""
    one = [1] * 30 + [0] * 10 + [1] * 60
    other = [0] * 30 + [1] * 10 + [1] * 60
    found = intervals(earned_of(one, other), num_resamples=4000)["b"]
    assert found.difference == pytest.approx(0.2)
    assert found.low == pytest.approx(0.2 - 0.1176, abs=0.011)
    assert found.high == pytest.approx(0.2 + 0.1176, abs=0.011)
    assert found.is_significant


def test_seeds_that_repeat_a_query_add_no_evidence():
    """Every entry four times over, as under four seeds: the same interval, not half of it."""
    rng = np.random.default_rng(3)
    quality = rng.integers(0, 2, (2, 100))
    once = intervals(earned_of(*quality))["b"]
    often = intervals(earned_of(*np.tile(quality, 4), query=np.tile(np.arange(100), 4)))["b"]
    assert (often.low, often.high) == (once.low, once.high)
    assert often.num_queries == 100


def test_a_cluster_moves_together():
    """25 clusters of 4 equal entries are as wide as 25 entries: twice as wide as 100."""
    rng = np.random.default_rng(4)
    quality = np.repeat(rng.integers(0, 2, (2, 25)), 4, axis=1)
    apart = intervals(earned_of(*quality))["b"]
    together = intervals(earned_of(*quality, cluster=np.arange(100) // 4))["b"]
    assert together.num_clusters == 25
    assert together.num_queries == 100
    assert together.high - together.low == pytest.approx(2 * (apart.high - apart.low), rel=0.2)


def test_one_query_in_two_pools_counts_as_one():
    """Two pools that agree on every query are no surer than one of them."""
    rng = np.random.default_rng(5)
    quality = rng.integers(0, 2, (2, 80))
    one = intervals(earned_of(*quality))["b"]
    both = intervals(
        earned_of(
            *np.tile(quality, 2), pool=np.repeat([0, 1], 80), query=np.tile(np.arange(80), 2)
        )
    )["b"]
    assert both.low == pytest.approx(one.low)
    assert both.high == pytest.approx(one.high)


def test_the_interval_covers_a_known_difference():
    """.6 against .5, each cluster of 3 lucky or not by .2: .1 is held in 95 % of 200 worlds."""
    rng = np.random.default_rng(6)
    num_covered = 0
    for _ in range(200):
        luck = np.repeat(rng.choice([-0.2, 0.2], (2, 60)), 3, axis=1)
        quality = rng.random((2, 180)) < np.array([[0.6], [0.5]]) + luck
        earned = earned_of(*quality, cluster=np.arange(180) // 3)
        found = paired_intervals(earned, "a", rng=rng, num_resamples=300)["b"]
        num_covered += found.low <= 0.1 <= found.high
    # Three binomial standard deviations of 1.5 points either way.
    assert 0.90 <= num_covered / 200 <= 0.995


def test_a_pool_that_a_resample_misses_does_not_break_it():
    """One entry of pool 1 among twenty: a third of the resamples have none of it."""
    quality = np.random.default_rng(8).integers(0, 2, (2, 20))
    found = intervals(earned_of(*quality, pool=[1] + [0] * 19))["b"]
    assert math.isfinite(found.low)
    assert found.low <= found.difference <= found.high


def test_forty_thousand_clusters_take_seconds():
    """2,000 resamples of 40,000 clusters, 4 pools and 10 policies, on a busy machine too."""
    rng = np.random.default_rng(9)
    pool, query = rng.integers(0, 4, 60_000), rng.permutation(60_000) % 40_000
    quality = rng.integers(0, 2, (8, 60_000))
    started = time.monotonic()
    found = intervals(earned_of(*quality, pool=pool, query=query))
    assert time.monotonic() - started < 30
    assert found["b"].num_clusters == 40_000


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(2, 30), st.integers(1, 3))
def test_an_interval_is_in_order_and_turns_with_the_policies(seed, num_entries, num_pools):
    """It holds differences within -1 to 1, and b against a is a against b, mirrored."""
    rng = np.random.default_rng(seed)
    earned = earned_of(*rng.random((2, num_entries)), pool=rng.integers(0, num_pools, num_entries))
    here = paired_intervals(earned, "a", rng=np.random.default_rng(1), num_resamples=50)["b"]
    there = paired_intervals(earned, "b", rng=np.random.default_rng(1), num_resamples=50)["a"]
    assert -1 <= here.low <= here.high <= 1
    assert there.difference == pytest.approx(-here.difference)
    assert (there.low, there.high) == pytest.approx((-here.high, -here.low))


def test_groups_are_linked_by_the_queries_they_share():
    """Pool 0 groups queries 0,1 | 2, pool 1 groups 1,2 | 3: all but query 3 hang together."""
    cluster = linked_clusters([0, 0, 0, 1, 1, 1], [0, 1, 2, 1, 2, 3], [7, 7, 8, 7, 7, 9])
    assert len(set(cluster[:5])) == 1
    assert cluster[5] != cluster[0]


def test_equal_numbers_in_two_pools_are_no_link():
    """Group 7 of one pool is another than group 7 of the other."""
    cluster = linked_clusters([0, 0, 1, 1], [0, 1, 2, 3], [7, 7, 7, 8])
    assert cluster[0] == cluster[1]
    assert len({cluster[0], cluster[2], cluster[3]}) == 3


def test_no_entries_have_no_clusters():
    """An empty run is not an error here."""
    assert len(linked_clusters([], [], [])) == 0


@pytest.mark.parametrize(
    ("difference", "expected"),
    [(0.02, 1500), (-0.02, 1500), (0.04, 0), (0.08, 0), (0.03, 389), (0.0, math.inf)],
)
def test_queries_needed(difference, expected):
    """500 queries give ± .04. For .02: 500 (2² - 1) = 1,500; for .03: 500 (16/9 - 1) = 388.9."""
    interval = Interval(difference=0.01, low=-0.03, high=0.05, num_clusters=400, num_queries=500)
    assert queries_needed(difference, interval) == expected


def test_what_cannot_be_compared_is_refused():
    """An unknown or lone policy, one cluster, unequal columns, an entry that nobody answered."""
    with pytest.raises(InvalidInputError, match="none of") as caught:
        paired_intervals(earned_of([1, 0], [0, 0]), "z", rng=np.random.default_rng(0))
    assert caught.value.field == "policy"
    with pytest.raises(InvalidInputError, match="only one"):
        intervals(earned_of([1, 0]))
    with pytest.raises(InvalidInputError, match="two clusters"):
        intervals(earned_of([1, 0], [0, 0], cluster=[5, 5]))
    with pytest.raises(InvalidInputError, match="columns"):
        earned_of([1, 0], [0, 0], cluster=[5])
    with pytest.raises(InvalidInputError, match="on every entry"):
        earned_of([1, math.nan], [0, 0])
