"""The loop on the zoo, through HTTP alone: a cold start, exploration, retrains, a newcomer.

The first part starts without any profile. Questions are asked of ``auto``, their answers graded
and labelled; after each third of them a retrain job is submitted, and the version that then
serves answers test questions without exploring. At the end every candidate is asked all the
questions, a router is trained on that full information, and answers the same test questions.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import yaml

from deployments.registry import ACCEPT_FAILED_GATES
from infra import services
from infra.asking import Ask, Asked, ask_all, label_all, prices
from infra.progress import step
from infra.up import bring_up
from infra.zoo.questions import Question, generate
from monitoring.log_reader import read_table

if TYPE_CHECKING:
    from pathlib import Path

LOCAL = services.ROOT / "infra" / "serve" / "local.yaml"
FOLDER = services.RUN / "learning"
OUTCOMES = FOLDER / "outcomes"
MODEL = "pointsman-router-loop"
REGISTRY_API = f"{services.MLFLOW_URI}/api/2.0/mlflow"

NUM_STREAM = 3000
NUM_ROUNDS = 3
NUM_TEST = 300
STREAM_SEED, TEST_SEED = 8_101, 8_102
EXPLORE_SHARE = 0.3
BUDGET_QUALITY = 250.0
"""Answers that exploring may be predicted to lose in a day. The cold start is charged as if half
of its draws were lost, since nothing is known."""

BUDGET_USD = 0.05
CONCURRENCY = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A router version on the test questions, and how it was trained."""

    version: str
    num_labels: int
    """Labels that it learned from."""

    quality: float
    shares: dict[str, float]
    """Of the test questions, by candidate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """What the first part came to."""

    alone: dict[str, float]
    """Quality of each candidate on the test questions."""

    oracle: float
    stages: list[Stage]
    full: Stage
    stream_quality: list[float]
    """Of the answers in the stream, by tenths."""

    regret_quality: float
    """Predicted, expected over the draws, as charged to the budget."""

    regret_usd: float
    num_explored: int
    num_failed: int


def write_config(path: Path, *, names: tuple[str, ...] | None = None) -> Path:
    """Write the local config with exploration, its own log and its own registered model."""
    config = yaml.safe_load(LOCAL.read_text())
    if names is not None:
        kept = {"router", *(f"candidate-{name}" for name in names)}
        config["applications"] = [a for a in config["applications"] if a["name"] in kept]
    config["applications"][0]["args"] |= {
        "outcome_log": str(OUTCOMES),
        "registry_model": MODEL,
        "explore_share": EXPLORE_SHARE,
        "explore_daily_quality": BUDGET_QUALITY,
        "explore_daily_usd": BUDGET_USD,
        "explore_state": str(FOLDER / "exploration"),
        "registry_poll_s": 1.0,
        "outcome_flush_s": 1.0,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def ask(asks: list[Ask], what: str) -> list[Asked]:
    """Ask, and say how far it has come."""
    with step(what, expected_s=len(asks) / 30) as current:

        def on_answer(num_answers: int) -> None:
            current.detail = f"{num_answers} of {len(asks)} answers"

        return asyncio.run(
            ask_all(
                asks,
                url=services.HTTP_URL,
                price_of=prices(services.HTTP_URL),
                concurrency=CONCURRENCY,
                on_answer=on_answer,
            )
        )


def label(asked: list[Asked]) -> None:
    """Send the grades; returns when they are safe."""
    asyncio.run(label_all(asked, url=services.HTTP_URL))


def retrain(log: str, *, model: str = MODEL, promote: str = "auto") -> str:
    """Submit a retrain job and return its output.

    Raises:
        ServiceError: If it fails.
    """
    time.sleep(3.0)  # the last rows leave the spool
    command = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit"]
    command += [f"--address={services.RAY_API}", "--working-dir=.", "--", "python"]
    command += ["training/retrain.py", f"--promote={promote}", f"--outcome-log={OUTCOMES}"]
    command += [f"--registry-model={model}"]
    with step(f"Retrain ({log})", expected_s=70):
        done = subprocess.run(
            command,
            cwd=services.ROOT,
            env=services.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
    (FOLDER / f"{log}.log").write_text(done.stdout + done.stderr)
    if done.returncode != 0:
        raise services.ServiceError(f"the retrain job failed; see {FOLDER / f'{log}.log'}")
    return done.stdout


def serving_version() -> str | None:
    """Return the router version that serves."""
    body = httpx.get(f"{services.HTTP_URL}/readyz", timeout=10, trust_env=False).json()
    version: str | None = body["router"].get("router_version")
    return version


def await_version(other_than: str | None) -> str:
    """Wait until another version serves.

    Raises:
        ServiceError: If none does within half a minute.
    """
    deadline = time.monotonic() + 30
    while (version := serving_version()) in (None, other_than):
        if time.monotonic() > deadline:
            raise services.ServiceError("no new version serves; the gates may have failed")
        time.sleep(0.3)
    return version


def stage(version: str, test: list[Question], num_labels: int) -> Stage:
    """Ask the test questions of the version that serves."""
    asked = ask([Ask(question=q) for q in test], f"Test version {version}")
    names = [a.answered_by for a in asked]
    return Stage(
        version=version,
        num_labels=num_labels,
        quality=float(np.mean([a.score for a in asked])),
        shares={name: names.count(name) / len(names) for name in sorted(set(names))},
    )


def clean() -> None:
    """Forget the log, the budget and the router versions of a loop before."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)


