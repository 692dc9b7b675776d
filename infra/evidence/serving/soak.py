"""Hours of questions with pictures on the zoo, and something goes wrong every minute.

Runs on the system that ``make demo`` or ``make up`` left up, which stays up.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import yaml

from infra import services
from infra.evidence.parts import figure, table
from infra.evidence.serving.drills_processes import TRUNCATED, controller, engine, replica
from infra.evidence.serving.load import Load, bodies, client, load, quantile, questions
from infra.evidence.serving.resources import OURS, Resources
from infra.progress import step
from infra.up import applications, deploy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from infra.evidence.entry import Entry

    Fault = Callable[["Soak"], Awaitable[None]]

MINUTES = 120.0
REQUESTS_PER_S = 2.0
NUM_QUESTIONS = 500
NUM_LEAVING = 10
"""Clients that hang up half way, each time it is their turn."""

SETTLE_S = 300.0
"""Longest that replicas may take to be at their minimum again."""

MIN_SUCCESS = 0.999
MAX_SLOPE_MB = 1.0
MAX_SLOPE_COUNT = 0.1
"""Descriptors or threads a minute: six in an hour."""


@dataclass(slots=True)
class Soak:
    """A soak under way."""

    config: Path
    sent: Load
    acts: Counter[str] = field(default_factory=Counter)
    failed_acts: Counter[str] = field(default_factory=Counter)


def run(
    minutes: float = MINUTES, config: Path = services.ROOT / "infra" / "serve" / "local.yaml"
) -> dict[str, Any]:
    """Let load flow for so many minutes.

    Args:
        minutes: How long.
        config: What the running system was deployed from.
    """
    return asyncio.run(_soak(minutes, config))


async def _soak(minutes: float, config: Path) -> dict[str, Any]:
    body = bodies(questions(NUM_QUESTIONS))
    acts = cycle(faults(_names(config)))
    with step(f"{minutes:g} minutes with one fault each", expected_s=60 * minutes) as current:
        with Resources() as resources:
            async with load(
                body, requests_per_s=REQUESTS_PER_S, num_questions=NUM_QUESTIONS
            ) as sent:
                soak = Soak(config, sent)
                end_s = time.monotonic() + 60 * minutes
                while time.monotonic() < end_s - 1.0:
                    started_s = time.monotonic()
                    await _act(soak, *next(acts))
                    failed = len(sent.failed(but=[TRUNCATED]))
                    current.detail = f"{len(sent.replies)} answers, {failed} failed"
                    left_s = min(60.0, end_s - started_s) - (time.monotonic() - started_s)
                    await asyncio.sleep(max(0.0, left_s))
                await asyncio.to_thread(deploy, config)
        settled_s = await _settled(_least_replicas(config))
    return _result(soak, minutes, settled_s, resources)


async def _act(soak: Soak, told: str, fault: Fault) -> None:
    """Do one harm; a victim that is still starting from an earlier one is spared."""
    soak.acts[told] += 1
    try:
        await fault(soak)
    except (services.ServiceError, psutil.Error):
        soak.failed_acts[told] += 1


async def _kill_engine(name: str, _: Soak) -> None:
    (await asyncio.to_thread(engine, name)).kill()


async def _kill_replica(name: str, _: Soak) -> None:
    (await asyncio.to_thread(replica, f"candidate-{name}", "candidate")).kill()


async def _remove_and_add(name: str, soak: Soak) -> None:
    """Take a candidate out of the config for half a minute."""
    config = yaml.safe_load(soak.config.read_text())
    without = copy.deepcopy(config)
    without["applications"] = [
        a for a in config["applications"] if a["name"] != f"candidate-{name}"
    ]
    path = services.RUN / "serving" / "soak.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(without, sort_keys=False))
    await asyncio.to_thread(deploy, path)
    await asyncio.sleep(20.0)
    await asyncio.to_thread(deploy, soak.config)


async def _kill_router(_: Soak) -> None:
    (await asyncio.to_thread(replica, "router", "router")).kill()


async def _kill_controller(_: Soak) -> None:
    (await asyncio.to_thread(controller)).kill()


async def _leave(_: Soak) -> None:
    """Ask for streams and hang up after the first byte."""
    body = bodies(questions(NUM_LEAVING), stream=True)

    async def one(http: httpx.AsyncClient, number: int) -> None:
        with suppress(httpx.HTTPError):
            async with http.stream("POST", "/v1/chat/completions", json=body(number)) as response:
                await anext(response.aiter_raw(), None)

    async with client() as http:
        await asyncio.gather(*(one(http, number) for number in range(NUM_LEAVING)))


ON_CANDIDATE: dict[str, Callable[[str, Soak], Awaitable[None]]] = {
    "the engine of a candidate is killed": _kill_engine,
    "a candidate's replica is killed": _kill_replica,
    "a candidate is removed and added": _remove_and_add,
}

ON_SYSTEM: dict[str, Fault] = {
    "clients leave in mid-stream": _leave,
    "the router replica is killed": _kill_router,
    "Serve's controller is killed": _kill_controller,
}


def faults(names: Sequence[str]) -> list[tuple[str, Fault]]:
    """Return each fault with each of its victims once: a cycle of the soak.

    Candidates take turns, so that one is whole again before its next turn. The system's own
    faults come once a cycle: with a router killed every sixth minute, what was told of its growth
    was how it starts (1.1 MB a minute; 0.4 when it was left alone).
    """
    on_candidates = [
        (told, partial(act, names[(turn + shift) % len(names)]))
        for shift in range(len(names))
        for turn, (told, act) in enumerate(ON_CANDIDATE.items())
    ]
    return [*ON_SYSTEM.items(), *on_candidates]


def _names(config: Path) -> list[str]:
    blocks = yaml.safe_load(config.read_text())["applications"]
    return [block["args"]["id"] for block in blocks if block["name"] != "router"]


def _least_replicas(config: Path) -> dict[str, int]:
    """Return the least number of replicas of each candidate's application."""
    return {
        block["name"]: sum(
            one.get("autoscaling_config", {}).get("min_replicas", one.get("num_replicas", 1))
            for one in block["deployments"]
        )
        for block in yaml.safe_load(config.read_text())["applications"]
        if block["name"] != "router"
    }


