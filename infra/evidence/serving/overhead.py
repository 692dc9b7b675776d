"""What routing adds to a request, over calling the same replica through Ray Serve LLM directly.

Runs on the system that ``make demo`` left up. Every question is put to both, the two in turns of
a block each, and who goes first changes with every pair of blocks, so that what an engine
remembers of a question serves both alike. Compared are the questions that both sent to one
candidate.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import yaml

from infra import services
from infra.asking import messages
from infra.evidence.learning.system import local_config
from infra.evidence.parts import figure, table
from infra.evidence.serving import decision, direct
from infra.progress import step
from infra.up import await_applications, deploy
from infra.zoo.questions import generate

if TYPE_CHECKING:
    from infra.evidence.entry import Entry
    from infra.zoo.questions import Question

CONCURRENCIES = (1, 4, 16)
NUM_QUESTIONS = 320
"""For each concurrency, all different."""

BLOCK = 40
SEED = 77_001
NUM_WARM_UP = 48
MAX_ADDED_S = 0.010
MAX_P99_RATIO = 1.25
MAX_DECISION_S = 0.0015
FOLDER = services.RUN / "serving"
AUTO_URL = f"{services.HTTP_URL}/v1/chat/completions"
DIRECT_URL = f"{services.HTTP_URL}{direct.ROUTE_PREFIX}/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Timed:
    """One request."""

    candidate_id: str
    latency_s: float


def run(requests: int = NUM_QUESTIONS) -> dict[str, Any]:
    """Measure; the system stays up."""
    try:
        names = _deploy_direct()
        loads = [
            asyncio.run(_compare(concurrency, requests, names)) for concurrency in CONCURRENCIES
        ]
    finally:
        with step("Remove the direct ingress", expected_s=10):
            deploy(services.ROOT / "infra" / "serve" / "local.yaml")
    return {"loads": loads, "decision": decision.measure()}


def _deploy_direct() -> list[str]:
    """Add Ray's ingress to the running system and return the candidates' names."""
    config = local_config()
    names = [app["args"]["id"] for app in config["applications"] if app["name"] != "router"]
    config["applications"].append(
        {
            "name": direct.NAME,
            "route_prefix": direct.ROUTE_PREFIX,
            "import_path": f"{direct.__name__}:build",
            "args": {"candidate_ids": names},
        }
    )
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / "overhead.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    with step("Deploy Ray's own ingress beside the router", expected_s=40):
        deploy(path)
        await_applications([direct.NAME])
    return names


async def _compare(concurrency: int, num_questions: int, names: list[str]) -> dict[str, Any]:
    """Return the latencies of both at one concurrency, for new questions and then again."""
    pictured = (q for q in generate(4 * num_questions, seed=SEED + concurrency) if q.images)
    questions = [q for q, _ in zip(pictured, range(num_questions + NUM_WARM_UP), strict=False)]
    what = f"{num_questions} questions to both, twice, {concurrency} at a time"
    with step(what, expected_s=2 * num_questions / (3 + 2 * concurrency)):
        async with httpx.AsyncClient(timeout=120, trust_env=False) as client:
            asker = _Asker(client, concurrency)
            for question in questions[:NUM_WARM_UP]:
                await asker.auto([question])
                await asker.direct([question], [names[0]])
            new = await _ask_all(asker, questions[NUM_WARM_UP:])
            again = await _ask_all(asker, questions[NUM_WARM_UP:])
    return {"concurrency": concurrency, **new, "again": again}


async def _ask_all(asker: _Asker, questions: list[Question]) -> dict[str, Any]:
    """Ask both everything, block by block, and return their latencies."""
    pairs: list[tuple[Timed, Timed]] = []
    for number, start in enumerate(range(0, len(questions), BLOCK)):
        block = questions[start : start + BLOCK]
        pairs += await _pair(asker, block, is_direct_first=bool(number % 2))
    same = [(a, d) for a, d in pairs if a.candidate_id == d.candidate_id]
    auto_s, direct_s = (np.array([pair[i].latency_s for pair in same]) for i in (0, 1))
    return {
        "num_pairs": len(same),
        "num_elsewhere": len(pairs) - len(same),
        "auto_s": _quantiles(auto_s),
        "direct_s": _quantiles(direct_s),
    }


async def _pair(
    asker: _Asker, block: list[Question], *, is_direct_first: bool
) -> list[tuple[Timed, Timed]]:
    """Ask both one block of questions."""
    if is_direct_first:  # of the candidate that its kind of question mostly goes to
        directs = await asker.direct(block, [q.speciality for q in block])
        autos = await asker.auto(block)
    else:
        autos = await asker.auto(block)
        directs = await asker.direct(block, [timed.candidate_id for timed in autos])
    return list(zip(autos, directs, strict=True))


class _Asker:
    """Keeps so many requests in flight."""

    def __init__(self, client: httpx.AsyncClient, concurrency: int) -> None:
        """Ask nothing yet."""
        self._client = client
        self._gate = asyncio.Semaphore(concurrency)

    async def auto(self, questions: list[Question]) -> list[Timed]:
        """Ask Pointsman's router."""
        bodies = [_body(q, "auto") for q in questions]
        return list(await asyncio.gather(*(self._ask(AUTO_URL, body) for body in bodies)))

    async def direct(self, questions: list[Question], names: list[str]) -> list[Timed]:
        """Ask the candidates through Ray's ingress."""
        asked = [(_body(q, name), name) for q, name in zip(questions, names, strict=True)]
        return list(
            await asyncio.gather(*(self._ask(DIRECT_URL, body, name) for body, name in asked))
        )

    async def _ask(self, url: str, body: bytes, name: str = "") -> Timed:
        async with self._gate:
            started_s = time.monotonic()
            response = await self._client.post(
                url, content=body, headers={"content-type": "application/json"}
            )
            latency_s = time.monotonic() - started_s
        response.raise_for_status()
        return Timed(name or response.headers["x-pointsman-candidate"], latency_s)


