"""A fifth candidate, added by YAML to a pool of four: profiled, on probation, retrained.

The pool has two copies of one model at two prices, and nobody that reads charts. The fifth
does. Its share of the chart questions is measured after 128 labelled examples without a retrain,
after one retrain, and after a retrain on its answers to everything the others were asked.
"""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING, Any

import httpx

from infra import services
from infra.asking import Ask, prices
from infra.evidence.learning.system import (
    FOLDER,
    OUTCOMES,
    ask,
    clean,
    label,
    local_config,
    stage,
    write_config,
)
from infra.evidence.parts import figure, table
from infra.progress import step
from infra.up import bring_up, deploy
from infra.zoo.export import write_question_set
from infra.zoo.questions import generate

if TYPE_CHECKING:
    from infra.evidence.entry import Entry
    from infra.zoo.questions import Question

NEWCOMER = "charter"
COPIED = "scene"
NUM_CALIBRATION = 600
NUM_EXAMPLES = 128
NUM_LIVE = 2000
"""Labelled questions of live traffic between the profile and the retrain."""

NUM_TEST = 400
SEEDS = (9_201, 9_202, 9_203, 9_204)
"""Of the calibration questions, the newcomer's set, the test questions, and live traffic."""

MIN_SHARE_OF_FULL = 0.9
MODEL = "pointsman-router-newcomer"


def applications() -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the pool of four, router first, and the fifth's block."""
    blocks = {block["name"]: block for block in local_config()["applications"]}
    fifth = blocks.pop(f"candidate-{NEWCOMER}")
    second = copy.deepcopy(blocks[f"candidate-{COPIED}"])
    second["name"] = f"candidate-{COPIED}-2"
    second["args"]["id"] = f"{COPIED}-2"
    card = second["deployments"][0]["user_config"]
    card["price"] = {key: 2 * price for key, price in card["price"].items()}
    return [*blocks.values(), second], fifth


def run(num_questions: int = NUM_CALIBRATION) -> dict[str, Any]:
    """Run it on a system that this brings up; the system stays up."""
    clean()
    four, fifth = applications()
    config = write_config(FOLDER / "newcomer.yaml", four, registry_model=MODEL)
    bring_up(config)
    known = list(generate(num_questions, seed=SEEDS[0]))
    test = list(generate(NUM_TEST, seed=SEEDS[2]))
    names = list(prices(services.HTTP_URL))
    label(ask([Ask(question=q, model=m) for m in names for q in known], "Calibrate the four"))
    before = stage(test, len(names) * num_questions, "four", model=MODEL)
    write_config(config, [*four, fifth], registry_model=MODEL)
    deploy(config)
    _await_candidate()
    _profile()
    probation = _shares(test, "Test on probation")
    standing = _standing()
    live = list(generate(NUM_LIVE, seed=SEEDS[3]))
    label(ask([Ask(question=q) for q in live], "Live traffic, labelled"))
    after = stage(test, NUM_EXAMPLES, "five", model=MODEL)
    retrained = _shares(test, "Test after one retrain")
    label(ask([Ask(question=q, model=NEWCOMER) for q in known], "Ask the newcomer all"))
    full = stage(test, num_questions, "five-full", model=MODEL)
    informed = _shares(test, "Test with full information")
    return {
        "num_live": NUM_LIVE,
        "quality": {"without": before.quality, "retrained": after.quality, "full": full.quality},
        "probation": probation,
        "standing": standing,
        "retrained": retrained,
        "full": informed,
    }


def _await_candidate() -> None:
    with step("Wait for the newcomer", expected_s=90):
        deadline = time.monotonic() + 400
        while time.monotonic() < deadline:
            body = httpx.get(f"{services.HTTP_URL}/readyz", timeout=10, trust_env=False).json()
            if body.get("candidates", {}).get(NEWCOMER) == "available":
                return
            time.sleep(1.0)
    raise services.ServiceError(f"{NEWCOMER} does not serve")


def _profile() -> None:
    folder = FOLDER / "newcomer-set"
    write_question_set(folder, generate(4 * NUM_EXAMPLES, seed=SEEDS[1]))
    with step(f"Profile the newcomer on {NUM_EXAMPLES} questions", expected_s=40):
        services.run_module(
            "training.profiling",
            f"--candidate={NEWCOMER}",
            f"--set={folder}",
            f"--n={NUM_EXAMPLES}",
            f"--outcome-log={OUTCOMES}",
            f"--registry-model={MODEL}",
            f"--state={FOLDER / 'profiling.sqlite'}",
            log=FOLDER / "profiling.log",
        )
        time.sleep(8.0)  # serving looks at the registry every second


def _standing() -> dict[str, Any]:
    router = httpx.get(f"{services.HTTP_URL}/readyz", timeout=10, trust_env=False).json()["router"]
    return {"stage": router["stages"].get(NEWCOMER), "cap": router["caps"].get(NEWCOMER)}


def _shares(test: list[Question], what: str) -> dict[str, float]:
    """Return the newcomer's share of its speciality's questions, and of the others."""
    asked = ask([Ask(question=q) for q in test], what)
    own = [a for a in asked if a.ask.question.speciality == NEWCOMER]
    other = [a for a in asked if a.ask.question.speciality != NEWCOMER]
    return {
        "own": sum(a.answered_by == NEWCOMER for a in own) / len(own),
        "other": sum(a.answered_by == NEWCOMER for a in other) / len(other),
        "quality": sum(a.score for a in asked) / len(asked),
    }


def lines(result: dict[str, Any]) -> list[Entry]:
    """Return the lines of C2."""
    own, other = result["probation"]["own"], result["probation"]["other"]
    share = result["retrained"]["own"] / max(result["full"]["own"], 1e-9)
    return [
        figure(
            "C2",
            100 * own,
            f"% of its speciality to the newcomer after {NUM_EXAMPLES} examples, no retrain",
            f"above 0, and above its {other:.1%} of the rest",
            holds=own > max(other, 0.0),
        ),
        figure(
            "C2",
            100 * share,
            "% of its full-information share of its speciality after one retrain",
            "90 or more",
            holds=share >= MIN_SHARE_OF_FULL,
        ),
    ]


def section(result: dict[str, Any]) -> str:
    """Return the section."""
    rows = [
        (
            name,
            f"{result[key]['own']:.1%}",
            f"{result[key]['other']:.1%}",
            f"{result[key]['quality']:.1%}",
        )
        for name, key in (
            (f"{NUM_EXAMPLES} examples, on probation", "probation"),
            ("one retrain later", "retrained"),
            ("full information", "full"),
        )
    ]
    standing = result["standing"]
    return f"""## A fifth candidate, added by YAML

The pool of four ({COPIED} twice, at two prices) answered {result["quality"]["without"]:.1%} of
the test questions right. `{NEWCOMER}` was added as one more block and profiled by
`training.profiling`. It then stood at `{standing["stage"]}`, eligible for
{standing["cap"] or 1.0:.0%} of the queries, with the default `probation_caution`, by which it is
tried where it may be the best. {result.get("num_live", 0):,} labelled questions of
live traffic came before the retrain.

{table(("when", "share of its speciality", "share of the rest", "quality of all"), rows)}
"""
