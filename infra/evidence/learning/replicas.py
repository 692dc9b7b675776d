"""The running system's router and ingress replicas, killed under labelled traffic.

Runs on the system that ``make demo`` left up. The ingress is also the log's writer.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import cycle
from typing import TYPE_CHECKING, Any

import httpx

from infra import services
from infra.asking import LABEL_SOURCE, messages
from infra.evidence.parts import figure, table
from infra.progress import step
from infra.up import applications
from infra.zoo.questions import generate
from monitoring.log_check import check
from monitoring.outcome_log import read_table
from monitoring.segment_store import open_store

if TYPE_CHECKING:
    from infra.evidence.entry import Entry

NUM_KILLS = 20
KINDS = ("router", "ingress")
REQUESTS_PER_S = 6.0
LIFE_S = 3.0
"""Longest time from a replica's return to its kill; drawn uniformly below it."""

RETURN_TIMEOUT_S = 180.0
SETTLE_S = 15.0
SEED = 6_161
OUTCOMES = str(services.RUN / "outcomes")


@dataclass(slots=True)
class Sent:
    """What the traffic saw."""

    num_requests: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    answered: set[str] = field(default_factory=set)
    """Decisions whose answer arrived."""

    acknowledged: set[str] = field(default_factory=set)
    """Decisions whose label was accepted."""


def run(kills: int = NUM_KILLS) -> dict[str, Any]:
    """Kill each kind of replica so many times; the system stays up."""
    return {kind: asyncio.run(_drill(kind, kills)) for kind in KINDS}


async def _drill(kind: str, num_kills: int) -> dict[str, Any]:
    sent, back_s = Sent(), []
    chance = random.Random(SEED)  # noqa: S311 - moments, no secrets
    with step(f"Kill the {kind} replica {num_kills} times", expected_s=20 * num_kills) as current:
        async with _labelled_traffic(sent):
            for number in range(num_kills):
                await asyncio.sleep(chance.uniform(0.0, LIFE_S))
                back_s.append(await _kill(kind))
                current.detail = f"{number + 1} kills, {len(sent.acknowledged)} labels"
            await asyncio.sleep(LIFE_S)
        await asyncio.sleep(SETTLE_S)  # the heir adopts the spool and commits
    return {
        "num_kills": num_kills,
        "num_requests": sent.num_requests,
        "failures": dict(sent.failures),
        "num_acknowledged": len(sent.acknowledged),
        "back_s": back_s,
        **_harm(sent),
    }


def _harm(sent: Sent) -> dict[str, Any]:
    """Return what the log lacks, or holds twice or torn."""
    labels = read_table(OUTCOMES, "labels", columns=["decision_id", "source"]).to_pylist()
    labelled = Counter(row["decision_id"] for row in labels if row["source"] == LABEL_SOURCE)
    rows = read_table(OUTCOMES, "outcomes", columns=["decision_id"])["decision_id"].to_pylist()
    logged = Counter(rows)
    tables = check(open_store(OUTCOMES), is_thorough=True)
    return {
        "num_lost": len(sent.acknowledged - set(labelled)),
        "num_orphaned": len(sent.acknowledged - set(logged)),
        "num_unlogged": len(sent.answered - set(logged)),
        "num_doubled": sum(
            count > 1
            for counts in (logged, labelled)
            for name, count in counts.items()
            if name in sent.answered
        ),
        "num_faults": sum(len(one.faults) for one in tables.values()),
    }


