"""Drills that kill processes of the zoo under steady load: engine, replica, controller, router.

A candidate here is two processes: the replica, which Serve watches, and the engine core below it,
with the worker in the same process. Each is killed with ``kill -9``.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import yaml

from infra import services
from infra.evidence.learning.system import local_config
from infra.evidence.serving import light
from infra.evidence.serving.drill import Drill, Rows, rows_since
from infra.evidence.serving.drills_upstream import MASKED_WITHIN_S, Watch, watching
from infra.evidence.serving.load import Load, bodies, load, quantile, questions
from infra.progress import step
from infra.up import applications, bring_up

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

REQUESTS_PER_S = 6.0
NUM_QUESTIONS = 60
SETTLE_S = 3.0
FAULT_S = 20.0
BACK_WITHIN_S = 240.0
TRUNCATED = "truncated"
ENGINE = "EngineCore"
CONTROLLER = "ServeController"


@dataclass(frozen=True, slots=True)
class Site:
    """Where the drills run."""

    outcomes: Path
    """The outcome log of the system."""

    fault_s: float
    """How long load flows after a kill, at the least."""


def replica(application: str, deployment: str) -> psutil.Process:
    """Return the process of a deployment's first running replica.

    Raises:
        ServiceError: If there is none.
    """
    found = applications().get(application, {}).get("deployments", {}).get(deployment, {})
    for one in found.get("replicas", []):
        if one["state"] == "RUNNING" and one.get("pid"):
            return psutil.Process(one["pid"])
    raise services.ServiceError(f"{application}: no replica of {deployment} runs")


def engine(candidate: str) -> psutil.Process:
    """Return the engine core below a candidate's replica.

    Raises:
        ServiceError: If there is none.
    """
    for process in replica(f"candidate-{candidate}", "candidate").children(recursive=True):
        if ENGINE in process.name() or ENGINE in " ".join(process.cmdline()):
            return process
    raise services.ServiceError(f"{candidate} has no engine process of its own")


def controller() -> psutil.Process:
    """Return Serve's controller.

    Raises:
        ServiceError: If it does not run.
    """
    for process in services.processes("ray"):
        if CONTROLLER in " ".join(process.cmdline()):
            return process
    raise services.ServiceError("Serve's controller does not run")


@dataclass(slots=True)
class Kill:
    """A kill under load."""

    sent: Load
    watch: Watch
    killed_s: float = 0.0
    back_s: float | None = None
    """Seconds from the kill until all was as before; None if that took too long."""


@asynccontextmanager
async def _under_load(title: str, expected_s: float) -> AsyncIterator[Kill]:
    body = bodies(questions(NUM_QUESTIONS))
    with step(title, expected_s=expected_s):
        async with (
            load(body, requests_per_s=REQUESTS_PER_S, num_questions=NUM_QUESTIONS) as sent,
            watching() as watch,
        ):
            await asyncio.sleep(SETTLE_S)
            yield Kill(sent, watch)


async def _kill(kill: Kill, process: psutil.Process) -> None:
    kill.killed_s = time.monotonic()
    await asyncio.to_thread(process.kill)


async def _until(kill: Kill, is_back: Callable[[], bool], *, at_least_s: float) -> None:
    """Wait until something is true again, and let load flow for a while in any case."""
    while (passed_s := time.monotonic() - kill.killed_s) < BACK_WITHIN_S:
        if kill.back_s is None and await asyncio.to_thread(is_back):
            kill.back_s = passed_s
        if kill.back_s is not None and passed_s >= at_least_s:
            return
        await asyncio.sleep(0.2)


async def candidate_killed(site: Site, candidate: str, *, what: str) -> Drill:
    """Kill a candidate's engine, or its replica.

    Args:
        site: Where.
        candidate: Which one; it should answer a part of the load.
        what: ``engine`` or ``replica``.
    """
    began = datetime.now(UTC)
    async with _under_load(f"Kill the {what} of {candidate}", 90) as kill:
        find = (
            engine if what == "engine" else lambda name: replica(f"candidate-{name}", "candidate")
        )
        victim = await asyncio.to_thread(find, candidate)
        await _kill(kill, victim)

        def is_back() -> bool:
            return any(
                r.is_ok and r.answered_by == candidate and r.sent_s > kill.killed_s + 1.0
                for r in kill.sent.replies
            )

        await _until(kill, is_back, at_least_s=site.fault_s)
    rows = rows_since(site.outcomes, began, num=len(kill.sent.replies))
    return _judged_candidate(kill, rows, candidate, what)


def _judged_candidate(kill: Kill, rows: Rows, candidate: str, what: str) -> Drill:
    masked = kill.watch.first(candidate, kill.killed_s, available=False)
    masked_s = None if masked is None else masked - kill.killed_s
    failed = kill.sent.failed(but=[TRUNCATED])
    truncated = [r for r in kill.sent.replies if r.error == TRUNCATED]
    elsewhere = sum(
        1
        for calls in rows.attempts.values()
        if any(c["error"] and c["candidate_id"] == candidate for c in calls)
        and calls[-1]["error"] is None
        and calls[-1]["candidate_id"] != candidate
    )
    return Drill(
        name=f"a candidate's {what} is killed",
        value=len(failed),
        unit=f"failed of {len(kill.sent.replies)} requests",
        bar=f"0, masked within {MASKED_WITHIN_S:g} s, the candidate back",
        holds=not failed
        and masked_s is not None
        and masked_s <= MASKED_WITHIN_S
        and kill.back_s is not None
        and rows.num_doubled == 0
        and rows.num_rows == len(kill.sent.replies),
        figures={
            "s until it was masked": -1.0 if masked_s is None else masked_s,
            "s until it answered again": -1.0 if kill.back_s is None else kill.back_s,
            "requests that failed there and were answered by another": elsewhere,
            "streams cut after their first byte": len(truncated),
            **_latencies(kill),
            "outcome rows missing": len(kill.sent.replies) - rows.num_rows,
        },
    )


def _latencies(kill: Kill) -> dict[str, float]:
    before = [r.latency_s for r in kill.sent.replies if r.done_s < kill.killed_s]
    after = [r.latency_s for r in kill.sent.since(kill.killed_s - 1.0)]
    return {
        "s at the 99th percentile before": quantile(before, 0.99),
        "s at the 99th percentile after": quantile(after, 0.99),
        "s at most after": quantile(after, 1.0),
    }


async def controller_killed(site: Site) -> Drill:
    """Kill Serve's controller; requests should not notice."""
    async with _under_load("Kill Serve's controller", 30) as kill:
        victim = await asyncio.to_thread(controller)
        await _kill(kill, victim)

        def is_back() -> bool:
            found = applications()
            states = Counter(application["status"] for application in found.values())
            return bool(found) and set(states) == {"RUNNING"} and _has_new_controller(victim.pid)

        await _until(kill, is_back, at_least_s=site.fault_s)
    failed = kill.sent.failed()
    return Drill(
        name="Serve's controller is killed",
        value=len(failed),
        unit=f"failed of {len(kill.sent.replies)} requests",
        bar="0, the controller back with every application running",
        holds=not failed and kill.back_s is not None,
        figures={
            "s until it told again that all run": -1.0 if kill.back_s is None else kill.back_s,
            **_errors(failed),
            **_latencies(kill),
        },
    )


