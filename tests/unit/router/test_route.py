"""From features to a decision: the mask holds, and candidates do not disturb each other."""

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from score_tables import (
    ABC,
    FEATURES_F,
    SCHEMA_HASH,
    SHAPE,
    TABLE,
    decide,
    floor,
    router,
    standing,
)

from router.errors import InvalidInputError, NoCandidateError
from router.probation import Probation
from router.records import (
    REPLICA_REFUSALS,
    Policy,
    Pool,
    Refusal,
    Routing,
)
from router.route import choose_without_router, route
from router.scores import Scores
from router.utility import Reference

rows = st.tuples(
    st.integers(0, 1000).map(lambda n: n / 1000), st.floats(0.0, 1.0), st.floats(0.0, 1.0)
)
unavailable = st.sampled_from([Refusal.COLD, Refusal.STARTING, Refusal.DRAINING])
wishes = st.fixed_dictionaries(
    {
        "cost_weight": st.floats(0.0, 1.0),
        "latency_weight": st.floats(0.0, 1.0),
        "explore_share": st.sampled_from([0.0, 0.0, 0.5, 1.0]),
    }
)


@st.composite
def pools(draw):
    """Draw a table of scores and as many standings, at least one of them available."""
    entries = draw(
        st.lists(st.tuples(rows, st.none() | unavailable), min_size=1, max_size=6).filter(
            lambda found: any(refusal is None for _, refusal in found)
        )
    )
    table = {f"m{i}": row for i, (row, _) in enumerate(entries)}
    return table, [standing(f"m{i}", refusal) for i, (_, refusal) in enumerate(entries)]


@given(pools(), wishes, st.integers(0, 1000))
def test_a_masked_candidate_is_never_chosen(pool, wish, seed):
    """However it scores and whatever the seed draws."""
    table, standings = pool
    decision = decide(router(table), standings, seed=seed, **wish)
    index = decision.candidate_ids.index(decision.choice)
    assert decision.is_available[index]
    assert decision.refusals == tuple(s.refusal for s in standings)
    assert 0.0 < decision.propensity <= 1.0


@given(pools(), wishes, rows, unavailable | st.just("no profile"), st.data())
def test_adding_an_ineligible_candidate_changes_nothing(pool, wish, row, why, data):
    """Choice, propensity and the others' utilities stay, wherever in the pool it is put."""
    table, standings = pool
    place = data.draw(st.integers(0, len(standings)))
    seed = data.draw(st.integers(0, 1000))
    newcomer = standing("new", None if why == "no profile" else why)
    wider = [*standings[:place], newcomer, *standings[place:]]
    profiled = table if why == "no profile" else [*table, "new"]
    before = decide(router(table), standings, seed=seed, **wish)
    after = decide(router({**table, "new": row}, profiled=profiled), wider, seed=seed, **wish)
    others = [i for i in range(len(wider)) if i != place]
    assert (after.choice, after.propensity) == (before.choice, before.propensity)
    assert tuple(after.utilities[i] for i in others) == before.utilities
    assert after.refusals[place] is not None


@given(pools(), st.randoms(use_true_random=False))
def test_permuting_the_pool_permutes_the_decision(pool, random):
    """Order carries no meaning: the same candidate is chosen, and each keeps its utility."""
    table, standings = pool
    assume(len({table[s.candidate.id][0] for s in standings}) == len(standings))
    moved = random.sample(standings, len(standings))
    plain, other = decide(router(table), standings), decide(router(table), moved)
    assert other.choice == plain.choice
    assert dict(zip(other.candidate_ids, other.utilities, strict=True)) == dict(
        zip(plain.candidate_ids, plain.utilities, strict=True)
    )
    assert other.ranking == plain.ranking


def test_a_decision_holds_all_that_led_to_it():
    """Cost weight 0.5 in units of 0.004 USD: 0.9 - 0.5 * 1 = 0.4 is less than 0.7 - 0.25."""
    one = router(TABLE, reference=Reference(cost_usd=0.004))
    decision = decide(one, ABC, cost_weight=0.5, seed=11)
    assert decision.utilities == pytest.approx((0.4 - 0.125, 0.9 - 0.5, 0.7 - 0.25))
    assert decision.choice == "c"
    assert decision.ranking == ("c", "b", "a")
    assert decision.quality_means == (0.4, 0.9, 0.7)
    assert decision.quality_stds == (0.1, 0.1, 0.1)
    assert decision.costs_usd == (0.001, 0.004, 0.002)
    assert decision.latencies_s == (1.0, 4.0, 2.0)
    assert decision.predicted_quality == 0.7
    assert (decision.decision_id, decision.router_version) == ("d1", "7")
    assert decision.feature_schema_hash == SCHEMA_HASH
    assert (decision.policy, decision.propensity, decision.seed) == (Policy.GREEDY, 1.0, 11)
    assert decision.features_F is FEATURES_F


