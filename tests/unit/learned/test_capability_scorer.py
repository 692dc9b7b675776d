"""The scorer keeps pools ready, never takes one for another, and lets nobody disturb a neighbour.

Axis legend: N = queries, F = features, M = candidates, R = basis functions.
"""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from router.candidate import Candidate, Price
from router.capability_scorer import BATCH, NUM_CACHED_POOLS
from router.errors import InvalidInputError


def score(scorer, candidates, profiles, features_F):
    """Score one query."""
    return scorer.score(
        features_F, num_chars=100, num_images=1, candidates=candidates, profiles=profiles
    )


def equal(one, other):
    """Compare scores to the bit."""
    return all(np.array_equal(getattr(one, n), getattr(other, n)) for n in one.__slots__)


def crowd(artifact, size, seed=0):
    """Return made-up candidates with tokens near those of the trained ones."""
    rng = np.random.default_rng(seed)
    known = list(artifact.profiles.values())
    candidates, profiles = [], {}
    for number in range(size):
        base, name = known[number % len(known)], f"m{number}"
        token_R = np.array(base.token_R) + 0.02 * rng.normal(size=len(base.token_R))
        profiles[name] = dataclasses.replace(
            base, candidate_id=name, token_R=tuple(token_R.tolist())
        )
        price = Price(input_usd_per_mtok=rng.random(), output_usd_per_mtok=rng.random())
        candidates.append(Candidate(id=name, price=price))
    return candidates, profiles


@pytest.fixture(scope="module")
def query(world):
    """Return one query."""
    return world.make(1, seed=5)[0].features_NF[0]


def test_a_pool_seen_before_scores_the_same(world, fitted, query):
    """From memory as when it was new, and as with a scorer that never saw it."""
    artifact = fitted[0]
    scorer, profiles = artifact.scorer(), artifact.profiles
    new, again = (score(scorer, world.candidates, profiles, query) for _ in range(2))
    assert equal(new, again)
    assert equal(new, score(artifact.scorer(), world.candidates, profiles, query))


def test_more_pools_than_are_kept_are_scored_rightly(world, fitted, query):
    """Prices come and go; the first pool is built anew after it was forgotten."""
    artifact, first = fitted[0], world.candidates[0]
    scorer = artifact.scorer()
    before = score(scorer, [first], artifact.profiles, query)
    costs_usd = []
    for number in range(1, NUM_CACHED_POOLS + 2):
        price = Price(input_usd_per_mtok=float(number), output_usd_per_mtok=0.0)
        dearer = dataclasses.replace(first, price=price)
        costs_usd.append(score(scorer, [dearer], artifact.profiles, query).cost_usd_M[0])
    numbers = np.arange(1, NUM_CACHED_POOLS + 2)
    assert np.allclose(np.array(costs_usd), numbers * costs_usd[0])
    assert equal(before, score(scorer, [first], artifact.profiles, query))


def test_candidates_that_share_a_price_or_a_profile_are_not_confused(world, fitted, query):
    """One price with two profiles, and two orders of one pool, are pools of their own."""
    artifact, price = fitted[0], world.candidates[0].price
    scorer = artifact.scorer()
    alike = [Candidate(id=candidate.id, price=price) for candidate in world.candidates]
    alone = [score(scorer, [c], artifact.profiles, query).quality_mean_M[0] for c in alike]
    assert len(set(alone)) == len(alike)
    for pool in (alike, alike[::-1]):
        together = score(scorer, pool, artifact.profiles, query).quality_mean_M
        expected = [alone[alike.index(candidate)] for candidate in pool]
        assert np.allclose(together, expected, atol=1e-6)


def test_a_new_profile_counts_at_once(world, fitted, query):
    """A profile that replaces another under the same name is not taken for it."""
    artifact = fitted[0]
    scorer, old = artifact.scorer(), artifact.profiles["aster"]
    before = score(scorer, world.candidates, artifact.profiles, query)
    better = dataclasses.replace(old, token_R=(old.token_R[0] + 0.05, *old.token_R[1:]))
    after = score(scorer, world.candidates, {**artifact.profiles, "aster": better}, query)
    risen_M = after.quality_mean_M - before.quality_mean_M
    assert risen_M == pytest.approx([0.05, 0.0, 0.0, 0.0], abs=1e-6)


