"""The scorer keeps pools ready, and never takes one for another."""

import dataclasses

import numpy as np
import pytest

from router.candidate import Candidate, Price
from router.errors import InvalidInputError
from router.kinds import Kinds
from router.latent_scorer import NUM_CACHED_POOLS, LatentScorer


def score(scorer, artifact, candidates, features_F):
    """Score one query with everyone available."""
    return scorer.score(
        features_F,
        num_chars=100,
        num_images=1,
        candidates=candidates,
        profiles=artifact.profiles,
        available_M=np.ones(len(candidates), dtype=bool),
    )


def equal(one, other):
    """Compare scores to the bit."""
    return all(np.array_equal(getattr(one, n), getattr(other, n)) for n in one.__slots__)


@pytest.fixture(scope="module")
def query(world):
    """Return one query."""
    return world.make(1, seed=5)[0].features_NF[0]


def test_a_pool_seen_before_scores_the_same(world, fitted, query):
    """From memory as when it was new, and as with a scorer that never saw it."""
    scorer = fitted[0].scorer()
    new, again = (score(scorer, fitted[0], world.candidates, query) for _ in range(2))
    assert equal(new, again)
    assert equal(new, score(fitted[0].scorer(), fitted[0], world.candidates, query))


def test_more_pools_than_are_kept_are_scored_rightly(world, fitted, query):
    """Prices come and go; the first pool is built anew after it was forgotten."""
    scorer, first = fitted[0].scorer(), world.candidates[0]
    before = score(scorer, fitted[0], [first], query)
    for number in range(1, NUM_CACHED_POOLS + 2):
        price = Price(input_usd_per_mtok=float(number), output_usd_per_mtok=0.0)
        dearer = dataclasses.replace(first, price=price)
        cost_usd = score(scorer, fitted[0], [dearer], query).cost_usd_M[0]
        if number == 1:
            unit_usd = cost_usd
        assert cost_usd == pytest.approx(number * unit_usd)
    assert equal(before, score(scorer, fitted[0], [first], query))


def test_candidates_that_share_a_price_are_not_confused(world, fitted, query):
    """Two strangers without a profile have one price and no profile, and still their own pool."""
    scorer, price = fitted[0].scorer(), world.candidates[0].price
    strangers = [Candidate(id=name, price=price) for name in ("new", "newer")]
    one, other = (score(scorer, fitted[0], [stranger], query) for stranger in strangers)
    assert equal(one, other)


def test_a_network_of_other_kinds_is_refused(fitted):
    """A capability vector's width depends on the number of kinds."""
    artifact = fitted[0]
    fewer = Kinds(centres_KD=artifact.kinds.centres_KD[:-1], scale=artifact.kinds.scale)
    with pytest.raises(InvalidInputError, match="reads capability vectors of"):
        LatentScorer(artifact.network, artifact.projection, fewer)