def _body(question: Question, model: str) -> bytes:
    body = {"model": model, "temperature": 0.0, "messages": messages(question)}
    return json.dumps(body).encode()


def _quantiles(latency_N: np.ndarray) -> dict[str, float]:
    p50, p90, p99 = np.quantile(latency_N, (0.5, 0.9, 0.99))
    return {"p50": float(p50), "p90": float(p90), "p99": float(p99), "mean": latency_N.mean()}


def lines(result: dict[str, Any]) -> list[Entry]:
    """Return the lines of D1."""
    told = []
    for load in result["loads"]:
        auto_s, direct_s, count = load["auto_s"], load["direct_s"], load["concurrency"]
        added_s = auto_s["p50"] - direct_s["p50"]
        ratio = auto_s["p99"] / direct_s["p99"]
        told += [
            figure(
                "D1",
                1000 * added_s,
                f"ms added to p50, {count} at a time",
                "at most 10",
                holds=added_s <= MAX_ADDED_S,
            ),
            figure(
                "D1",
                ratio,
                f"times p99, {count} at a time",
                "at most 1.25",
                holds=ratio <= MAX_P99_RATIO,
            ),
        ]
    p50_s = result["decision"]["p50_s"]
    told.append(
        figure(
            "D1",
            1000 * p50_s,
            "ms p50 of the decision alone, features cached",
            "at most 1.5",
            holds=p50_s <= MAX_DECISION_S,
        )
    )
    return told


def section(result: dict[str, Any]) -> str:
    """Return the section."""
    rows = [
        (
            str(load["concurrency"]),
            f"{who}{suffix}",
            *(f"{1000 * times[key][q]:.1f}" for q in ("p50", "p90", "p99", "mean")),
            f"{times['num_pairs']} ({times['num_elsewhere']} went elsewhere)",
        )
        for load in result["loads"]
        for suffix, times in (("", load), (", again", load["again"]))
        for who, key in (("auto", "auto_s"), ("direct", "direct_s"))
    ]
    told = result["decision"]
    return f"""## What routing adds

Zoo questions with a picture, each asked once of `auto` and once of the same candidate's replica
through Ray Serve LLM's own `OpenAiIngress`, in alternating blocks of {BLOCK}; every picture is
new, so that encoders run for each. Client, engines, ingress and router share the machine's cores:
with several requests at a time the cores are busy, and what a request costs of them is waited for
by all the others too. Then both are asked everything again: features come from the router's cache,
engines remember as well, and what is left is the way of a request.

{table(("at a time", "path", "p50 ms", "p90 ms", "p99 ms", "mean ms", "pairs"), rows)}

The decision alone (mask, scores, choice; {told["num_candidates"]} candidates, features given, one
thread, {told["num_decisions"]} decisions): p50 {1000 * told["p50_s"]:.2f} ms, p99
{1000 * told["p99_s"]:.2f} ms.
"""