@pytest.mark.parametrize(
    ("wish", "refused", "choice"),
    [
        ({"max_cost_usd": 0.003}, {"b": Refusal.OVER_PRICE_CAP}, "c"),
        ({"max_latency_s": 3.0}, {"b": Refusal.OVER_LATENCY_CAP}, "c"),
        (
            {"max_cost_usd": 0.003, "max_latency_s": 1.5},
            {"b": Refusal.OVER_PRICE_CAP, "c": Refusal.OVER_LATENCY_CAP},
            "a",
        ),
        ({"deny": ("b", "c")}, {"b": Refusal.DENIED, "c": Refusal.DENIED}, "a"),
    ],
)
def test_caps_and_denials_mask(wish, refused, choice):
    """The best candidate within the request's own wishes is chosen; the rest say why not."""
    decision = decide(router(TABLE), ABC, **wish)
    assert decision.choice == choice
    assert decision.refusals == tuple(refused.get(name) for name in TABLE)


def test_a_cap_goes_before_what_passes_by_itself():
    """A cold candidate over the cap is over the cap: warming it up would not help."""
    standings = [ABC[0], standing("b", Refusal.COLD), standing("c", Refusal.COLD)]
    decision = decide(router(TABLE), standings, max_cost_usd=0.003)
    assert decision.refusals == (None, Refusal.OVER_PRICE_CAP, Refusal.COLD)


def test_a_candidate_without_a_profile_is_masked_and_not_scored():
    """The scorer is not asked for it; its figures are NaN; the others are chosen among."""
    one = router(TABLE, profiled=("a", "c"))
    decision = decide(one, ABC)
    assert decision.choice == "c"
    assert decision.refusals == (None, Refusal.NO_PROFILE, None)
    assert np.isnan(
        [decision.quality_means[1], decision.costs_usd[1], decision.utilities[1]]
    ).all()
    assert [candidate.id for candidate in one.scorer.calls[0][3]] == ["a", "c"]


def test_the_scorer_hears_the_query():
    """Masked candidates are scored too, so that the receipt shows what was missed."""
    one = router(TABLE)
    decision = decide(one, [standing("a", Refusal.COLD), *ABC[1:]])
    features_F, num_chars, num_images, candidates = one.scorer.calls[0]
    assert features_F is FEATURES_F
    assert (num_chars, num_images) == (80, 1)
    assert [candidate.id for candidate in candidates] == ["a", "b", "c"]
    assert decision.quality_means[0] == 0.4


def test_the_cheapest_within_the_floor_is_chosen():
    """Slack 0.25 under 0.9 keeps c (0.7) and refuses a (0.4); c costs half of b."""
    decision = decide(router(TABLE, floor=floor(0.25)), ABC, max_quality_drop=0.1)
    assert decision.choice == "c"
    assert decision.refusals == (Refusal.BELOW_FLOOR, None, None)
    assert decision.ranking == ("c", "b")


@pytest.mark.parametrize("one", [router(TABLE), router(TABLE, floor=floor(0.0))])
def test_a_floor_that_nobody_vouches_for_leaves_the_best(one):
    """Without calibration, or without a safe slack, the best prediction alone may answer."""
    decision = decide(one, ABC, max_quality_drop=0.5)
    assert decision.choice == "b"
    assert decision.refusals == (Refusal.BELOW_FLOOR, None, Refusal.BELOW_FLOOR)


def test_without_a_wish_there_is_no_floor():
    """A calibrated floor masks nobody until a request names its drop."""
    decision = decide(router(TABLE, floor=floor(0.25)), ABC)
    assert (decision.choice, decision.refusals) == ("b", (None, None, None))


def test_a_stated_weight_chooses_above_the_floor():
    """0.9 - 0.1 * 0.004 beats 0.7 - 0.1 * 0.002: the user's own weight is kept."""
    one = router(TABLE, floor=floor(0.25))
    assert decide(one, ABC, max_quality_drop=0.1, cost_weight=0.1).choice == "b"


