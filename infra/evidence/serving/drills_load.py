"""Drills of too many requests, and of users who leave, on the light system."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra import services
from infra.evidence.serving import light
from infra.evidence.serving.drill import Drill
from infra.evidence.serving.light import NAMES
from infra.evidence.serving.load import Reply, ask, bodies, client, load, quantile, questions
from infra.memory import MB
from infra.progress import step

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from infra.evidence.serving.light import Upstream

NUM_QUESTIONS = 30
BASE_REQUESTS_PER_S = 8.0
BURST = 10
LIMIT_S = 3.0
"""Of an accepted request: the endpoint takes one second."""

REJECTED_WITHIN_S = 0.05
MAX_GROWTH_MB = 64.0
"""Forty requests of 20 MB, the largest there may be, would be 800 MB; these are of 15 kB."""

SETTLE_S = 3.0
NUM_LEAVING = 16
WAIT_S = 10.0
STOPPED_WITHIN_S = 1.0


def ingress_mb() -> float:
    """Return the resident memory of the ingress and router replicas."""
    return sum(
        process.memory_info().rss / MB
        for process in services.processes("ray")
        if "ServeReplica:router" in " ".join(process.cmdline())
    )


async def burst(upstream: Upstream, *, burst_s: float) -> Drill:
    """Ask ten times as much as usual for a while, of endpoints that take a second."""
    upstream.behave(**dict.fromkeys(NAMES, "late"))
    body = bodies(questions(NUM_QUESTIONS))
    with step(f"A burst of {BURST} times the load", expected_s=burst_s + 12):
        async with load(body, requests_per_s=BASE_REQUESTS_PER_S, num_questions=NUM_QUESTIONS):
            await asyncio.sleep(SETTLE_S)
            before_mb = peak_mb = ingress_mb()
            async with load(
                body, requests_per_s=(BURST - 1) * BASE_REQUESTS_PER_S, num_questions=NUM_QUESTIONS
            ) as more:
                until_s = time.monotonic() + burst_s
                while time.monotonic() < until_s:
                    peak_mb = max(peak_mb, await asyncio.to_thread(ingress_mb))
                    await asyncio.sleep(0.5)
            await asyncio.sleep(SETTLE_S)
            after_mb = ingress_mb()
    upstream.heal()
    return _judged_burst(more.replies, peak_mb - before_mb, after_mb - before_mb)


def _judged_burst(replies: list[Reply], grew_mb: float, stayed_mb: float) -> Drill:
    accepted = [r for r in replies if r.is_ok]
    rejected = [r for r in replies if r.status in {429, 503} and r.retry_after]
    others = len(replies) - len(accepted) - len(rejected)
    p99_s = quantile([r.latency_s for r in accepted], 0.99)
    reject_s = quantile([r.latency_s for r in rejected], 0.99)
    return Drill(
        name=f"a burst of {BURST} times the load",
        value=1000 * reject_s,
        unit="ms until a rejected request is told, 99th percentile",
        bar=f"{1000 * REJECTED_WITHIN_S:g} or less, the accepted within {LIMIT_S:g} s, memory "
        f"within {MAX_GROWTH_MB:g} MB, no other failure",
        holds=bool(accepted)
        and bool(rejected)
        and others == 0
        and reject_s <= REJECTED_WITHIN_S
        and p99_s <= LIMIT_S
        and grew_mb <= MAX_GROWTH_MB,
        figures={
            "accepted": len(accepted),
            "rejected with Retry-After": len(rejected),
            "other failures": others,
            "s at the 99th percentile of the accepted": p99_s,
            "ms at the median of the rejected": 1000
            * quantile([r.latency_s for r in rejected], 0.5),
            "MB more at the peak, ingress and router": grew_mb,
            "MB more after it": stayed_mb,
        },
    )


async def client_gone(upstream: Upstream) -> Drill:
    """Leave in the middle of a stream, and while waiting for the first byte."""
    upstream.behave(**dict.fromkeys(NAMES, "slow"))
    before = _Calls.of(upstream)
    with step("Users leave", expected_s=10):
        async with client() as http:
            await asyncio.gather(*(_leave_stream(http) for _ in range(NUM_LEAVING)))
            mid_stream_s = await _until(lambda: before.all_left(upstream))
            upstream.behave(**dict.fromkeys(NAMES, "hang"))
            waiting = _Calls.of(upstream)
            await _leave_unanswered(http, waiting, upstream)
            unanswered_s = await _until(lambda: waiting.all_left(upstream))
        idle_s = await _until(lambda: light.states()["in_flight"] == 0)
        upstream.heal()
        async with client() as http:
            last = await ask(http, bodies(questions(1))(0))
    worst_s = max(mid_stream_s, unanswered_s)
    return Drill(
        name="users leave",
        value=worst_s,
        unit=f"s until the endpoint of each of {2 * NUM_LEAVING} was stopped",
        bar=f"{STOPPED_WITHIN_S:g} or less, every place given back, the next user answered",
        holds=worst_s <= STOPPED_WITHIN_S and idle_s < STOPPED_WITHIN_S and last.is_ok,
        figures={
            "s, left within a stream": mid_stream_s,
            "s, left before the first byte": unanswered_s,
            "s until no request was in flight": idle_s,
        },
    )


async def _leave_stream(http: httpx.AsyncClient) -> None:
    """Hang up after the first event."""
    body = bodies(questions(1))(0) | {"stream": True}
    async with http.stream("POST", "/v1/chat/completions", json=body) as response:
        async for _ in response.aiter_lines():
            return


async def _leave_unanswered(http: httpx.AsyncClient, before: _Calls, upstream: Upstream) -> None:
    """Hang up as soon as so many calls have reached the endpoint, which says nothing."""
    body = bodies(questions(1))(0)
    asking = [asyncio.create_task(ask(http, body)) for _ in range(NUM_LEAVING)]
    await _until(lambda: _Calls.of(upstream).num_calls >= before.num_calls + NUM_LEAVING)
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class _Calls:
    """What the endpoint has seen."""

    num_calls: int
    num_left: int

    @classmethod
    def of(cls, upstream: Upstream) -> _Calls:
        """Ask it."""
        seen = upstream.seen()
        return cls(sum(seen["calls"].values()), seen["num_left"])

    def all_left(self, upstream: Upstream) -> bool:
        """Return whether as many clients have left since then as calls have come."""
        now = _Calls.of(upstream)
        return now.num_left - self.num_left >= now.num_calls - self.num_calls > 0


async def _until(is_so: Callable[[], bool]) -> float:
    """Return after how long something is so; `WAIT_S` if it is not by then."""
    begun_s = time.monotonic()
    while (passed_s := time.monotonic() - begun_s) < WAIT_S:
        if await asyncio.to_thread(is_so):
            break
        await asyncio.sleep(0.02)
    return passed_s
