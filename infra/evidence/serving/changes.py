"""Requests while candidates are added, removed and scaled, and router versions are promoted.

On the zoo, with real pictures. Every answer is held against what the same candidate said of the
same question before, plain and alone, at temperature 0: lost or doubled text shows.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import yaml

from infra import services
from infra.asking import prices
from infra.demo import calibrate_candidates, router_version, train_router
from infra.evidence.learning.system import LOCAL
from infra.evidence.parts import figure, table
from infra.evidence.pool_drill import deploy_variant, replica_states, scaled, until, without
from infra.evidence.promotion_drill import ALIAS, MODEL
from infra.evidence.registry_copies import alias_version, move_alias, register_copy
from infra.evidence.serving.drill import rows_since
from infra.evidence.serving.load import ask, bodies, client, load, quantile, questions
from infra.progress import step
from infra.up import applications, bring_up

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from infra.evidence.entry import Entry
    from infra.evidence.serving.drill import Rows
    from infra.evidence.serving.load import Load, Reply

LINE = "D3"
NUM_REQUESTS = 5000
CANDIDATE = "charter"
NUM_QUESTIONS = 60
SETTLE_S = 5.0
ACTS_S = 480.0
"""About what the changes take on two cores; the load is spread over them."""

MAX_REQUESTS_PER_S = 12.0
SERVES_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change under load."""

    what: str
    begun_s: float
    """Seconds after the load began."""

    took_s: float
    """Until it was in effect."""


@dataclass(slots=True)
class Changes:
    """The changes of one run, and the load meanwhile."""

    model: str
    sent: Load
    begun_s: float
    told: list[Change] = field(default_factory=list)

    async def make(self, what: str, act: Callable[[], Awaitable[None]]) -> None:
        """Make one change and let load flow over it."""
        begun_s = time.monotonic()
        with step(what, expected_s=60):
            await act()
            took_s = time.monotonic() - begun_s
            self.told.append(Change(what=what, begun_s=begun_s - self.begun_s, took_s=took_s))
            await asyncio.sleep(SETTLE_S)


def run(requests: int = NUM_REQUESTS, *, config: Path = LOCAL) -> dict[str, Any]:
    """Run it on the system that runs, or on one that this brings up; the system stays up.

    Args:
        requests: To send at the least.
        config: Of the system; its router block names the outcome log.
    """
    bring_up(config)
    if router_version() is None:
        calibrate_candidates()
        train_router()
    return asyncio.run(_run(requests, yaml.safe_load(config.read_text())))


async def _run(requests: int, config: dict[str, Any]) -> dict[str, Any]:
    router = next(a["args"] for a in config["applications"] if a["name"] == "router")
    model = router.get("registry_model", MODEL)
    asked = questions(NUM_QUESTIONS)
    body = bodies(asked, routing={"explore": False})
    known = await _references(body)
    rate = min(MAX_REQUESTS_PER_S, requests / ACTS_S)
    began = datetime.now(UTC)
    async with load(body, requests_per_s=rate, num_questions=NUM_QUESTIONS) as sent:
        changes = Changes(model=model, sent=sent, begun_s=time.monotonic())
        await asyncio.sleep(SETTLE_S)
        await _change_all(changes, config)
        with step("The rest of the requests", expected_s=max(1.0, requests / rate - ACTS_S)):
            await asyncio.sleep(max(0.0, (requests - sent.num_sent) / rate) + 1.0)
    elapsed_s = time.monotonic() - changes.begun_s
    rows = rows_since(services.ROOT / router["outcome_log"], began, num=len(sent.replies))
    return _found(changes, rows, known) | {"elapsed_s": elapsed_s, "requests_per_s": rate}


async def _references(body: Callable[[int], dict[str, Any]]) -> dict[tuple[str, int], str]:
    """Return what each candidate says of each question, plain and one after the other."""
    names = list(prices(services.HTTP_URL))
    known = {}
    with step("Ask for the reference answers", expected_s=len(names) * NUM_QUESTIONS / 15):
        async with client() as http:
            for name in names:
                for number in range(NUM_QUESTIONS):
                    plain = body(number) | {"model": name, "stream": False, "routing": {}}
                    reply = await ask(http, plain, question=number)
                    if not reply.is_ok:
                        raise services.ServiceError(f"{name} gives no reference: {reply.error}")
                    known[name, number] = reply.text
    return known


async def _change_all(changes: Changes, whole: dict[str, Any]) -> None:
    """Scale 0-1-2-0, remove and add, and promote two versions; then all is as before."""
    name = f"candidate-{CANDIDATE}"
    first = alias_version(services.MLFLOW_URI, changes.model, ALIAS)
    if first is None:
        raise services.ServiceError(f"no version of {changes.model} is {ALIAS}")
    copies = [
        await asyncio.to_thread(
            register_copy, services.MLFLOW_URI, changes.model, first, name=f"changes-{n}"
        )
        for n in (1, 2)
    ]

    def pool(variant: dict[str, Any], is_done: Callable[[], bool]) -> Callable[[], Any]:
        async def act() -> None:
            await asyncio.to_thread(deploy_variant, variant)
            await until(is_done)

        return act

    def runs(num_replicas: int) -> bool:
        return replica_states(name) == ["RUNNING"] * num_replicas

    for num in (0, 1, 2, 0):
        variant = scaled(whole, name, num)
        await changes.make(f"{CANDIDATE} scaled to {num}", pool(variant, partial(runs, num)))
        if num == 1:
            await changes.make(f"version {copies[0]} promoted", _promotion(changes, copies[0]))
    await changes.make(
        f"{CANDIDATE} removed", pool(without(whole, name), lambda: name not in applications())
    )
    await changes.make(f"version {copies[1]} promoted", _promotion(changes, copies[1]))
    await changes.make(f"{CANDIDATE} added", pool(whole, partial(runs, 1)))
    await changes.make(f"version {first} promoted again", _promotion(changes, first))


