"""Drills of endpoints that fail: one beside a good one, nearly all of them, and all.

All under steady load, every third request streamed, on the light system.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from infra import services
from infra.evidence.serving import light
from infra.evidence.serving.drill import Drill, Rows, rows_since
from infra.evidence.serving.light import NAMES, SPARE, VICTIMS
from infra.evidence.serving.load import Load, bodies, client, load, quantile, questions
from infra.progress import step

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from infra.evidence.serving.light import Upstream
    from infra.evidence.serving.load import Reply

FAULTS = {
    "answers 500": "broken",
    "answers 429": "busy",
    "hangs": "hang",
    "is cut mid-stream": "cut",
    "answers no JSON": "no-json",
}
"""What an endpoint does, and how ``tests/upstream.py`` calls it."""

TEXT = "four hundred and two"
"""What a good endpoint answers, so that lost or doubled text shows."""

TRUNCATED = "truncated"
REQUESTS_PER_S = 10.0
NUM_QUESTIONS = 30
MASKED_WITHIN_S = 2.0
BACK_WITHIN_S = 60.0
LOOK_S = 0.05


@dataclass(slots=True)
class Watch:
    """What ``/readyz`` said of each candidate, and when."""

    looks: list[tuple[float, dict[str, str]]] = field(default_factory=list)
    num_panics: int = 0

    def first(self, candidate: str, since_s: float, *, available: bool) -> float | None:
        """Return the first time from then on at which a candidate was available, or was not."""
        for at_s, states in self.looks:
            if at_s >= since_s and (states.get(candidate) == "available") == available:
                return at_s
        return None


@asynccontextmanager
async def watching(url: str = services.HTTP_URL) -> AsyncIterator[Watch]:
    """Look at ``/readyz`` all the time while the block runs."""
    watch = Watch()

    async def look() -> None:
        async with client(url) as http:
            while True:
                began_s = time.monotonic()
                found = (await http.get("/readyz")).json()
                watch.looks.append((began_s, found.get("candidates", {})))
                watch.num_panics += bool(found.get("ejection_panic"))
                await asyncio.sleep(LOOK_S)

    looking = asyncio.create_task(look())
    try:
        yield watch
    finally:
        looking.cancel()


async def one_fault(
    upstream: Upstream, fault: str, victim: str, *, fault_s: float, requests_per_s: float
) -> Drill:
    """Let the first choice fail for a while beside a good one."""
    upstream.heal()
    body = bodies(questions(NUM_QUESTIONS), routing={"allow": [victim, SPARE]})
    began = datetime.now(UTC)
    with step(f"An endpoint {fault}", expected_s=fault_s + 20):
        async with (
            load(body, requests_per_s=requests_per_s, num_questions=NUM_QUESTIONS) as sent,
            watching() as watch,
        ):
            await asyncio.sleep(2.0)
            begun_s = time.monotonic()
            await asyncio.to_thread(upstream.behave, **{victim: FAULTS[fault]})
            await asyncio.sleep(fault_s)
            healed_s = time.monotonic()
            await asyncio.to_thread(upstream.heal)
            back_s = await _until_answers(sent, victim, healed_s)
    masked_s = watch.first(victim, begun_s, available=False)
    rows = rows_since(light.OUTCOMES, began, num=len(sent.replies))
    return _judged(fault, sent, rows, masked_s and masked_s - begun_s, back_s)


def _judged(
    fault: str, sent: Load, rows: Rows, masked_s: float | None, back_s: float | None
) -> Drill:
    """Return the verdict on one endpoint's fault."""
    truncated = [r for r in sent.replies if r.error == TRUNCATED]
    failed = sent.failed(but=[TRUNCATED])
    wrong = [r for r in sent.replies if r.is_ok and r.text != TEXT]
    # What had begun cannot be begun anew: three such streams eject.
    allowed = 3 + 2 if FAULTS[fault] == "cut" else 0
    is_masked = masked_s is not None and masked_s <= MASKED_WITHIN_S
    errors = sum(1 for calls in rows.attempts.values() for call in calls if call["error"])
    return Drill(
        name=f"an endpoint {fault}",
        value=len(failed) + len(wrong) + max(0, len(truncated) - allowed),
        unit=f"failed or wrong of {len(sent.replies)} requests",
        bar=f"0, masked within {MASKED_WITHIN_S:g} s"
        + (f", at most {allowed} streams cut" if allowed else ""),
        holds=not failed
        and not wrong
        and len(truncated) <= allowed
        and is_masked
        and back_s is not None
        and rows.num_doubled == 0
        and rows.num_rows == len(sent.replies),
        figures={
            "s until it was masked": -1.0 if masked_s is None else masked_s,
            "s from its healing until it answered again": -1.0 if back_s is None else back_s,
            "streams cut after their first byte, each told": len(truncated),
            "attempts that failed": errors,
            "attempts per request": rows.num_attempts / max(1, rows.num_rows),
            "s at the 99th percentile": quantile([r.latency_s for r in sent.replies], 0.99),
            "s at most": quantile([r.latency_s for r in sent.replies], 1.0),
            "outcome rows missing": len(sent.replies) - rows.num_rows,
        },
    )


