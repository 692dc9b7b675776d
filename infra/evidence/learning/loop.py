"""The loop on the zoo, through HTTP alone: a cold start, exploration, three retrains.

It starts without any profile. Questions are asked of ``auto``, their answers graded and
labelled. After each third of them a retrain job is submitted, and the version that then serves
answers test questions without exploring. At the end every candidate is asked all the questions,
a router is trained on that full information too, and answers the same test questions.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from infra import services
from infra.asking import Ask, prices
from infra.evidence.entry import FOLDER as EVIDENCE
from infra.evidence.learning.system import (
    FOLDER,
    OUTCOMES,
    Stage,
    ask,
    clean,
    label,
    local_config,
    stage,
    write_config,
)
from infra.evidence.parts import figure, table
from infra.up import bring_up
from infra.zoo.questions import generate
from monitoring.log_reader import read_table

if TYPE_CHECKING:
    from infra.asking import Asked
    from infra.evidence.entry import Entry
    from infra.zoo.questions import Question

NUM_STREAM = 3000
NUM_ROUNDS = 3
NUM_TEST = 300
STREAM_SEED, TEST_SEED = 8_101, 8_102
EXPLORE_SHARE = 0.5
BUDGET_QUALITY = 600.0
"""Answers that exploring may be predicted to lose in a day. The cold start is charged as if half
of its draws were lost, since nothing is known."""

BUDGET_USD = 0.05
MAX_BEHIND_POINTS = 3.0
PICTURE = "learning-loop.png"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What exploring was predicted to cost, expected over the draws, as charged."""

    quality: float
    usd: float
    num_explored: int


def run(num_questions: int = NUM_STREAM) -> dict[str, Any]:
    """Run it on a system that this brings up; the system stays up."""
    clean()
    applications = local_config()["applications"]
    config = write_config(
        FOLDER / "loop.yaml",
        applications,
        explore_share=EXPLORE_SHARE,
        explore_daily_quality=BUDGET_QUALITY,
        explore_daily_usd=BUDGET_USD,
    )
    bring_up(config)
    stream = list(generate(num_questions, seed=STREAM_SEED))
    test = list(generate(NUM_TEST, seed=TEST_SEED))
    names = list(prices(services.HTTP_URL))
    pinned = ask([Ask(question=q, model=m) for m in names for q in test], "Test each alone")
    alone_MN = np.reshape([a.score for a in pinned], (len(names), NUM_TEST))
    stages, streamed = _rounds(stream, test)
    spent = _spent()
    every = ask([Ask(question=q, model=m) for m in names for q in stream], "Ask all everything")
    label(every)
    full = stage(test, len(streamed) + len(every), "full")
    return {
        "num_questions": num_questions,
        "alone": dict(zip(names, alone_MN.mean(axis=1).tolist(), strict=True)),
        "oracle": float(alone_MN.max(axis=0).mean()),
        "stages": [dataclasses.asdict(s) for s in stages],
        "full": dataclasses.asdict(full),
        "stream": [float(np.mean(p)) for p in np.array_split([a.score for a in streamed], 12)],
        "spent": dataclasses.asdict(spent),
    }


def _rounds(stream: list[Question], test: list[Question]) -> tuple[list[Stage], list[Asked]]:
    stages: list[Stage] = []
    streamed: list[Asked] = []
    for i, part in enumerate(np.array_split(np.arange(len(stream)), NUM_ROUNDS)):
        asks = [Ask(question=stream[n], explores=True) for n in part]
        asked = ask(asks, f"Round {i + 1}: {len(asks)} questions, exploring")
        label(asked)
        streamed += asked
        stages.append(stage(test, len(streamed), f"round-{i + 1}"))
    return stages, streamed


def _spent() -> Spent:
    columns = ("policy", "regret_quality", "regret_usd")
    rows = read_table(OUTCOMES, "outcomes", columns=columns).to_pylist()
    return Spent(
        quality=float(sum(row["regret_quality"] or 0.0 for row in rows)),
        usd=float(sum(row["regret_usd"] or 0.0 for row in rows)),
        num_explored=sum(row["policy"] == "explore" for row in rows),
    )


def lines(result: dict[str, Any]) -> list[Entry]:
    """Return the lines of C1."""
    stages, spent = result["stages"], result["spent"]
    first, last = stages[0]["quality"], stages[-1]["quality"]
    best = max(result["alone"].values())
    behind = 100 * (result["full"]["quality"] - last)
    return [
        figure(
            "C1",
            100 * (last - best),
            "points over the best single candidate after the third retrain",
            "above 0",
            holds=last > best,
        ),
        figure(
            "C1",
            100 * (last - first),
            "points that the third version is over the first",
            "above 0",
            holds=last > first,
        ),
        figure(
            "C1",
            behind,
            "points behind a router trained on full information",
            "at most 3",
            holds=behind <= MAX_BEHIND_POINTS,
        ),
        figure(
            "C1",
            spent["quality"],
            f"answers' worth of regret spent on exploring, and ${spent['usd']:.4f}",
            f"at most {BUDGET_QUALITY:g}, and ${BUDGET_USD:g}",
            holds=spent["quality"] <= BUDGET_QUALITY and spent["usd"] <= BUDGET_USD,
        ),
    ]


def section(result: dict[str, Any]) -> str:
    """Return the section, and draw its picture."""
    draw(result)
    names = list(result["alone"])
    rows = [
        (
            s["version"],
            f"{s['num_labels']:,}",
            s["promoted_by"],
            f"{s['quality']:.1%}",
            *(f"{s['shares'].get(name, 0.0):.0%}" for name in names),
        )
        for s in [*result["stages"], result["full"]]
    ]
    alone = ", ".join(f"{name} {quality:.1%}" for name, quality in result["alone"].items())
    return f"""## A cold start and three retrains

{result["num_questions"]:,} questions of the zoo were asked of `auto` and labelled by a program
that knows the answers, {EXPLORE_SHARE:.0%} of them drawn; {result["spent"]["num_explored"]:,} went
to another candidate than the greedy one. The last row was trained on every candidate's answers to
all of them besides. Each version answered the same {NUM_TEST} test questions without exploring.
Alone, on the same: {alone}; the best answer to each: {result["oracle"]:.1%}. Where the gates did
not pass, the version was promoted by hand.

{table(("version", "labels", "promoted by", "quality", *names), rows)}

![Quality over labels]({PICTURE})
"""


def draw(result: dict[str, Any]) -> None:
    """Draw quality over labels."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - takes a second

    canvas = Figure(figsize=(7, 4), layout="constrained")
    axes = canvas.subplots()
    best = max(result["alone"].values())
    at = [s["num_labels"] for s in result["stages"]]
    axes.plot(at, [s["quality"] for s in result["stages"]], "o-", label="routed, test questions")
    width = result["num_questions"] / len(result["stream"])
    axes.plot(
        [width * (i + 0.5) for i in range(len(result["stream"]))],
        result["stream"],
        ".:",
        label="the stream itself, exploring",
    )
    for value, name, style in (
        (result["oracle"], "oracle", "--"),
        (result["full"]["quality"], "full information", "-."),
        (result["stages"][0]["quality"], "first router", ":"),
        (best, "best single", "-"),
    ):
        axes.axhline(value, label=name, linestyle=style, color="grey", linewidth=1)
    axes.set(xlabel="labelled outcomes", ylabel="share of right answers")
    axes.legend(fontsize=8)
    canvas.savefig(EVIDENCE / PICTURE, dpi=110)
