"""What the evidence of learning does with a running system: ask, label, retrain, promote."""

from __future__ import annotations

import asyncio
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import yaml

from deployments.versions.registry import ACCEPT_FAILED_GATES
from infra import services
from infra.asking import Ask, Asked, ask_all, label_all, prices
from infra.progress import step

if TYPE_CHECKING:
    from pathlib import Path

    from infra.zoo.questions import Question

LOCAL = services.ROOT / "infra" / "serve" / "local.yaml"
FOLDER = services.RUN / "learning"
OUTCOMES = FOLDER / "outcomes"
MODEL = "pointsman-router-learning"
REGISTRY_API = f"{services.MLFLOW_URI}/api/2.0/mlflow"
CONCURRENCY = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A router version on the test questions, and how it was trained."""

    version: str
    num_labels: int
    """Labels that it learned from."""

    promoted_by: str
    """``gates``, or ``hand`` where a gate failed, with its reason in the registry."""

    quality: float
    shares: dict[str, float]
    """Of the test questions, by candidate."""


def write_config(path: Path, applications: list[dict[str, Any]], **args: object) -> Path:
    """Write a Serve config with these applications, the router's log and model its own.

    Args:
        path: Where.
        applications: Of the local config; the router first.
        args: Of the router application, beside those.
    """
    config = local_config()
    config["applications"] = applications
    applications[0]["args"] |= {
        "outcome_log": str(OUTCOMES),
        "registry_model": MODEL,
        "explore_state": str(FOLDER / "exploration"),
        "registry_poll_s": 1.0,
        "outcome_flush_s": 1.0,
    } | args
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def local_config() -> dict[str, Any]:
    """Return the config of the local system."""
    config: dict[str, Any] = yaml.safe_load(LOCAL.read_text())
    return config


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


def retrain(log: str, *, model: str = MODEL) -> str:
    """Submit a retrain job and return its output.

    Raises:
        ServiceError: If it fails.
    """
    time.sleep(3.0)  # the last rows leave the spool
    with step(f"Retrain ({log})", expected_s=70):
        return services.submit_job(
            "training/retrain.py",
            "--promote=auto",
            f"--outcome-log={OUTCOMES}",
            f"--registry-model={model}",
            log=FOLDER / f"{log}.log",
        )


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


def stage(test: list[Question], num_labels: int, name: str, *, model: str = MODEL) -> Stage:
    """Retrain, promote, and ask the test questions of the version that then serves."""
    before = serving_version()
    by_gates = "is champion" in retrain(name, model=model)
    if not by_gates:
        promote_challenger(model)
    version = await_version(before)
    asked = ask([Ask(question=q) for q in test], f"Test version {version}")
    names = [a.answered_by for a in asked]
    return Stage(
        version=version,
        num_labels=num_labels,
        promoted_by="gates" if by_gates else "hand",
        quality=float(np.mean([a.score for a in asked])),
        shares={name: names.count(name) / len(names) for name in sorted(set(names))},
    )


def clean() -> None:
    """Forget the log and the budget of a run before."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)


def promote_challenger(model: str) -> str:
    """Move the alias ``champion`` to the challenger, as a person who accepts its gates."""
    with httpx.Client(base_url=REGISTRY_API, timeout=30, trust_env=False) as registry:
        asked = {"name": model, "alias": "challenger"}
        found = registry.get("/registered-models/alias", params=asked).raise_for_status().json()
        version = str(found["model_version"]["version"])
        tag = {
            "name": model,
            "version": version,
            "key": ACCEPT_FAILED_GATES,
            "value": "for evidence",
        }
        registry.post("/model-versions/set-tag", json=tag).raise_for_status()
        moved = {"name": model, "alias": "champion", "version": version}
        registry.post("/registered-models/alias", json=moved).raise_for_status()
    return version