def _promotion(changes: Changes, version: str) -> Callable[[], Awaitable[None]]:
    """Return the act that moves the alias and waits for the first answer by the version."""

    async def act() -> None:
        moved_s = time.monotonic()
        await asyncio.to_thread(move_alias, services.MLFLOW_URI, changes.model, ALIAS, version)
        while not any(r.router_version == version for r in changes.sent.since(moved_s)):
            if time.monotonic() > moved_s + SERVES_WITHIN_S:
                raise services.ServiceError(f"version {version} was promoted and does not serve")
            await asyncio.sleep(0.1)

    return act


def _found(changes: Changes, rows: Rows, known: dict[tuple[str, int], str]) -> dict[str, Any]:
    replies = changes.sent.replies
    answered = [r for r in replies if r.is_ok]
    other = [r for r in answered if r.text != known.get((r.answered_by, r.question))]
    doubled = [r for r in other if _is_doubled(r, known)]
    ids = Counter(r.decision_id for r in answered)
    return {
        "num_requests": len(replies),
        "num_streams": sum(r.is_stream for r in replies),
        "num_failed": len(replies) - len(answered),
        "errors": dict(Counter(r.error for r in replies if not r.is_ok)),
        "num_doubled": len(doubled) + sum(r.num_ends != 1 for r in answered),
        "num_other_text": len(other),
        "examples": [
            [r.answered_by, r.is_stream, known.get((r.answered_by, r.question)), r.text]
            for r in other[:10]
        ],
        "num_rows": rows.num_rows,
        "num_rows_doubled": rows.num_doubled,
        "num_without_row": sum(one not in rows.status for one in ids),
        "num_retried": sum(len(calls) > 1 for calls in rows.attempts.values()),
        "answered_by": dict(Counter(r.answered_by for r in answered)),
        "versions": dict(Counter(r.router_version for r in answered)),
        "p50_s": quantile([r.latency_s for r in answered], 0.5),
        "p99_s": quantile([r.latency_s for r in answered], 0.99),
        "max_s": quantile([r.latency_s for r in answered], 1.0),
        "changes": [[c.what, c.begun_s, c.took_s] for c in changes.told],
    }


def _is_doubled(reply: Reply, known: dict[tuple[str, int], str]) -> bool:
    """Return whether a text holds more than the one known, and that one in it."""
    text = known.get((reply.answered_by, reply.question), "")
    return bool(text) and len(reply.text) > len(text) and text in reply.text


def lines(result: dict[str, Any]) -> list[Entry]:
    """Return the lines of D3."""
    num = result["num_requests"]
    is_whole = num >= NUM_REQUESTS
    rows = result["num_rows_doubled"] + result["num_without_row"]
    return [
        figure(
            LINE,
            result["num_failed"],
            f"failed of {num:,} requests, {result['num_streams']:,} of them streams",
            f"0 of {NUM_REQUESTS:,} or more",
            holds=is_whole and result["num_failed"] == 0,
        ),
        figure(
            LINE,
            result["num_doubled"],
            "answers with doubled text or a second end",
            "0",
            holds=result["num_doubled"] == 0,
        ),
        figure(
            LINE,
            result["num_other_text"],
            "answers with another text than the same candidate's plain one",
            "0",
            holds=result["num_other_text"] == 0,
        ),
        figure(
            LINE,
            rows,
            f"requests without an outcome row or with two; {result['num_rows']:,} rows",
            "0, as many rows as requests",
            holds=rows == 0 and result["num_rows"] == num,
        ),
    ]


def section(result: dict[str, Any]) -> str:
    """Return the section."""
    changes = table(
        ("change", "begun after s", "in effect after s"),
        ((what, f"{begun:.0f}", f"{took:.1f}") for what, begun, took in result["changes"]),
    )
    by = ", ".join(f"{n:,} by `{name}`" for name, n in result["answered_by"].items())
    versions = ", ".join(f"{n:,} by {v or 'none'}" for v, n in result["versions"].items())
    return f"""## Changes under load

{result["requests_per_s"]:.1f} requests a second with pictures, {NUM_QUESTIONS} questions in turn,
every third streamed, for {result["elapsed_s"]:.0f} s, none waiting for another. Answers: {by}; by
router version: {versions}. {result["num_retried"]} requests were called a second time elsewhere.
Latency at the client: {1000 * result["p50_s"]:.0f} ms at the median, {result["p99_s"]:.2f} s at
the 99th percentile, {result["max_s"]:.2f} s at most; client, engines and those that start share
the cores.

{changes}

The reference of a text is the same candidate's plain answer to the same question before the load.
The versions promoted are copies of the first: the swap is tested, not another choice. Candidates
that are scaled to 0 are so by their replicas in the config, not by an hour without requests.
"""
