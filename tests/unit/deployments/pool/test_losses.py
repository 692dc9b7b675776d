"""A request that lost all whom it asked waits for a start, not for a replica that is dead."""

import pytest

from deployments.pool.losses import Losses
from router.candidate import Candidate, Price
from router.records import Pool, Refusal, Standing

PRICE = Price(input_usd_per_mtok=1.0, output_usd_per_mtok=1.0)


def pool(**seen):
    """Return a pool of candidates with so many replicas, or the refusal of one with none."""
    return Pool(
        standings=tuple(
            Standing(candidate=Candidate(id=name, price=PRICE), refusal=None, num_running=state)
            if isinstance(state, int)
            else Standing(candidate=Candidate(id=name, price=PRICE), refusal=state)
            for name, state in seen.items()
        )
    )


def left(losses, **seen):
    """Return who may answer."""
    return [s.candidate.id for s in losses.look(pool(**seen)).standings if s.refusal is None]


def test_a_replica_that_died_is_not_asked_though_the_pool_still_shows_it():
    """It is, once the pool has shown its end: what runs then is another one."""
    losses = Losses.of({"small"}, {"small"})
    assert left(losses, small=1) == []
    assert left(losses, small=Refusal.NO_REPLICA) == []
    assert losses.unseen == {"small"}
    assert left(losses, small=Refusal.STARTING) == []
    assert not losses.unseen
    assert left(losses, small=1) == ["small"]


@pytest.mark.parametrize("num_running", [0, 2])
def test_another_replica_of_it_may_answer(num_running):
    """With none and no refusal it is expected to start in time."""
    losses = Losses.of({"small"}, {"small"})
    assert left(losses, small=num_running) == ["small"]
    assert not losses.unseen


def test_who_failed_otherwise_is_not_asked_again():
    """Whatever its replicas do; whoever was not asked may be."""
    losses = Losses.of({"small", "large"}, {"small"})
    assert left(losses, small=1, large=2, third=1) == ["third"]


def test_one_that_was_removed_is_not_waited_for():
    """It will never be shown again."""
    losses = Losses.of({"small"}, {"small"})
    losses.look(pool(large=1))
    assert not losses.unseen