async def _until_answers(sent: Load, candidate: str, since_s: float) -> float | None:
    """Wait until a candidate answers again; return after how long."""
    while (passed_s := time.monotonic() - since_s) < BACK_WITHIN_S:
        if any(r.is_ok and r.answered_by == candidate for r in sent.since(since_s)):
            return passed_s
        await asyncio.sleep(LOOK_S)
    return None


async def nearly_all_bad(upstream: Upstream, *, fault_s: float, requests_per_s: float) -> Drill:
    """Let all but one fail, which is more than may be ejected."""
    upstream.heal()
    body = bodies(questions(NUM_QUESTIONS))
    with step("All endpoints but one answer 500", expected_s=fault_s + 4):
        async with (
            load(body, requests_per_s=requests_per_s, num_questions=NUM_QUESTIONS) as sent,
            watching() as watch,
        ):
            await asyncio.sleep(1.0)
            begun_s = time.monotonic()
            await asyncio.to_thread(upstream.behave, **dict.fromkeys(VICTIMS, "broken"))
            await asyncio.sleep(fault_s)
            await asyncio.to_thread(upstream.heal)
    failed = [r for r in sent.since(begun_s) if not r.is_ok]
    late = [r for r in failed if r.sent_s > begun_s + MASKED_WITHIN_S]
    return Drill(
        name=f"{len(VICTIMS)} of {len(NAMES)} endpoints answer 500",
        value=len(late),
        unit=f"failed of {len(sent.since(begun_s + MASKED_WITHIN_S))} requests after "
        f"{MASKED_WITHIN_S:g} s",
        bar="0: the good one serves",
        holds=not late,
        figures={
            "failed in all": len(failed),
            "looks that saw a panic": watch.num_panics,
            "s at the 99th percentile": quantile([r.latency_s for r in sent.replies], 0.99),
        },
    )


async def all_bad(upstream: Upstream, *, fault_s: float, requests_per_s: float) -> list[Drill]:
    """Let all fail, and then all be good again."""
    upstream.heal()
    body = bodies(questions(NUM_QUESTIONS))
    calls = await asyncio.to_thread(upstream.num_calls)
    saved = float((await asyncio.to_thread(light.states))["retries_left"])
    with step("All endpoints answer 500, then none", expected_s=fault_s + 8):
        await asyncio.to_thread(upstream.behave, **dict.fromkeys(NAMES, "broken"))
        begun_s = time.monotonic()
        async with load(body, requests_per_s=requests_per_s, num_questions=NUM_QUESTIONS) as sent:
            await asyncio.sleep(fault_s)
            healing_s = time.monotonic()
            calls_s = await asyncio.to_thread(upstream.num_calls) - calls
            await asyncio.to_thread(upstream.heal)
            healed_s = time.monotonic()
            await asyncio.sleep(4.0)
    return [
        _total_failure(sent.since(begun_s, healing_s), calls_s, healing_s - begun_s, saved),
        _healed(sent, healed_s),
    ]


def _total_failure(asked: list[Reply], num_calls: int, lasted_s: float, saved: float) -> Drill:
    """Return the verdict on what was asked while all failed, with some retries saved before."""
    budget = light.RETRY_SHARE * len(asked) + light.RETRY_MIN_PER_S * lasted_s + saved
    told = [r for r in asked if r.status == 503 and r.retry_after]  # noqa: PLR2004 - HTTP
    # The last ones may have met an endpoint that was good again.
    others = [r for r in asked if not r.is_ok and r not in told]
    return Drill(
        name="all endpoints answer 500: attempts",
        value=num_calls,
        unit=f"calls of endpoints for {len(asked)} requests",
        bar=f"{len(asked) + budget:.1f} or fewer: requests, {light.RETRY_SHARE:.0%} of them, 1 a "
        f"second and {saved:.0f} saved before; each request told 503 with Retry-After",
        holds=num_calls <= len(asked) + budget and bool(told) and not others,
        figures={
            "calls per request": num_calls / max(1, len(asked)),
            "requests told otherwise than 503 with Retry-After": len(others),
            "s at the 99th percentile until told": quantile([r.latency_s for r in told], 0.99),
        },
    )


def _healed(sent: Load, healed_s: float) -> Drill:
    after = sent.since(healed_s)
    failed = [r for r in after if not r.is_ok]
    first_s = min((r.done_s for r in after if r.is_ok), default=None)
    return Drill(
        name="all endpoints are ejected and good again: panic mode",
        value=len(failed),
        unit=f"failed of {len(after)} requests after the healing",
        bar="0: nobody waits for the end of an ejection",
        holds=bool(after) and not failed,
        figures={
            "s until the first answer": -1.0 if first_s is None else first_s - healed_s,
        },
    )
