"""What the registry names is taken up between requests, and nothing else."""

import asyncio
import dataclasses
import math

import numpy as np
import pytest

from deployments.versions.hot_swap import HotSwap
from deployments.versions.registry import ACCEPT_FAILED_GATES, BEST_SINGLE, QUARANTINED
from router.candidate import Candidate, Price
from router.probation import Terms
from router.records import Policy, Pool, QueryShape, Refusal, Routing, Standing
from router.route import route

FREE = Price(input_usd_per_mtok=0.0, output_usd_per_mtok=0.0)
FEATURES_F = np.zeros(8, dtype=np.float32)


def pool_of(*names):
    """Return a pool in which all are available."""
    return Pool(standings=tuple(Standing(candidate=Candidate(id=n, price=FREE)) for n in names))


POOL = pool_of("aster", "birch", "cedar")


@pytest.fixture
def swap(registry, made_up):
    """Return a hot swap that has seen a pool of three, of whom the routers know two."""
    one = HotSwap(registry, made_up.schema, terms=Terms(base_share=0.2, caution=1.5))
    one.note_pool(POOL)
    return one


def newcomer(artifact, **changes):
    """Return a profile of cedar: that of aster, as uncertain as one nobody has asked."""
    known = artifact.profiles["aster"]
    wide = between(artifact, 0.0)
    return dataclasses.replace(known, **{"candidate_id": "cedar", "token_std_K": wide, **changes})


def between(artifact, learned):
    """Return the spread of a profile that has learned a share of what there is to learn."""
    nothing = np.empty((0, len(artifact.queries.difficulty_R)), np.float32)
    nobody = np.empty(0, np.float32)
    _, prior_K = artifact.queries.estimate_token(nothing, nobody, nobody, None)
    prior = float(np.mean(np.square(prior_K)))
    usual = np.median([np.mean(np.square(p.token_std_K)) for p in artifact.profiles.values()])
    return (math.sqrt(prior - learned * (prior - float(usual))),) * artifact.kinds.num_kinds


def test_the_champion_is_taken_up_once(swap, registry):
    """Under its number; a look that finds nothing new changes no object."""
    swap.swap_if_moved()
    assert swap.router is None
    registry.point(champion="1")
    swap.swap_if_moved()
    first = swap.router
    assert first.version == "1"
    swap.swap_if_moved()
    assert swap.router is first
    registry.point(champion="2")
    swap.swap_if_moved()
    assert swap.router.version == "2"


def test_a_version_that_is_refused_leaves_the_old_one(swap, registry, made_up):
    """It is told once, in the registry, whatever the reason."""
    registry.point(champion="1")
    swap.swap_if_moved()
    registry.tags["2"] = {QUARANTINED: "earned less"}
    registry.point(champion="2")
    for _ in range(2):
        swap.swap_if_moved()
    assert (swap.router.version, swap.refused_version) == ("1", "2")
    assert registry.refusals == [("2", "quarantined")]
    foreign = HotSwap(registry, dataclasses.replace(made_up.schema, blocks=()))
    foreign.swap_if_moved()
    assert foreign.router is None


def test_failed_gates_need_a_person_who_accepts_them(registry, made_up):
    """The refusal names the gate and the tag; with the tag the version serves."""
    registry.failed.add("2")
    registry.point(champion="2")
    swap = HotSwap(registry, made_up.schema)
    swap.swap_if_moved()
    assert swap.router is None
    ((version, reason),) = registry.refusals
    assert version == "2"
    assert "gain: 0.1; above 0" in reason
    assert ACCEPT_FAILED_GATES in reason
    registry.tags["2"] = {ACCEPT_FAILED_GATES: "a pilot"}
    trusting = HotSwap(registry, made_up.schema)
    trusting.swap_if_moved()
    assert trusting.router.version == "2"


def test_a_challenger_may_be_watched_although_its_gates_failed(swap, registry):
    """In the shadow it decides nothing."""
    registry.failed.add("2")
    registry.point(champion="1", challenger="2")
    swap.swap_if_moved()
    assert (swap.router.version, swap.challenger.version) == ("1", "2")
    assert registry.refusals == []


def test_the_challenger_is_held_in_the_shadow(swap, registry):
    """Not where it is the champion, and not where it is refused."""
    registry.point(champion="1", challenger="2")
    swap.swap_if_moved()
    assert (swap.router.version, swap.challenger.version) == ("1", "2")
    registry.point(champion="2")
    swap.swap_if_moved()
    assert (swap.router.version, swap.challenger) == ("2", None)
    registry.tags["1"] = {QUARANTINED: "earned less"}
    registry.point(challenger="1")
    for _ in range(2):
        swap.swap_if_moved()
    assert swap.challenger is None
    assert registry.refusals == [("1", "quarantined")]


def test_without_a_shadow_no_challenger_is_fetched(registry, made_up):
    """Where the setting is 0."""
    one = HotSwap(registry, made_up.schema, has_shadow=False)
    registry.point(champion="1", challenger="2")
    one.swap_if_moved()
    assert one.challenger is None


