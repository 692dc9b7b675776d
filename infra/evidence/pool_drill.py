"""Edit the Serve config while questions flow: scale to zero and back, remove and add again.

The operator's act is the real one: a changed YAML file and ``serve deploy``. Meanwhile five
requests a second go to ``auto``, and each answer's receipt tells how every candidate stood.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import cycle
from typing import TYPE_CHECKING, Any

import httpx
import yaml

from infra import services
from infra.asking import messages
from infra.progress import step
from infra.up import applications, deploy
from infra.zoo.questions import generate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

REQUESTS_PER_S = 5.0
NUM_QUESTIONS = 100
SEED = 4_242
PHASE_TIMEOUT_S = 300.0
SETTLE_S = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One request of the drill."""

    sent_s: float
    """Seconds since the drill began."""

    status: int
    answered_by: str
    state: str
    """Of the candidate that is played with: ``available``, a reason of the mask, or ``absent``."""

    latency_s: float
    num_attempts: int


@dataclass(slots=True)
class Drill:
    """The requests and phases of one drill."""

    candidate: str
    served: list[Served] = field(default_factory=list)
    phases: list[tuple[float, str]] = field(default_factory=list)

    @property
    def num_failed(self) -> int:
        """Requests that were not answered with 200."""
        return sum(s.status != httpx.codes.OK for s in self.served)

    def states(self) -> list[tuple[float, float, str, int]]:
        """Return runs of equal state: first and last second, state, number of requests."""
        runs: list[tuple[float, float, str, int]] = []
        for s in sorted(self.served, key=lambda s: s.sent_s):
            if runs and runs[-1][2] == s.state:
                start, _, state, count = runs[-1]
                runs[-1] = (start, s.sent_s, state, count + 1)
            else:
                runs.append((s.sent_s, s.sent_s, s.state, 1))
        return runs

    def answered_by(self) -> Counter[str]:
        """Return how many questions each candidate answered."""
        return Counter(s.answered_by for s in self.served)


def run_drill(config_path: Path, *, candidate: str = "charter") -> Drill:
    """Run the drill against the running system and leave it as it was.

    Args:
        config_path: The config that is deployed; variants of it go to ``.run/drill.yaml``.
        candidate: Who is scaled, removed and added again.
    """
    return asyncio.run(_run(yaml.safe_load(config_path.read_text()), candidate))


async def _run(config: dict[str, Any], candidate: str) -> Drill:
    drill = Drill(candidate)
    begun_s = time.monotonic()
    load = asyncio.create_task(_load(drill, begun_s))
    name = f"candidate-{candidate}"
    acts: list[tuple[str, dict[str, Any], Callable[[], bool]]] = [
        ("scaled to zero", scaled(config, name, 0), lambda: not replica_states(name)),
        (
            "scaled back to one",
            scaled(config, name, 1),
            lambda: "RUNNING" in replica_states(name),
        ),
        ("removed", without(config, name), lambda: name not in applications()),
        ("added again", config, lambda: "RUNNING" in replica_states(name)),
    ]
    try:
        await asyncio.sleep(SETTLE_S)
        for title, variant, is_done in acts:
            drill.phases.append((time.monotonic() - begun_s, title))
            with step(f"{candidate} {title}", expected_s=60):
                await asyncio.to_thread(deploy_variant, variant)
                await until(is_done)
                await asyncio.sleep(SETTLE_S)
    finally:
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
    return drill


def scaled(config: dict[str, Any], name: str, num_replicas: int) -> dict[str, Any]:
    """Return the config with the candidate's autoscaling starting from a number of replicas."""
    changed = copy.deepcopy(config)
    for application in changed["applications"]:
        if application["name"] == name:
            scaling = application["deployments"][0]["autoscaling_config"]
            scaling |= {"min_replicas": num_replicas, "initial_replicas": num_replicas}
    return changed


def without(config: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the config without an application."""
    kept = [a for a in config["applications"] if a["name"] != name]
    return config | {"applications": kept}


def deploy_variant(config: dict[str, Any]) -> None:
    """Deploy a config that stands in no file."""
    path = services.RUN / "drill.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    deploy(path)


def replica_states(name: str) -> list[str]:
    """Return the states of an application's replicas."""
    deployments = applications().get(name, {}).get("deployments", {})
    return [r["state"] for d in deployments.values() for r in d.get("replicas", [])]


async def until(is_done: Callable[[], bool]) -> None:
    """Wait until a change took effect.

    Raises:
        ServiceError: If it does not within `PHASE_TIMEOUT_S`.
    """
    deadline = time.monotonic() + PHASE_TIMEOUT_S
    while not await asyncio.to_thread(is_done):
        if time.monotonic() > deadline:
            raise services.ServiceError("the drill's change did not take effect in time")
        await asyncio.sleep(1.0)


async def _load(drill: Drill, begun_s: float) -> None:
    """Send questions at a steady rate until cancelled, then wait for the last answers."""
    bodies = cycle([_body(q) for q in generate(NUM_QUESTIONS, seed=SEED)])
    requests: set[asyncio.Task[None]] = set()
    async with httpx.AsyncClient(
        base_url=services.HTTP_URL, timeout=120, trust_env=False
    ) as client:
        try:
            while True:
                task = asyncio.create_task(_send(client, next(bodies), drill, begun_s))
                requests.add(task)
                task.add_done_callback(requests.discard)
                await asyncio.sleep(1.0 / REQUESTS_PER_S)
        finally:
            await asyncio.gather(*requests)


def _body(question: Any) -> dict[str, Any]:  # noqa: ANN401 - a zoo question
    return {"model": "auto", "temperature": 0.0, "messages": messages(question)}


async def _send(
    client: httpx.AsyncClient, body: dict[str, Any], drill: Drill, begun_s: float
) -> None:
    started_s = time.monotonic()
    try:
        response = await client.post("/v1/chat/completions", json=body)
    except httpx.HTTPError as error:
        drill.served.append(
            Served(
                sent_s=started_s - begun_s,
                status=0,
                answered_by=type(error).__name__,
                state="unknown",
                latency_s=time.monotonic() - started_s,
                num_attempts=0,
            )
        )
        return
    latency_s = time.monotonic() - started_s
    receipt: dict[str, Any] = {}
    if response.status_code == httpx.codes.OK:
        decision_id = response.headers["x-pointsman-decision-id"]
        receipt = (await client.get(f"/v1/decisions/{decision_id}")).json()
    drill.served.append(
        Served(
            sent_s=started_s - begun_s,
            status=response.status_code,
            answered_by=response.headers.get("x-pointsman-candidate", ""),
            state=_state(receipt, drill.candidate),
            latency_s=latency_s,
            num_attempts=len(receipt.get("attempts", [])),
        )
    )


def _state(receipt: dict[str, Any], candidate: str) -> str:
    names = receipt.get("candidate_ids") or []
    if candidate not in names:
        return "absent"
    return receipt["refusals"][names.index(candidate)] or "available"