def _has_new_controller(old_pid: int) -> bool:
    try:
        return controller().pid != old_pid
    except (services.ServiceError, psutil.Error):
        return False


async def router_killed(site: Site) -> Drill:
    """Kill the router replica; the default candidate should answer until it is back."""
    async with _under_load("Kill the router replica", 40) as kill:
        victim = await asyncio.to_thread(replica, "router", "router")
        await _kill(kill, victim)

        def is_back() -> bool:
            return any(
                r.is_ok and r.policy != "fallback" and r.sent_s > kill.killed_s + 1.0
                for r in kill.sent.replies
            )

        await _until(kill, is_back, at_least_s=site.fault_s)
    failed = kill.sent.failed()
    without = [r for r in kill.sent.since(kill.killed_s - 1.0) if r.policy == "fallback"]
    return Drill(
        name="the router replica is killed",
        value=len(failed),
        unit=f"failed of {len(kill.sent.replies)} requests",
        bar="0: others answer without a decision until a new one serves",
        holds=not failed and kill.back_s is not None,
        figures={
            "s until it decided again": -1.0 if kill.back_s is None else kill.back_s,
            "answered without it": len(without),
            **_errors(failed),
            **_latencies(kill),
        },
    )


def _errors(failed: list[Any]) -> dict[str, float]:
    return {f"failed by {error}": n for error, n in Counter(r.error for r in failed).items()}


def answering(url: str = services.HTTP_URL) -> list[str]:
    """Return the candidates that serve now."""
    found = httpx.get(f"{url}/readyz", timeout=10, trust_env=False).json()["candidates"]
    return [name for name, state in found.items() if state == "available"]


def zoo_system() -> Site:
    """Bring the zoo up with every choice drawn at random, so that all candidates have load."""
    config = local_config()
    outcomes = light.FOLDER / "zoo-outcomes"
    config["applications"][0]["args"] |= {
        "outcome_log": str(outcomes),
        "outcome_flush_s": 1.0,
        "explore_share": 1.0,
        "explore_daily_usd": None,
        "explore_daily_quality": None,
    }
    light.FOLDER.mkdir(parents=True, exist_ok=True)
    path = light.FOLDER / "zoo.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    bring_up(path)
    return Site(outcomes, FAULT_S)


async def process_drills(site: Site) -> list[Drill]:
    """Kill one process after the other; each is back before the next."""
    names = answering()
    return [
        (await candidate_killed(site, names[0], what="engine")).tell(),
        (await candidate_killed(site, names[1], what="replica")).tell(),
        (await controller_killed(site)).tell(),
        (await router_killed(site)).tell(),
    ]