async def _settled(wanted: dict[str, int]) -> float | None:
    """Return the seconds until every application has so many replicas, all running."""
    started_s = time.monotonic()
    while (passed_s := time.monotonic() - started_s) < SETTLE_S:
        found = await asyncio.to_thread(applications)
        states = {
            name: [r["state"] for d in found[name]["deployments"].values() for r in d["replicas"]]
            for name in wanted
            if name in found
        }
        if all(states.get(name) == ["RUNNING"] * count for name, count in wanted.items()):
            return passed_s
        await asyncio.sleep(1.0)
    return None


def _result(
    soak: Soak, minutes: float, settled_s: float | None, resources: Resources
) -> dict[str, Any]:
    sent = soak.sent
    failed = sent.failed(but=[TRUNCATED])
    return {
        "minutes": minutes,
        "requests_per_s": REQUESTS_PER_S,
        "num_requests": len(sent.replies),
        "num_failed": len(failed),
        "errors": dict(Counter(f"{r.status} {r.error}" for r in failed)),
        "num_truncated": sum(r.error == TRUNCATED for r in sent.replies),
        "p50_s": quantile([r.latency_s for r in sent.replies if r.is_ok], 0.5),
        "p99_s": quantile([r.latency_s for r in sent.replies if r.is_ok], 0.99),
        "acts": dict(soak.acts),
        "spared": dict(soak.failed_acts),
        "settled_s": settled_s,
        "slopes": resources.slopes(),
        "levels": {role: resources.levels().get(role, []) for role in OURS},
    }


def lines(result: dict[str, Any]) -> list[Entry]:
    """Return the lines of D5."""
    success = 1 - result["num_failed"] / result["num_requests"]
    slopes = {role: one for role, one in result["slopes"].items() if role in OURS}
    # One that shrinks is no excuse for the other.
    rss = sum(max(0.0, one["rss_mb_per_min"]) for one in slopes.values())
    counts = max(one[key] for one in slopes.values() for key in ("fds_per_min", "threads_per_min"))
    settled_s = result["settled_s"]
    minutes = f"{result['minutes']:g} minutes"
    return [
        figure(
            "D5",
            100 * success,
            f"% of {result['num_requests']:,} requests answered, {minutes}",
            f"99.9 or more, over {MINUTES:g} minutes",
            holds=success >= MIN_SUCCESS and result["minutes"] >= MINUTES,
        ),
        figure(
            "D5",
            rss,
            "MB a minute of growth, ingress and router together",
            "under 1",
            holds=rss < MAX_SLOPE_MB,
        ),
        figure(
            "D5",
            counts,
            "descriptors or threads a minute of growth, the steepest",
            f"at most {MAX_SLOPE_COUNT}",
            holds=counts <= MAX_SLOPE_COUNT,
        ),
        figure(
            "D5",
            -1.0 if settled_s is None else settled_s,
            "s until all replicas were at their minimum and ran",
            f"within {SETTLE_S:g}",
            holds=settled_s is not None,
        ),
    ]


def section(result: dict[str, Any]) -> str:
    """Tell how it went."""
    acts = table(
        ("fault", "times", "of them without a victim that ran"),
        ((act, str(n), str(result["spared"].get(act, 0))) for act, n in result["acts"].items()),
    )
    held = table(
        ("role", "processes", "MB a minute", "descriptors a minute", "threads a minute", "MB"),
        (
            (
                role,
                f"{one['num_processes']:.0f}",
                *(f"{one[k]:.3f}" for k in ("rss_mb_per_min", "fds_per_min", "threads_per_min")),
                f"{one['last_rss_mb']:.0f}",
            )
            for role, one in result["slopes"].items()
        ),
    )
    levels = table(
        ("role", "quarter", "MB", "descriptors", "threads"),
        (
            (role, str(n), *(f"{one[k]:.1f}" for k in ("rss_mb", "num_fds", "num_threads")))
            for role, quarters in result["levels"].items()
            for n, one in enumerate(quarters, 1)
        ),
    )
    errors = ", ".join(f"{n} x {name}" for name, n in result["errors"].items()) or "none"
    return f"""## Soak

{result["minutes"]:g} minutes of {result["requests_per_s"]:g} questions with pictures a second,
every third streamed, with one fault a minute; `kill -9` each time. Each fault meets each of its
victims once, a candidate or the system's one, then all begins again. The one ingress
replica is not killed: requests that it holds would fail. Failed: {errors}. Streams that a kill
cut after their first byte, told by one error event: {result["num_truncated"]}. p50
{result["p50_s"]:.2f} s, p99 {result["p99_s"]:.2f} s.

{acts}

Growth is a least-squares slope over each process's life after its first minute. A process that
was killed begins anew, and its caches fill again.

{held}

Mean levels in each quarter of the longest life: what fills up once is told from what goes on.

{levels}
"""