def run_loop() -> Loop:
    """Run the first part on a system that this brings up."""
    clean()
    bring_up(write_config(FOLDER / "loop.yaml"))
    stream = list(generate(NUM_STREAM, seed=STREAM_SEED))
    test = list(generate(NUM_TEST, seed=TEST_SEED))
    names = list(prices(services.HTTP_URL))
    pinned = ask(
        [Ask(question=q, model=name) for name in names for q in test], "Test each candidate alone"
    )
    alone = {
        name: [a.score for a in pinned[i * NUM_TEST : (i + 1) * NUM_TEST]]
        for i, name in enumerate(names)
    }
    stages, streamed = _rounds(stream, test)
    regret = _regret()
    every = ask(
        [Ask(question=q, model=name) for name in names for q in stream], "Ask everybody everything"
    )
    label(every)
    before = serving_version()
    retrain("full", promote="never")
    version = promote_challenger()
    if version != before:
        await_version(before)
    return Loop(
        alone={name: float(np.mean(scores)) for name, scores in alone.items()},
        oracle=float(np.mean(np.max([alone[name] for name in names], axis=0))),
        stages=stages,
        full=stage(version, test, len(every)),
        stream_quality=[float(part.mean()) for part in np.array_split(_scores(streamed), 10)],
        num_failed=0,
        **regret,
    )


def _rounds(stream: list[Question], test: list[Question]) -> tuple[list[Stage], list[Asked]]:
    stages, streamed = [], []
    for i, part in enumerate(np.array_split(np.arange(len(stream)), NUM_ROUNDS)):
        asks = [Ask(question=stream[n], explores=True) for n in part]
        asked = ask(asks, f"Round {i + 1}: {len(asks)} questions, exploring")
        label(asked)
        streamed += asked
        before = serving_version()
        output = retrain(f"round-{i + 1}")
        promoted = "is champion" in output
        version = await_version(before) if promoted else str(before)
        stages.append(stage(version, test, len(streamed)))
    return stages, streamed


def _scores(asked: list[Asked]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([a.score for a in asked])


def _regret() -> dict[str, Any]:
    rows = read_table(
        OUTCOMES, "outcomes", columns=("policy", "regret_quality", "regret_usd")
    ).to_pylist()
    return {
        "regret_quality": float(sum(r["regret_quality"] or 0.0 for r in rows)),
        "regret_usd": float(sum(r["regret_usd"] or 0.0 for r in rows)),
        "num_explored": sum(r["policy"] == "explore" for r in rows),
    }


def promote_challenger() -> str:
    """Move the alias ``champion`` to the challenger, whatever its gates say; for comparison."""
    with httpx.Client(base_url=REGISTRY_API, timeout=30, trust_env=False) as registry:
        asked = {"name": MODEL, "alias": "challenger"}
        found = registry.get("/registered-models/alias", params=asked).raise_for_status().json()
        version = str(found["model_version"]["version"])
        tag = {"name": MODEL, "version": version, "key": ACCEPT_FAILED_GATES, "value": "compared"}
        registry.post("/model-versions/set-tag", json=tag).raise_for_status()
        moved = {"name": MODEL, "alias": "champion", "version": version}
        registry.post("/registered-models/alias", json=moved).raise_for_status()
    return version


def to_json(loop: Loop) -> dict[str, Any]:
    """Return a record for `json.dumps`."""
    return dataclasses.asdict(loop) | {"measured_at": datetime.now(UTC).isoformat()}


if __name__ == "__main__":
    found = run_loop()
    (FOLDER / "loop.json").write_text(json.dumps(to_json(found), indent=1))
    print(json.dumps(to_json(found), indent=1))  # noqa: T201
