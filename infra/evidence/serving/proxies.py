"""Pointsman as a proxy, beside LiteLLM's: the same machine, the same instant endpoint.

Requests pin the one candidate, which is what LiteLLM's proxy does with a model's name: nothing is
routed. Turns of the two alternate, so that whatever else the machine does falls on both.
"""

from __future__ import annotations

import asyncio
import threading
import time
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from infra.evidence.parts import figure, table
from infra.evidence.serving.proxy_load import Payloads, compare, flow
from infra.evidence.serving.proxy_sides import (
    LITELLM_ENVIRONMENT,
    PATH,
    both_sides,
    num_workers,
    versions,
)
from infra.memory import MB
from infra.progress import step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.evidence.entry import Entry
    from infra.evidence.serving.proxy_sides import Side

KINDS = ("text", "image")
CONCURRENCIES = (1, 8)
NUM_ROUNDS = 4
TURN_S = 8.0
WARM_UP_S = 20.0
"""For each side: connections open and caches fill."""

MINUTES = 20.0
SAMPLE_EVERY_S = 10.0
SETTLE_SHARE = 0.25
"""Of the time under load, in which pools and caches fill; no slope is taken of it."""

SPEED_HEADER = (
    *("request", "at a time", "proxy", "requests", "failed", "requests/s", "p50 ms", "p99 ms"),
    "requests/s per core",
)
CPU_HEADER = (
    *("request", "at a time", "CPU s for 1000 requests"),
    "requests/s per core, all of Ray included",
)

MIN_RATIO = 2.0
MAX_SLOPE_MB = 1.0


def run(minutes: float = MINUTES) -> dict[str, Any]:
    """Measure; the system stays up.

    Args:
        minutes: Of steady load on both while their memory is watched; none if 0.
    """
    with both_sides() as sides:
        payloads = Payloads()
        loads = asyncio.run(_loads(sides, payloads))
        memory = _memory(sides, payloads, 60 * minutes) if minutes else None
    return {
        "versions": versions(),
        "num_workers": num_workers(),
        "loads": loads,
        "memory": memory,
        "minutes": minutes,
    }


async def _loads(sides: Sequence[Side], payloads: Payloads) -> list[dict[str, Any]]:
    """Return the figures of both sides for each kind of request and concurrency."""
    with step("Warm both up", expected_s=2 * WARM_UP_S):
        for kind in KINDS:
            await compare(
                sides,
                payloads,
                kind,
                concurrency=max(CONCURRENCIES),
                num_rounds=1,
                turn_s=WARM_UP_S / len(KINDS),
            )
    loads = []
    for kind in KINDS:
        for concurrency in CONCURRENCIES:
            what = f"{kind}, {concurrency} at a time, {NUM_ROUNDS} turns of each"
            with step(what, expected_s=2 * NUM_ROUNDS * TURN_S):
                told = await compare(
                    sides,
                    payloads,
                    kind,
                    concurrency=concurrency,
                    num_rounds=NUM_ROUNDS,
                    turn_s=TURN_S,
                )
            loads.append({"kind": kind, "concurrency": concurrency, "sides": told})
    return loads


def _memory(sides: Sequence[Side], payloads: Payloads, for_s: float) -> dict[str, Any]:
    """Return how the memory of each role grows under steady load on both at once."""
    samples: dict[str, list[tuple[float, float]]] = {}
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(sides, samples, stop), daemon=True)
    watcher.start()
    with step("Watch the memory under load", expected_s=for_s):
        num_requests = asyncio.run(_flow(sides, payloads, time.monotonic() + for_s))
    stop.set()
    watcher.join()
    return {
        "num_requests": num_requests,
        "roles": {
            role: grown(told, settle_s=SETTLE_SHARE * for_s) for role, told in samples.items()
        },
    }


async def _flow(sides: Sequence[Side], payloads: Payloads, until_s: float) -> dict[str, int]:
    """Send text and pictures in turn, one at a time to each side."""
    turns = await asyncio.gather(
        *(flow(side, payloads, cycle(KINDS), until_s=until_s) for side in sides)
    )
    return {side.name: one.num_requests for side, one in zip(sides, turns, strict=True)}


def _watch(
    sides: Sequence[Side], samples: dict[str, list[tuple[float, float]]], stop: threading.Event
) -> None:
    while True:
        for side in sides:
            for role, processes in side.processes().items():
                sample = (time.monotonic(), _rss_mb(processes))
                samples.setdefault(role, []).append(sample)
        if stop.wait(SAMPLE_EVERY_S):
            return


def _rss_mb(processes: Sequence[psutil.Process]) -> float:
    total_mb = 0.0
    for process in processes:
        try:
            total_mb += process.memory_info().rss / MB
        except psutil.Error:
            continue
    return total_mb


def grown(samples: Sequence[tuple[float, float]], *, settle_s: float) -> dict[str, float]:
    """Return first and last size in MB, and the slope in MB a minute by least squares.

    Args:
        samples: Monotonic time in seconds and size in MB.
        settle_s: Samples before this are not in the slope; all are if fewer than two are left.
    """
    start_s = samples[0][0]
    told = [sample for sample in samples if sample[0] - start_s >= settle_s]
    if len(told) < 2:  # noqa: PLR2004 - a line needs two points
        told = list(samples)
    time_N, size_N = np.array(told).T
    time_N = time_N - time_N.mean()
    variance = float(time_N @ time_N)
    slope = float(time_N @ (size_N - size_N.mean())) / variance if variance else 0.0
    return {
        "first_mb": samples[0][1],
        "last_mb": samples[-1][1],
        "slope_mb_per_min": 60 * slope,
    }


