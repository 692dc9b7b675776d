"""One running system for all end-to-end tests: real Ray, vLLM and MLflow.

Where `make up` or `make demo` left a system running it is used as it is; else a smaller one, with
two candidates, is brought up here and stopped at the end.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path  # noqa: TC003 - the dataclass keeps it

import httpx
import pytest
import yaml

from infra import services
from infra.up import bring_up
from infra.zoo.questions import generate

LOCAL = services.ROOT / "infra" / "serve" / "local.yaml"
KEPT = ("router", "candidate-reader", "candidate-scene")


@dataclasses.dataclass(frozen=True)
class System:
    """Where the running system is and what it was deployed from."""

    url: str
    config: Path


@pytest.fixture(scope="session")
def system():
    """A system that answers questions."""
    if services.is_running("ray"):
        httpx.get(f"{services.HTTP_URL}/readyz", timeout=10, trust_env=False).raise_for_status()
        yield System(services.HTTP_URL, LOCAL)
        return
    config = yaml.safe_load(LOCAL.read_text())
    config["applications"] = [a for a in config["applications"] if a["name"] in KEPT]
    outcomes = services.RUN / "test-outcomes"
    shutil.rmtree(outcomes, ignore_errors=True)
    config["applications"][0]["args"] |= {
        "default_candidate": "reader",
        "outcome_log": str(outcomes),
        "outcome_flush_s": 0.5,
        "registry_model": "pointsman-router-of-tests",
        "registry_poll_s": 1.0,
    }
    services.RUN.mkdir(exist_ok=True)
    path = services.RUN / "test.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    try:
        bring_up(path)
        yield System(services.HTTP_URL, path)
    finally:
        services.stop("ray")
        services.stop("mlflow")


@pytest.fixture(scope="session")
def number_question():
    """A question about the number in a picture."""
    return next(generate(1, seed=11, tasks=["number"]))
