"""A card may say that its candidate drains: no new queries, and no harm to those it has."""

import asyncio
import time

import pytest

from deployments.dispatching import dispatch
from deployments.dispatching.dispatch import CandidateFailedError, Dispatcher
from deployments.pool.pool import PoolWatcher, read_pool
from router.candidate import Candidate, Price
from router.records import Pool, Refusal, Standing

CARD = {"price": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}, "context_window": 512}
SMALL = Candidate(id="small", price=Price(input_usd_per_mtok=1.0, output_usd_per_mtok=1.0))


def details(*states, target=1, **card):
    """Return Serve's status of one candidate."""
    return {
        "applications": {
            "candidate-small": {
                "status": "RUNNING",
                "deployed_app_config": {
                    "deployments": [{"name": "candidate", "user_config": CARD | card}]
                },
                "deployments": {
                    "candidate": {
                        "target_num_replicas": target,
                        "replicas": [{"state": state} for state in states],
                    }
                },
            }
        }
    }


@pytest.mark.parametrize(
    ("states", "num_running"), [(["RUNNING", "RUNNING"], 2), (["STARTING"], 0), ([], 0)]
)
def test_a_candidate_that_drains_is_refused_whatever_its_replicas_do(states, num_running):
    """And they go on running."""
    pool, _ = read_pool(details(*states, draining=True), seen_at_s=0.0)
    (standing,) = pool.standings
    assert (standing.refusal, standing.num_running) == (Refusal.DRAINING, num_running)
    assert (
        read_pool(details("RUNNING", draining=False), seen_at_s=0.0)[0].standings[0].refusal
        is None
    )


async def first(num_running):
    """Wait for the first byte of a candidate that drains."""

    async def answer():
        await asyncio.sleep(0.05)
        return {"choices": []}

    standing = Standing(candidate=SMALL, refusal=Refusal.DRAINING, num_running=num_running)
    return await Dispatcher(lambda: Pool(standings=(standing,)))._first(
        answer(), "small", deadline_s=time.monotonic() + 5, waits_for_start=False
    )


async def test_what_was_asked_before_is_answered(monkeypatch):
    """As long as a replica runs; else nobody will answer."""
    monkeypatch.setattr(dispatch, "POOL_CHECK_S", 0.01)
    assert await first(num_running=1) == {"choices": []}
    with pytest.raises(CandidateFailedError, match="went away"):
        await first(num_running=0)


async def test_one_that_says_it_is_full_is_masked_until_then():
    """The longest time counts; who is refused for another reason stays refused for that."""
    watcher = PoolWatcher("http://127.0.0.1:9")
    for state, expected in (("RUNNING", Refusal.SATURATED), ("STARTING", Refusal.STARTING)):
        watcher._seen, _ = read_pool(details(state), seen_at_s=0.0)
        watcher.note_busy("small", 60.0)
        watcher.note_busy("small", 0.0)
        assert watcher.pool.standings[0].refusal is expected
    watcher._busy_until_s["small"] = time.monotonic() - 0.1
    watcher._seen, _ = read_pool(details("RUNNING"), seen_at_s=0.0)
    assert watcher.pool is watcher._seen
    await watcher._client.aclose()