def per_core_s(told: dict[str, Any], roles: Sequence[str] | None = PATH) -> float:
    """Return the requests for each CPU second of some roles; of all if None."""
    used_s = sum(s for role, s in told["cpu_s"].items() if roles is None or role in roles)
    return float(told["num_requests"] / used_s) if used_s else 0.0


def lines(result: dict[str, Any]) -> list[Entry]:
    """Return the lines of D2."""
    told = []
    for load in result["loads"]:
        ours, theirs = load["sides"]["Pointsman"], load["sides"]["LiteLLM"]
        what = f"{load['kind']}, {load['concurrency']} at a time"
        is_whole = not ours["num_failed"] and not theirs["num_failed"]
        per_core = per_core_s(ours) / max(per_core_s(theirs), 1e-9)
        p99 = theirs["p99_s"] / max(ours["p99_s"], 1e-9)
        told += [
            figure(
                "D2",
                ratio,
                f"times LiteLLM's, {name}: {what}",
                "at least 2",
                holds=is_whole and ratio >= MIN_RATIO,
            )
            for name, ratio in (("requests/s per core", per_core), ("p99, shorter", p99))
        ]
    if result["memory"]:
        roles = result["memory"]["roles"]
        slope = sum(
            roles[role]["slope_mb_per_min"] for role in PATH if role in roles and role != "LiteLLM"
        )
        told.append(
            figure(
                "D2",
                slope,
                f"MB a minute over {result['minutes']:g} minutes (LiteLLM "
                f"{roles['LiteLLM']['slope_mb_per_min']:.2f})",
                "under 1",
                holds=slope < MAX_SLOPE_MB,
            )
        )
    return told


def section(result: dict[str, Any]) -> str:
    """Return the section."""
    settings = " ".join(f"{key}={value}" for key, value in LITELLM_ENVIRONMENT.items())
    return f"""## Pointsman and LiteLLM's proxy

LiteLLM {result["versions"]["litellm"]} from PyPI (`infra/locks/litellm.txt`) on uvicorn
{result["versions"]["uvicorn"]}, {result["num_workers"]} workers, as many as cores; one
OpenAI-compatible model, a master key, no database, no callbacks, no retries. Environment:
`{settings}`. Pointsman: `infra/serve/local.yaml` with one candidate of kind `openai`, one replica
each of ingress and candidate behind Serve's HAProxy; requests pin the candidate. Both stand
before `tests/instant.py`. Client and endpoint run on the same machine in processes of their own,
whose CPU time is not counted. Every request has a text of 200 characters of its own, and with an
image a JPEG of its own that is 200 kB as base64. Closed loop; turns of {TURN_S:g} s alternate.

{table(SPEED_HEADER, _rows(result))}

CPU seconds of a core for 1000 requests, by process. Requests pass through HAProxy, ingress and
candidate; only these are in the figure above. Features of pinned requests, which learning alone
needs, are off (`pinned_features_share: 0`); LiteLLM has nothing of the kind. The rest is Ray's
housekeeping, which goes on without requests too.

{table(CPU_HEADER, _cpu_rows(result))}

{_memory_text(result)}"""


def _rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            load["kind"],
            str(load["concurrency"]),
            name,
            str(told["num_requests"]),
            str(told["num_failed"]),
            f"{told['num_requests'] / told['elapsed_s']:.0f}",
            f"{1000 * told['p50_s']:.1f}",
            f"{1000 * told['p99_s']:.1f}",
            f"{per_core_s(told):.0f}",
        )
        for load in result["loads"]
        for name, told in sorted(load["sides"].items(), reverse=True)
    ]


def _cpu_rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = list[tuple[str, ...]]()
    for load in result["loads"]:
        for _, told in sorted(load["sides"].items(), reverse=True):
            used = sorted(told["cpu_s"].items(), key=lambda item: -item[1])
            parts = (f"{role} {1000 * s / told['num_requests']:.2f}" for role, s in used)
            rows.append(
                (
                    load["kind"],
                    str(load["concurrency"]),
                    ", ".join(parts),
                    f"{per_core_s(told, None):.0f}",
                )
            )
    return rows


def _memory_text(result: dict[str, Any]) -> str:
    if not result["memory"]:
        return "Memory was not watched in this run.\n"
    rows = [
        (role, *(f"{told[key]:.2f}" for key in ("first_mb", "last_mb", "slope_mb_per_min")))
        for role, told in result["memory"]["roles"].items()
    ]
    asked = ", ".join(f"{n} of {name}" for name, n in result["memory"]["num_requests"].items())
    return f"""Resident memory over {result["minutes"]:g} minutes of text and images in turn, one
request at a time to each proxy at once ({asked}), every {SAMPLE_EVERY_S:g} s; the slope is by
least squares, the first quarter left out.

{table(("process", "first MB", "last MB", "MB a minute"), rows)}
"""
