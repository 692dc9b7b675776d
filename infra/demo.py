"""The main job, from nothing to a result table: ``python -m infra.demo`` (``make demo``).

Brings the system up, lets every candidate answer calibration questions through it, trains and
registers the first router, and routes fresh questions over HTTP. The system stays up.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from infra import services
from infra.asking import Ask, Asked, ask_all, prices
from infra.demo_result import DemoResult
from infra.memory import MemoryPeak
from infra.policies import Comparison
from infra.progress import step
from infra.provenance import commit
from infra.report import frontier_picture, print_memory, print_table
from infra.serve_config import ConfigError
from infra.up import bring_up, print_addresses
from infra.zoo.export import write_question_set
from infra.zoo.questions import generate
from training.calibration import calibrate, read_questions

NUM_CALIBRATION = 600
CALIBRATION_SEED = 7
NUM_FRESH = 400
FRESH_SEED = 20_261
COST_WEIGHTS = (0.0, 0.05, 0.15, 0.4, 1.0)
CONFIG = Path("infra/serve/local.yaml")
FOLDER = services.RUN / "demo"


def calibrate_candidates() -> None:
    """Ask every candidate the calibration questions through the running system."""
    folder = FOLDER / "calibration"
    write_question_set(folder, generate(NUM_CALIBRATION, seed=CALIBRATION_SEED))
    questions = list(read_questions(folder))
    candidate_ids = list(prices(services.HTTP_URL))
    num_asks = len(questions) * len(candidate_ids)
    with step(f"Profile {len(candidate_ids)} candidates", expected_s=num_asks / 30) as current:

        def on_reply(num_replies: int) -> None:
            current.detail = f"{num_replies} of {num_asks} answers"

        asyncio.run(calibrate(questions, candidate_ids, url=services.HTTP_URL, on_reply=on_reply))
        # The log is written in segments; what was asked last is on disk after the next one.
        _await_log(num_asks)


def train_router() -> str:
    """Submit the retrain job and wait until its version serves; return the version.

    Raises:
        ServiceError: If the job fails, or serving does not take the version up.
    """
    before = router_version()
    with step("Train and register the router", expected_s=70) as current:
        current.detail = "ray job submit -- python training/retrain.py"
        log = FOLDER / "retrain.log"
        services.submit_job("training/retrain.py", "--promote=auto", log=log)
        current.detail = "waiting for serving to take it up"
        deadline = time.monotonic() + 60
        while (version := router_version()) in (None, before):
            if time.monotonic() > deadline:
                raise services.ServiceError(f"serving did not take the router up; see {log}")
            time.sleep(0.5)
        current.detail = f"version {version} serves"
        return version


def router_version() -> str | None:
    """Return the router version that serves."""
    body = httpx.get(f"{services.HTTP_URL}/readyz", timeout=10, trust_env=False).json()
    version: str | None = body["router"].get("router_version")
    return version


def route_fresh_questions() -> tuple[Comparison, list[tuple[float, float, float]]]:
    """Ask fresh questions of ``auto`` and of every candidate, and sweep the cost weight."""
    questions = list(generate(NUM_FRESH, seed=FRESH_SEED))
    price_of = prices(services.HTTP_URL)
    asks = [Ask(question=q, cost_weight=0.0) for q in questions]
    asks += [Ask(question=q, model=name) for name in price_of for q in questions]
    asks += [Ask(question=q, cost_weight=w) for w in COST_WEIGHTS[1:] for q in questions]
    with step(f"Route {NUM_FRESH} fresh questions", expected_s=len(asks) / 30) as current:

        def on_answer(num_answers: int) -> None:
            current.detail = f"{num_answers} of {len(asks)} answers"

        asked = asyncio.run(
            ask_all(asks, url=services.HTTP_URL, price_of=price_of, on_answer=on_answer)
        )
    parts = [asked[i : i + NUM_FRESH] for i in range(0, len(asked), NUM_FRESH)]
    auto, alone, sweep = parts[0], parts[1 : 1 + len(price_of)], parts[1 + len(price_of) :]
    comparison = Comparison.of(auto, dict(zip(price_of, alone, strict=True)))
    curve = [_point(w, part) for w, part in zip(COST_WEIGHTS, [auto, *sweep], strict=True)]
    return comparison, curve


def _point(cost_weight: float, asked: list[Asked]) -> tuple[float, float, float]:
    num = len(asked)
    return cost_weight, sum(a.cost_usd for a in asked) / num, sum(a.score for a in asked) / num


def _await_log(num_rows: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        body: dict[str, Any] = httpx.get(
            f"{services.HTTP_URL}/readyz", timeout=10, trust_env=False
        ).json()
        written = body["outcomes"]
        if min(written["written"], written["labels_written"]) >= num_rows:
            return
        time.sleep(0.5)
    raise services.ServiceError("the outcome log did not take all rows within a minute")


def run_demo() -> DemoResult:
    """Run the main job and return what it came to.

    Raises:
        ServiceError: If a part of the system does not come up.
    """
    started_s = time.monotonic()
    FOLDER.mkdir(parents=True, exist_ok=True)
    with MemoryPeak() as memory:
        bring_up(CONFIG)
        calibrate_candidates()
        train_router()
        comparison, curve = route_fresh_questions()
    return DemoResult(
        commit=commit(),
        elapsed_s=time.monotonic() - started_s,
        peak_memory_mb=memory.total_mb,
        memory_by_kind=memory.by_kind,
        num_questions=NUM_FRESH,
        rows=comparison.rows(),
        gain=comparison.gain_interval(),
        curve=curve,
    )


def main(
    since: Annotated[
        float | None, typer.Option(help="Unix time at which the command began, set-up included.")
    ] = None,
) -> None:
    """Run the main job and print its result table."""
    print("The main job takes about eight minutes on two cores.\n")
    try:
        result = run_demo()
    except (ConfigError, services.ServiceError) as error:
        print(f"\n{error}\n`make down` cleans up.", file=sys.stderr)
        raise SystemExit(1) from None
    total_s = result.elapsed_s if since is None else time.time() - since  # noqa: TID251 - the Makefile took the wall clock
    (FOLDER / "result.json").write_text(
        json.dumps(asdict(result) | {"total_s": total_s}, indent=1)
    )
    frontier_picture(result, FOLDER / "frontier.png")
    print_memory(result)
    print_table(result)
    print(f"\n  {total_s:.0f} s in all; picture: .run/demo/frontier.png\n")
    print_addresses()


if __name__ == "__main__":
    typer.run(main)
