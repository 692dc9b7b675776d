"""The challenger is asked beside the champion, for little time, and calls nobody."""

import dataclasses

import numpy as np
import pytest

from deployments.metrics import DecisionMetrics
from deployments.versions import shadow as module
from deployments.versions.shadow import Shadow
from router.candidate import Candidate
from router.records import Pool, QueryShape, Routing, Standing
from router.route import route

SHAPE = QueryShape(num_chars=10)


class Clock:
    """A clock that a test moves; each look takes a millisecond."""

    def __init__(self):
        """Start at 100 s."""
        self.now_s = 100.0

    def __call__(self):
        """Return the time after one more millisecond."""
        self.now_s += 0.001
        return self.now_s


@pytest.fixture
def routers(made_up):
    """Return champion and challenger: the second thinks one candidate far better."""
    champion = dataclasses.replace(made_up.routers[0].router(), version="1")
    loser = decide(champion, made_up).ranking[-1]
    profile = champion.profiles[loser]
    better = dataclasses.replace(profile, token_R=(profile.token_R[0] + 1.0, *profile.token_R[1:]))
    challenger = dataclasses.replace(
        champion, version="2", profiles={**champion.profiles, loser: better}
    )
    return champion, challenger


def pool(made_up):
    """Return both candidates, available."""
    return Pool(standings=tuple(Standing(candidate=c) for c in made_up.candidates))


def decide(router, made_up, number=0, **wishes):
    """Return a decision on the standard query."""
    return route(
        router,
        np.zeros(8, dtype=np.float32),
        SHAPE,
        pool=pool(made_up),
        routing=Routing(**wishes),
        decision_id=f"d{number}",
        seed=number,
    )


def look(shadow, challenger, decision, made_up, **wishes):
    """Show one decision to the challenger."""
    return shadow.look(
        challenger,
        decision,
        np.zeros(8, dtype=np.float32),
        SHAPE,
        pool=pool(made_up),
        routing=Routing(**wishes),
    )


def test_a_challenger_that_differs_is_noted(routers, made_up):
    """Its choice stands beside the champion's, which is unchanged, and a label is wanted."""
    champion, challenger = routers
    shadow = Shadow(DecisionMetrics(), max_load=1.0)
    decision = decide(champion, made_up)
    seen = look(shadow, challenger, decision, made_up)
    assert (seen.choice, seen.propensity) == (decision.choice, decision.propensity)
    assert seen.shadow_choice not in ("", decision.choice)
    assert seen.shadow_version == "2"
    assert shadow.label_requests() == ["d0"]
    status = shadow.status()
    assert (status["version"], status["num_scored"], status["disagreement"]) == ("2", 1, 1.0)
    assert status["predicted_gain"] > 0.0


def test_a_challenger_that_agrees_wants_no_label(routers, made_up):
    """An explored choice of the champion is no disagreement: its greedy one counts."""
    champion, _ = routers
    same = dataclasses.replace(champion, version="3")
    shadow = Shadow(DecisionMetrics(), max_load=1.0)
    for number in range(20):
        decision = decide(champion, made_up, number, explore_share=1.0)
        look(shadow, same, decision, made_up, explore_share=1.0)
    assert shadow.label_requests() == []
    assert shadow.status() == {
        "version": "3",
        "num_scored": 20,
        "disagreement": 0.0,
        "predicted_gain": 0.0,
    }


def test_the_shadow_keeps_to_its_part_of_the_time(routers, made_up):
    """A look of one millisecond at a load of 0.1 is followed by a pause of nine."""
    champion, challenger = routers
    clock = Clock()
    shadow = Shadow(DecisionMetrics(), max_load=0.1, clock=clock)
    decision = decide(champion, made_up)
    asked = [look(shadow, challenger, decision, made_up).shadow_version for _ in range(24)]
    assert asked.count("2") == 2 + 1
    assert shadow.status()["num_scored"] == 3


def test_a_challenger_that_fails_harms_nobody(routers, made_up):
    """The decision is returned as it was."""
    champion, challenger = routers
    decision = decide(champion, made_up)
    shadow = Shadow(DecisionMetrics(), max_load=1.0)
    for broken in (
        dataclasses.replace(challenger, profiles={}),
        dataclasses.replace(
            challenger,
            profiles={
                name: dataclasses.replace(p, kinds_hash="x")
                for name, p in challenger.profiles.items()
            },
        ),
    ):
        assert look(shadow, broken, decision, made_up) is decision
    assert look(shadow, None, decision, made_up) is decision


def test_another_challenger_starts_anew(routers, made_up):
    """Figures of two versions are not mixed."""
    champion, challenger = routers
    shadow = Shadow(DecisionMetrics(), max_load=1.0)
    decision = decide(champion, made_up)
    look(shadow, challenger, decision, made_up)
    look(shadow, dataclasses.replace(champion, version="9"), decision, made_up)
    assert shadow.status()["version"] == "9"
    assert (shadow.status()["num_scored"], shadow.status()["disagreement"]) == (1, 0.0)


def test_a_candidate_that_the_challenger_does_not_know_gives_no_gain(routers, made_up):
    """It disagrees, and its opinion on that candidate counts as none."""
    champion, challenger = routers
    decision = decide(champion, made_up)
    others = {n: p for n, p in challenger.profiles.items() if n != decision.choice}
    shadow = Shadow(DecisionMetrics(), max_load=1.0)
    look(shadow, dataclasses.replace(challenger, profiles=others), decision, made_up)
    assert shadow.status()["disagreement"] == 1.0
    assert shadow.status()["predicted_gain"] == 0.0


def test_only_so_many_requests_for_labels_are_kept(routers, made_up, monkeypatch):
    """The latest ones."""
    monkeypatch.setattr(module, "NUM_LABEL_REQUESTS", 3)
    champion, challenger = routers
    shadow = Shadow(DecisionMetrics(), max_load=1.0)
    for number in range(5):
        look(shadow, challenger, decide(champion, made_up, number), made_up)
    assert shadow.label_requests() == ["d2", "d3", "d4"]


def test_the_champion_s_newcomer_is_compared_too(routers, made_up):
    """A pool with one whom neither knows leaves both with the same two."""
    champion, challenger = routers
    stranger = Standing(candidate=Candidate(id="stranger", price=made_up.candidates[0].price))
    wider = Pool(standings=(*pool(made_up).standings, stranger))
    shadow = Shadow(DecisionMetrics(), max_load=1.0)
    features_F = np.zeros(8, dtype=np.float32)
    options = {"pool": wider, "routing": Routing()}
    decision = route(champion, features_F, SHAPE, decision_id="d", seed=0, **options)
    seen = shadow.look(challenger, decision, features_F, SHAPE, **options)
    assert seen.shadow_choice in champion.profiles