@pytest.mark.parametrize("size", [2, 10, 100, 1000])
def test_candidates_come_and_go_without_moving_a_score(fitted, query, size):
    """One more or one less leaves all others within a millionth, in a pool of any size."""
    artifact = fitted[0]
    candidates, profiles = crowd(artifact, size)
    scorer = artifact.scorer()
    whole = score(scorer, candidates, profiles, query)
    fewer = score(scorer, candidates[:-1], profiles, query)
    lone = score(scorer, candidates[:1], profiles, query)
    for name in whole.__slots__:
        full_M = getattr(whole, name)
        assert full_M.shape == (size,)
        assert np.isfinite(full_M).all()
        assert np.allclose(full_M[:-1], getattr(fewer, name), atol=1e-6)
        assert np.allclose(full_M[:1], getattr(lone, name), atol=1e-6)


def test_many_queries_score_as_each_alone(world, fitted):
    """More queries than one pass takes, none and one agree with `score`."""
    artifact = fitted[0]
    scorer, features_NF = artifact.scorer(), world.make(BATCH + 7, seed=6)[0].features_NF
    arguments = {"candidates": world.candidates, "profiles": artifact.profiles}
    quality_NM = scorer.quality(features_NF, **arguments)
    assert quality_NM.shape == (BATCH + 7, 4)
    assert ((quality_NM >= 0) & (quality_NM <= 1)).all()
    for row in (0, BATCH - 1, BATCH, BATCH + 6):
        alone = score(scorer, features_F=features_NF[row], **arguments)
        assert np.allclose(quality_NM[row], alone.quality_mean_M, atol=1e-6)
    assert scorer.quality(features_NF[:0], **arguments).shape == (0, 4)


def test_the_score_is_difficulty_and_token_over_the_basis(world, fitted, query):
    """The folded product equals the formula; the deviation mixes kinds by membership."""
    artifact = fitted[0]
    queries, profile = artifact.queries, artifact.profiles["birch"]
    projected_ND = artifact.projection.transform(query[None])
    weights_R = queries.difficulty_R + np.array(profile.token_R)
    mean = np.clip(queries.anchors.basis(projected_ND)[0] @ weights_R, 0.0, 1.0)
    membership_K = artifact.kinds.assign(projected_ND)[0]
    found = score(artifact.scorer(), world.candidates[1:2], artifact.profiles, query)
    assert found.quality_mean_M[0] == pytest.approx(mean, abs=1e-5)
    variance = membership_K @ np.square(profile.token_std_K)
    assert found.quality_std_M[0] == pytest.approx(np.sqrt(variance), rel=1e-5)


def test_threads_share_a_scorer(fitted, query):
    """Pools built at once by many threads score as one after another."""
    artifact = fitted[0]
    candidates, profiles = crowd(artifact, 2 * NUM_CACHED_POOLS)
    scorer = artifact.scorer()
    pools = [candidates[i : i + 2] for i in range(len(candidates) - 1)]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda pool: score(scorer, pool, profiles, query), pools))
    for pool, one in zip(pools, found, strict=True):
        assert equal(one, score(artifact.scorer(), pool, profiles, query))


def test_what_does_not_fit_is_named(world, fitted, query):
    """Foreign kinds, a token of another width and a missing profile are refused by name."""
    artifact, pool = fitted[0], world.candidates[:1]
    scorer, aster = artifact.scorer(), artifact.profiles["aster"]
    foreign = dataclasses.replace(aster, kinds_hash="other")
    with pytest.raises(InvalidInputError, match="'aster' was counted under other kinds"):
        score(scorer, pool, {"aster": foreign}, query)
    short = dataclasses.replace(aster, token_R=aster.token_R[:-1])
    with pytest.raises(InvalidInputError, match="token of 'aster' has"):
        score(scorer, pool, {"aster": short}, query)
    with pytest.raises(InvalidInputError, match="'aster' has no profile"):
        score(scorer, pool, {}, query)
    assert score(scorer, (), {}, query).cost_usd_M.shape == (0,)