@pytest.mark.parametrize("why", sorted(REPLICA_REFUSALS))
def test_the_floor_is_not_lowered_while_the_best_is_absent(why):
    """Whoever lies below an absent best is refused, and the error names both reasons."""
    standings = [ABC[0], standing("b", why), ABC[2]]
    with pytest.raises(NoCandidateError) as caught:
        decide(router(TABLE, floor=floor(0.1)), standings, max_quality_drop=0.1)
    assert caught.value.refusals == {"a": "below_floor", "b": why.value, "c": "below_floor"}
    decision = decide(router(TABLE, floor=floor(0.25)), standings, max_quality_drop=0.1)
    assert decision.choice == "c"


@pytest.mark.parametrize(
    ("wish", "bars"),
    [({"deny": ("b",)}, Refusal.DENIED), ({"max_cost_usd": 0.003}, Refusal.OVER_PRICE_CAP)],
)
def test_whom_the_request_rules_out_sets_no_floor(wish, bars):
    """With b denied or too dear, c at 0.7 is the best and a lies below it."""
    decision = decide(router(TABLE, floor=floor(0.1)), ABC, max_quality_drop=0.1, **wish)
    assert decision.choice == "c"
    assert decision.refusals == (Refusal.BELOW_FLOOR, bars, None)


def test_a_candidate_that_cannot_take_the_query_sets_no_floor():
    """A cold one is ruled out by its modalities or its price as a running one is."""
    wish = {"max_quality_drop": 0.1, "max_cost_usd": 0.003}
    standings = [ABC[0], standing("b", Refusal.COLD), ABC[2]]
    assert decide(router(TABLE, floor=floor(0.1)), standings, **wish).choice == "c"
    blind = standing("b", Refusal.COLD, modalities=frozenset({"text"}))
    standings = [ABC[0], blind, ABC[2]]
    one = router(TABLE, floor=floor(0.1))
    assert decide(one, standings, max_quality_drop=0.1).choice == "c"


def test_a_floor_over_a_pool_nobody_knows_masks_nobody_more():
    """Candidates without a profile keep that reason."""
    with pytest.raises(NoCandidateError) as caught:
        decide(router(TABLE, profiled=()), ABC, max_quality_drop=0.1)
    assert set(caught.value.refusals.values()) == {"no_profile"}


@given(pools(), st.sampled_from([0.0, 0.1, 0.3, 1.0]))
def test_the_floor_holds_for_any_pool(pool, slack):
    """Whoever is chosen lies within the slack of the best, and nobody there is cheaper."""
    table, standings = pool
    table = {name: (quality, round(cost, 2), s) for name, (quality, cost, s) in table.items()}
    least = max(quality for quality, _, _ in table.values()) - slack
    within = [s.candidate.id for s in standings if s.refusal is None]
    within = [name for name in within if table[name][0] >= least]
    try:
        decision = decide(router(table, floor=floor(slack)), standings, max_quality_drop=0.1)
    except NoCandidateError:
        assert not within
    else:
        assert decision.choice in within
        assert table[decision.choice][1] == min(table[name][1] for name in within)


def test_caution_prefers_whom_much_is_known_of():
    """Two deviations off: b has 0.9 - 2 * 0.2 = 0.5, c has 0.7 - 2 * 0.05 = 0.6."""
    one = router(TABLE, stds={"b": 0.2, "c": 0.05})
    assert decide(one, ABC).choice == "b"
    cautious = decide(one, ABC, caution=2.0)
    assert cautious.choice == "c"
    assert cautious.utilities == pytest.approx((0.4 - 0.2, 0.5, 0.6))
    assert cautious.quality_means == (0.4, 0.9, 0.7)


def test_nobody_left_is_an_error_with_every_reason():
    """State, caps and missing profiles are told by candidate."""
    standings = [standing("a", Refusal.DRAINING), *ABC[1:]]
    with pytest.raises(NoCandidateError) as caught:
        decide(router(TABLE, profiled=("a", "b")), standings, max_cost_usd=0.001)
    assert caught.value.refusals == {"a": "draining", "b": "over_price_cap", "c": "no_profile"}


def test_an_empty_pool_is_an_error():
    """There is nothing to choose from, and no reason to give."""
    with pytest.raises(NoCandidateError, match="the pool is empty"):
        decide(router({}), ())


def test_the_seed_reproduces_the_choice():
    """A logged decision can be made again; other seeds draw others."""
    decisions = [decide(router(TABLE), ABC, seed=s, explore_share=1.0) for s in range(12)]
    again = [decide(router(TABLE), ABC, seed=d.seed, explore_share=1.0) for d in decisions]
    assert [d.choice for d in again] == [d.choice for d in decisions]
    assert {d.choice for d in decisions} == set(TABLE)
    assert {(d.policy, d.propensity) for d in decisions} == {(Policy.EXPLORE, 1 / 3)}