def test_a_newcomer_goes_from_new_to_full(swap, registry, made_up):
    """No profile, none that serves, one that is uncertain, one that is less so, one as any."""
    artifact = made_up.routers[0]
    tags = {"router_version": "1"}
    registry.point(champion="1")
    swap.swap_if_moved()
    assert swap.stages() == {"aster": "full", "birch": "full", "cedar": "new"}
    registry.profiles["cedar"] = (None, None, {})
    swap.swap_if_moved()
    assert swap.stages()["cedar"] == "profiling"
    for version, learned, cap in (("1", 0.0, 0.2), ("2", 0.5, 0.6)):
        profile = newcomer(artifact, token_std_K=between(artifact, learned))
        registry.profiles["cedar"] = (version, profile, tags)
        swap.swap_if_moved()
        assert swap.stages()["cedar"] == "probation"
        assert swap.router.version == "1"
        assert swap.router.probation["cedar"].cap == pytest.approx(cap, abs=1e-3)
        assert swap.router.probation["cedar"].caution == 1.5
    sure = newcomer(artifact, token_std_K=(0.0,) * artifact.kinds.num_kinds)
    registry.profiles["cedar"] = ("3", sure, {"router_version": "router-a"})
    swap.swap_if_moved()
    assert swap.stages()["cedar"] == "full"
    assert swap.router.probation == {}
    registry.profiles["cedar"] = (None, None, {})
    swap.swap_if_moved()
    assert swap.stages()["cedar"] == "profiling"
    assert "cedar" not in swap.router.profiles


def test_a_newcomer_is_routed_to_without_a_new_version(swap, registry, made_up):
    """Before its profile it is refused for want of one, after it by its draw."""
    artifact = made_up.routers[0]
    registry.point(champion="1")
    swap.swap_if_moved()

    def decide(seed):
        return route(
            swap.router,
            FEATURES_F,
            QueryShape(num_chars=10),
            pool=POOL,
            routing=Routing(),
            decision_id="d",
            seed=seed,
        )

    assert decide(0).refusals[2] is Refusal.NO_PROFILE
    good = artifact.profiles["aster"].token_R
    profile = newcomer(
        artifact, token_R=(good[0] + 0.9, *good[1:]), token_std_K=between(artifact, 0.0)
    )
    registry.profiles["cedar"] = ("1", profile, {"router_version": "1"})
    swap.swap_if_moved()
    decisions = [decide(seed) for seed in range(300)]
    share = np.mean([d.choice == "cedar" for d in decisions])
    assert 0.1 < share < 0.3
    assert {d.refusals[2] for d in decisions} == {None, Refusal.PROBATION}


@pytest.mark.parametrize(
    ("changes", "tags", "reason"),
    [
        ({}, {}, "estimated for router version ''"),
        ({}, {"router_version": "2"}, "not '1'"),
        ({"kinds_hash": "other"}, {"router_version": "1"}, "under kinds other"),
        ({"candidate_id": "dune"}, {"router_version": "1"}, "of 'dune'"),
        ({"token_R": (0.0,)}, {"router_version": "1"}, "widths"),
    ],
)
def test_a_profile_that_does_not_fit_is_refused_once(
    swap, registry, made_up, changes, tags, reason
):
    """It is told in the registry; the router goes on as before."""
    registry.point(champion="1")
    registry.profiles["cedar"] = ("7", newcomer(made_up.routers[0], **changes), tags)
    for _ in range(2):
        swap.swap_if_moved()
    ((name, version, told),) = registry.refusals
    assert (name, version) == ("cedar", "7")
    assert reason in told
    assert swap.stages()["cedar"] == "profiling"
    assert "cedar" not in swap.router.profiles


def test_another_champion_needs_another_profile(swap, registry, made_up):
    """A token means nothing under another basis."""
    registry.point(champion="1")
    registry.profiles["cedar"] = ("1", newcomer(made_up.routers[0]), {"router_version": "1"})
    swap.swap_if_moved()
    assert swap.stages()["cedar"] == "probation"
    registry.point(champion="2")
    swap.swap_if_moved()
    assert swap.router.version == "2"
    assert swap.stages()["cedar"] == "profiling"


def test_a_registry_that_goes_away_midway_loses_no_newcomer(swap, registry, made_up):
    """Who was taken up before it went away serves."""
    swap.note_pool(pool_of("aster", "cedar", "dune"))
    registry.point(champion="1")
    registry.profiles["cedar"] = ("1", newcomer(made_up.routers[0]), {"router_version": "1"})
    registry.profiles["dune"] = ("1", None, ConnectionError("away"))
    for _ in range(2):
        with pytest.raises(ConnectionError):
            swap.swap_if_moved()
        assert "cedar" in swap.router.profiles


def test_the_kill_switch_is_followed(swap, registry):
    """On and off by the tag; another value does nothing."""
    registry.point(champion="1", kill_switch=BEST_SINGLE)
    swap.swap_if_moved()
    assert swap.is_killed
    decision = route(
        swap.router,
        FEATURES_F,
        QueryShape(num_chars=10),
        pool=POOL,
        routing=Routing(),
        decision_id="d",
        seed=0,
        best_single=swap.is_killed,
    )
    means = {name: profile.quality for name, profile in swap.router.profiles.items()}
    assert decision.policy is Policy.BEST_SINGLE
    assert decision.choice == max(means, key=means.get)
    registry.point(kill_switch="off")
    swap.swap_if_moved()
    assert not swap.is_killed


async def test_a_registry_that_is_away_is_asked_again(swap, registry):
    """What serves goes on serving, and the next look finds the new version."""
    registry.point(champion="1")
    registry.is_away = True
    task = asyncio.create_task(swap.follow(period_s=0.01))
    await asyncio.sleep(0.05)
    assert swap.router is None
    registry.is_away = False
    for _ in range(100):
        await asyncio.sleep(0.02)
        if swap.router:
            break
    task.cancel()
    assert swap.router.version == "1"
