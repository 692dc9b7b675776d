"""A request that lost all whom it asked is decided once more, where that can help."""

import asyncio
import dataclasses
import json
import time
from types import SimpleNamespace

import pytest

from deployments import decider as module
from deployments.decider import Decider
from deployments.exchange import Exchange
from deployments.pool.router_watch import RouterWatch
from deployments.protocol import parse_chat_request
from router.candidate import Candidate, Price
from router.records import Pool, Refusal, Routing, Standing

BODY = {"model": "auto", "messages": [{"role": "user", "content": "What colour?"}]}
NO_ROUTER = {"applications": {"router": {"deployments": {"router": {"replicas": []}}}}}


def standing(name, state):
    """Return a candidate with so many replicas, or with none and a refusal."""
    candidate = Candidate(id=name, price=Price(input_usd_per_mtok=1.0, output_usd_per_mtok=1.0))
    if isinstance(state, int):
        return Standing(candidate=candidate, num_running=state)
    return Standing(candidate=candidate, refusal=state)


class Watcher:
    """Shows one pool after the other; the last one stays."""

    def __init__(self, *pools):
        """Take each as a mapping from candidate to state."""
        self.pools = [
            Pool(standings=tuple(standing(*item) for item in pool.items())) for pool in pools
        ]
        self.num_looks = 0

    @property
    def pool(self):
        """The first."""
        return self.pools[0]

    def startable(self, within_s):
        """Return the next, in which whoever starts may serve."""
        assert within_s > 0
        pool = self.pools[min(self.num_looks, len(self.pools) - 1)]
        self.num_looks += 1
        may = [
            dataclasses.replace(s, refusal=None) if s.refusal is Refusal.STARTING else s
            for s in pool.standings
        ]
        return dataclasses.replace(pool, standings=tuple(may))


@pytest.fixture
def decide_again(monkeypatch):
    """Return a function that decides again while no router replica runs."""
    monkeypatch.setattr(module, "LOSS_CHECK_S", 0.01)

    async def again(watcher, *, tried, lost, within_s=5.0):
        gone = RouterWatch("router")
        gone.look(NO_ROUTER, asyncio.get_running_loop().time())
        decider = Decider(
            router=None,
            settings=SimpleNamespace(default_candidate="small", decide_timeout_s=1.0),
            router_watch=gone,
            watcher=watcher,
            waker=None,
            metrics=SimpleNamespace(router_failed=lambda _: None),
        )
        now_s = time.monotonic()
        exchange = Exchange(
            call=parse_chat_request(json.dumps(BODY).encode()),
            routing=Routing(),
            pool=watcher.pool,
            arrived_s=now_s,
            deadline_s=now_s + within_s,
        )
        for name in tried:
            exchange.log.add(name, now_s, "it died")
        decision = await decider.decide_again(exchange, frozenset(lost))
        return decision and decision.choice

    return again


async def test_it_goes_to_one_that_starts(decide_again):
    """Not to the one that it lost, which the pool still shows."""
    watcher = Watcher({"small": 1, "large": Refusal.STARTING})
    assert await decide_again(watcher, tried=["small"], lost=["small"]) == "large"


async def test_it_waits_until_serve_has_noticed(decide_again):
    """Then the candidate that it lost is one that starts."""
    seen = {"small": 1}, {"small": 1}, {"small": Refusal.NO_REPLICA}, {"small": Refusal.STARTING}
    watcher = Watcher(*seen)
    assert await decide_again(watcher, tried=["small"], lost=["small"]) == "small"
    assert watcher.num_looks == len(seen)


@pytest.mark.parametrize(
    ("pool", "lost"),
    [
        ({"small": 1, "large": Refusal.STARTING}, []),
        ({"small": 1, "large": Refusal.STARTING, "third": 1}, ["small"]),
        ({"small": Refusal.COLD, "large": Refusal.COLD}, ["small"]),
    ],
)
async def test_else_it_fails_as_before(decide_again, pool, lost):
    """Nobody died, somebody is there whom it may not ask any more, or nobody starts in time."""
    assert await decide_again(Watcher(pool), tried=["small"], lost=lost) is None


async def test_it_does_not_wait_longer_than_it_may(decide_again, monkeypatch):
    """Neither beyond its deadline nor for ever where Serve notices nothing."""
    watcher = Watcher({"small": 1})
    assert await decide_again(watcher, tried=["small"], lost=["small"], within_s=0.1) is None
    monkeypatch.setattr(module, "NOTICE_S", 0.1)
    assert await decide_again(watcher, tried=["small"], lost=["small"]) is None