class _labelled_traffic:  # noqa: N801 - a context manager
    """Asks at a steady rate while its body runs, and labels what is answered."""

    def __init__(self, sent: Sent) -> None:
        """Send nothing yet."""
        self._sent = sent

    async def __aenter__(self) -> None:
        self._client = httpx.AsyncClient(
            base_url=services.HTTP_URL,
            timeout=60,
            limits=httpx.Limits(max_connections=None),
            trust_env=False,
        )
        self._pending: set[asyncio.Task[None]] = set()
        self._sending = asyncio.create_task(self._send_all())

    async def __aexit__(self, *_: object) -> None:
        self._sending.cancel()
        await asyncio.gather(*self._pending)
        await self._client.aclose()

    async def _send_all(self) -> None:
        due_s = time.monotonic()
        for question in cycle(list(generate(100, seed=SEED))):
            body = {"model": "auto", "temperature": 0.0, "messages": messages(question)}
            task = asyncio.create_task(self._send(body))
            self._pending.add(task)
            task.add_done_callback(self._pending.discard)
            due_s += 1.0 / REQUESTS_PER_S
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))

    async def _send(self, body: dict[str, Any]) -> None:
        sent = self._sent
        sent.num_requests += 1
        try:
            response = await self._client.post("/v1/chat/completions", json=body)
            if response.status_code != httpx.codes.OK:
                sent.failures[str(response.status_code)] += 1
                return
            decision_id = response.headers["x-pointsman-decision-id"]
            sent.answered.add(decision_id)
            label = {"decision_id": decision_id, "score": 0.5, "source": LABEL_SOURCE}
            taken = await self._client.post("/v1/outcomes", json={"labels": [label]})
        except httpx.HTTPError as error:
            sent.failures[type(error).__name__] += 1
            return
        if taken.status_code == httpx.codes.OK:
            sent.acknowledged.add(decision_id)


async def _kill(kind: str) -> float:
    """Kill the replica that runs; return the seconds until another does.

    Raises:
        ServiceError: If none comes back.
    """
    (pid,) = await asyncio.to_thread(_pids, kind)
    os.kill(pid, signal.SIGKILL)
    killed_s = time.monotonic()
    while time.monotonic() < killed_s + RETURN_TIMEOUT_S:
        await asyncio.sleep(0.25)
        found = await asyncio.to_thread(_pids, kind)
        if found and pid not in found:
            return time.monotonic() - killed_s
    raise services.ServiceError(f"no replica of {kind} came back")


def _pids(kind: str) -> list[int]:
    deployment = applications()["router"]["deployments"][kind]
    return [one["pid"] for one in deployment["replicas"] if one["state"] == "RUNNING"]


def lines(result: dict[str, Any]) -> list[Entry]:
    """Return the lines of C5 on replicas."""
    told = []
    for kind, one in result.items():
        harm = sum(one[f"num_{name}"] for name in ("lost", "orphaned", "doubled", "faults"))
        told.append(
            figure(
                "C5",
                harm,
                f"of {one['num_acknowledged']:,} acknowledged labels lost or without their "
                f"outcome, rows doubled, files torn, {one['num_kills']} kills of the {kind} "
                "replica",
                f"0, with {NUM_KILLS} kills or more",
                holds=not harm and one["num_kills"] >= NUM_KILLS,
            )
        )
    return told


def section(result: dict[str, Any]) -> str:
    """Tell what was killed, and what was left."""
    rows = [
        (
            kind,
            str(one["num_kills"]),
            f"{one['num_requests']:,}",
            ", ".join(f"{n} x {name}" for name, n in one["failures"].items()) or "none",
            f"{one['num_acknowledged']:,}",
            *(str(one[f"num_{n}"]) for n in ("lost", "orphaned", "doubled", "faults", "unlogged")),
            f"{sorted(one['back_s'])[len(one['back_s']) // 2]:.1f}",
        )
        for kind, one in result.items()
    ]
    header = (
        "killed", "kills", "requests", "failed", "labels acknowledged", "lost", "without outcome",
        "doubled rows", "faults", "answers not logged", "median s until back",
    )  # fmt: skip
    return f"""## Kills of the running system's replicas

`kill -9` of the one replica of its kind under {REQUESTS_PER_S:g} labelled requests a second, each
within {LIFE_S:g} s of its predecessor's return. The ingress holds the requests in flight and is
the log's writer: while it is away, requests fail. While the router is away, the default
candidate answers.

{table(header, rows)}
"""