def without_router(standings, **options):
    """Decide the standard query by the mask alone."""
    return choose_without_router(
        Pool(standings=tuple(standings)),
        SHAPE,
        routing=Routing(**options.pop("wish", {})),
        decision_id="d1",
        **options,
    )


PRICED = [standing("a", usd_per_mtok=1.0), standing("b", usd_per_mtok=3.0), standing("c")]


def test_the_default_candidate_answers_without_a_router():
    """It is a fallback, made with certainty, and nothing is predicted."""
    decision = without_router(PRICED, preferred="a")
    assert (decision.choice, decision.policy, decision.propensity) == ("a", Policy.FALLBACK, 1.0)
    assert (decision.router_version, decision.feature_schema_hash) == ("", "")
    assert decision.predicted_quality is None
    assert decision.ranking == ("a", "b", "c")


@pytest.mark.parametrize("preferred", [None, "c", "stranger"])
def test_where_the_default_may_not_the_dearest_answers(preferred):
    """No default, a cold one and an unknown one all leave the dearest available."""
    standings = [*PRICED[:2], standing("c", Refusal.COLD), standing("d", Refusal.COLD)]
    decision = without_router(standings, preferred=preferred)
    assert (decision.choice, decision.policy) == ("b", Policy.FALLBACK)


def test_a_pinned_request_gets_whom_it_names_or_an_error():
    """No other candidate answers for it; the error tells why it may not."""
    decision = without_router(PRICED, preferred="a", pinned=True)
    assert (decision.choice, decision.policy, decision.propensity) == ("a", Policy.PINNED, 1.0)
    with pytest.raises(NoCandidateError) as caught:
        without_router([*PRICED[:2], standing("c", max_images=0)], preferred="c", pinned=True)
    assert caught.value.refusals == {"c": "too_many_images"}


def test_wishes_hold_without_a_router():
    """A denied default does not answer, and a wholly denied pool is an error."""
    decision = without_router(PRICED, preferred="b", wish={"deny": ("b",)})
    assert decision.choice == "a"
    with pytest.raises(NoCandidateError):
        without_router(PRICED, preferred="b", wish={"allow": ()})


def test_scores_are_four_columns_of_one_length():
    """Anything else is refused; a pool without candidates has empty ones."""
    empty = Scores.empty()
    assert all(getattr(empty, name).shape == (0,) for name in Scores.__slots__)
    for wrong in (np.zeros(1), np.zeros((0, 1))):
        with pytest.raises(InvalidInputError, match="four columns"):
            dataclasses.replace(empty, cost_usd_M=wrong)


def test_exploring_tells_its_price():
    """Share 0.3: 0.1 * (0.9 - 0.4) + 0.1 * (0.9 - 0.7); the others cost less, so no USD."""
    decision = decide(router(TABLE), ABC, explore_share=0.3)
    assert decision.regret_quality == pytest.approx(0.07)
    assert decision.regret_usd == 0.0
    assert decision.propensities == pytest.approx((0.1, 0.8, 0.1))


def test_the_kill_switch_takes_the_best_on_the_whole():
    """The profile's mean quality counts, not the scores; caps of the request still hold."""
    one = router(TABLE)
    means = {"a": 0.8, "b": 0.6, "c": 0.7}
    profiles = {
        name: dataclasses.replace(p, quality=means[name]) for name, p in one.profiles.items()
    }
    one = dataclasses.replace(one, profiles=profiles)

    def kill(one, standings, **wishes):
        return route(
            one,
            FEATURES_F,
            SHAPE,
            pool=Pool(standings=tuple(standings)),
            routing=Routing(**wishes),
            decision_id="d1",
            seed=0,
            best_single=True,
        )

    decision = kill(one, ABC, explore_share=1.0, max_quality_drop=0.0)
    assert (decision.choice, decision.policy, decision.propensity) == (
        "a",
        Policy.BEST_SINGLE,
        1.0,
    )
    assert decision.ranking == ("a", "c", "b")
    assert kill(one, [standing("a", Refusal.COLD), *ABC[1:]]).choice == "c"
    assert kill(one, ABC, deny=("a",)).choice == "c"
    newcomer = dataclasses.replace(one, probation={"a": Probation(cap=0.9, caution=1.0)})
    assert kill(newcomer, ABC).choice == "c"
    stranger = kill(one, [*ABC, standing("stranger")])
    assert stranger.refusals[3] is Refusal.NO_PROFILE
