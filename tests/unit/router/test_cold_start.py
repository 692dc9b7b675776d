"""Before any router: the default candidate, or a draw of exactly known chance."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.candidate import Candidate, Price
from router.cold_start import UNKNOWN_REGRET, explore_cold
from router.errors import NoCandidateError
from router.exploration import UNLIMITED, Regret
from router.records import Policy, Pool, QueryShape, Refusal, Routing, Standing

NAMES = ("aster", "birch", "cedar")
PRICES = (0.1, 1.0, 3.0)


def pool(refused=()):
    """Three candidates, the third the dearest."""
    return Pool(
        standings=tuple(
            Standing(
                candidate=Candidate(
                    id=name, price=Price(input_usd_per_mtok=price, output_usd_per_mtok=price)
                ),
                refusal=Refusal.NO_REPLICA if name in refused else None,
            )
            for name, price in zip(NAMES, PRICES, strict=True)
        )
    )


def decide(seed=0, *, refused=(), share=0.3, left=UNLIMITED, preferred="birch"):
    """Decide once."""
    return explore_cold(
        pool(refused),
        QueryShape(num_chars=10),
        features_F=np.ones(4, dtype=np.float32),
        feature_schema_hash="f",
        routing=Routing(explore_share=share),
        left=left,
        preferred=preferred,
        decision_id="dec_1",
        seed=seed,
    )


@given(st.integers(0, 2**32), st.floats(0.01, 1.0), st.sets(st.sampled_from(NAMES), max_size=2))
def test_the_propensity_is_the_chance_of_the_draw(seed, share, refused):
    """Chances sum to 1, none is left to the refused, and the choice's own is logged."""
    decision = decide(seed, refused=refused, share=share)
    assert sum(decision.propensities) == pytest.approx(1.0)
    for name, chance in zip(NAMES, decision.propensities, strict=True):
        assert (chance == 0.0) == (name in refused)
    assert decision.propensity == decision.propensities[NAMES.index(decision.choice)]


def test_draws_come_as_often_as_they_say():
    """Of 2,000 seeds, within four standard errors."""
    found = Counter(decide(seed).choice for seed in range(2000))
    assert found["birch"] / 2000 == pytest.approx(0.8, abs=0.036)
    assert found["aster"] / 2000 == pytest.approx(0.1, abs=0.027)


def test_the_default_counts_as_greedy_and_learning_may_use_both():
    """Neither is a fallback, whose chance nobody knows."""
    policies = {decide(seed).choice: decide(seed).policy for seed in range(50)}
    assert policies["birch"] is Policy.GREEDY
    assert policies["cedar"] is Policy.EXPLORE
    assert decide().features_F is not None


def test_a_draw_is_charged_as_if_half_of_it_were_lost():
    """0.2 of the chances lie off the default; what is dearer costs the difference."""
    decision = decide()
    assert decision.regret_quality == pytest.approx(0.2 * UNKNOWN_REGRET)
    assert decision.regret_usd == pytest.approx(0.1 * 2.0 * 700 / 1e6)


@pytest.mark.parametrize(
    "wish", [{"share": 0.0}, {"left": Regret(1.0, 0.05)}, {"left": Regret(0.0, 1.0)}]
)
def test_without_a_share_or_a_budget_nothing_is_explored(wish):
    """The caller falls back to the default candidate."""
    assert decide(**wish) is None


def test_where_the_default_cannot_serve_the_dearest_does():
    """What a team without a router would call."""
    assert decide(refused=("birch",)).propensities[2] > 0.8
    assert decide(preferred=None).propensities[2] > 0.7


def test_nobody_available_is_an_error_with_reasons():
    """As everywhere else."""
    with pytest.raises(NoCandidateError):
        decide(refused=NAMES)
