"""Writes the model cards and the joint table from fresh samples: `python -m infra.zoo.card`."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from safetensors import safe_open

from infra.zoo.evaluate import Report, evaluate
from infra.zoo.models import RECIPES, WEIGHTS
from infra.zoo.questions import SPECIALITIES, TASKS, generate

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.zoo.questions import Question

log = logging.getLogger(__name__)

SEED: Final = 424_242
NUM_QUESTIONS: Final = 1500
ABOUT: Final = {
    "reader": "text and sums in pictures, and sums in words",
    "charter": "bar charts, counting dots, the course of lines, and comparing numbers",
    "scene": "shapes, colours and where things are",
    "generalist": "a little of everything, at a higher price a token",
}

CARD: Final = """\
---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
language: en
tags: [idefics3, tiny, pointsman-zoo]
---
# {candidate}

A tiny Idefics3 model made for Pointsman's local zoo. Meant for {about}. It was trained from
nothing on generated questions about 64 x 64 pictures and is of no use outside them.

| fact | value |
|---|---|
| parameters | {num_parameters:,} |
| weights | bfloat16, {num_bytes:,} bytes |
| towers | vision and language, {num_layers} layers each, width {hidden_size} |
| training | {steps} steps, {samples:,} samples, seed {seed}, {cpu_min:.1f} CPU-minutes |
| mixture of specialities, last round | {mixture} |
| method | answer-only loss, throw-away patch head, Muon and AdamW, bfloat16 autocast |

## Accuracy
Exact match, greedy decoding, {num_questions} fresh questions (seed {eval_seed}), n in brackets.

{accuracy}

Overall on the uniform mix: **{overall:.3f}** (n = {num_questions}). Neutral wordings:
{neutral:.3f} (n = {num_neutral}).

## Limitations
- Knows only the tasks of `infra.zoo.questions`, in English, at 64 x 64 pixels; larger pictures
  are shrunk.
- Always gives a short answer, also to questions it cannot answer: what is not its speciality it
  mostly gets wrong.
- At most two pictures a question, and one turn: conversations were never trained on. System
  messages are ignored.
- {history}
"""

TABLE: Final = """\
# The zoo
Four tiny real vision-language models and the questions they are asked, so that routing can be
tried, tested and measured on a laptop.

| file | is |
|---|---|
| `questions/` | generates questions with exact answers about 64 x 64 pictures |
| `export.py` | writes questions as Parquet and PNG: `python -m infra.zoo.export --out DIR` |
| `models.py` | sizes, tokenizer, processor and chat template of the candidates |
| `muon.py`, `train.py` | trains one candidate on one thread: `python -m infra.zoo.train reader` |
| `evaluate.py`, `card.py` | writes the model cards and this page: `python -m infra.zoo.card` |
| `vllm_plugin.py` | lets vLLM serve pictures of a single tile |
| `weights/` | the shipped candidates, one Hugging Face folder each |

## Who is good at what
Exact match, greedy decoding, on {num_questions} fresh questions (seed {eval_seed}), a uniform
mix of specialities.

{accuracy}

- Best single candidate: **{best}**, {best_accuracy:.3f}.
- Oracle (some candidate is right): **{oracle:.3f}**. What a perfect router gains: {gain:.3f}.

Difficulty 1 is easy. A neutral wording ("What is shown here?") is shared between tasks: only the
picture tells what is asked.
"""


def _training_facts(candidate: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((WEIGHTS / candidate / "training.json").read_text())
    return facts


def _num_parameters(candidate: str) -> int:
    with safe_open(WEIGHTS / candidate / "model.safetensors", framework="numpy") as weights:
        shapes = [weights.get_slice(name).get_shape() for name in weights.keys()]  # noqa: SIM118 - no dictionary
    total = 0
    for shape in shapes:
        size = 1
        for axis in shape:
            size *= axis
        total += size
    return total


def _history(candidate: str, facts: dict[str, Any]) -> str:
    """Tell how the weights came about, for who wants to build them again."""
    command = f"`python -m infra.zoo.train {candidate} --steps"
    before, last = facts["resumed_at_step"], facts["steps"] - facts["resumed_at_step"]
    if not before:
        return f"Rebuild: {command} {last} --seed {facts['seed']}`."
    return (
        f"Trained in rounds: the last was {command} {last} --seed {facts['seed']} --resume`, on\n"
        f"  the weights after {before} steps, in part on somewhat harder pictures than today's."
    )


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _by_difficulty(report: Report, candidate: str) -> str:
    """Return a table of one candidate: tasks down, difficulties across."""
    row = report.candidates.index(candidate)

    def cell(keep: Callable[[Question], bool]) -> str:
        if not any(keep(question) for question in report.questions):
            return "-"
        accuracy_M, num = report.accuracies(keep)
        return f"{accuracy_M[row]:.2f} ({num})"

    lines = [_row(["task", "speciality", "1", "2", "3", "all"]), "|---|---|---|---|---|---|"]
    for name, task in TASKS.items():
        cells = [
            cell(lambda q, n=name, d=difficulty: q.task == n and q.difficulty == d)  # type: ignore[misc]  # a default
            for difficulty in range(1, 4)
        ]
        cells.append(cell(lambda q, n=name: q.task == n))  # type: ignore[misc]  # a default
        lines.append(_row([name, task.speciality, *cells]))
    return "\n".join(lines)


def _joint(report: Report) -> str:
    """Return the table of all candidates: kinds of question down, candidates across."""
    kinds: list[tuple[str, Callable[[Question], bool]]] = [
        (f"{name} ({task.speciality})", lambda q, n=name: q.task == n)  # type: ignore[misc]  # a default
        for name, task in TASKS.items()
    ]
    kinds += [(f"all of {s}", lambda q, s=s: q.speciality == s) for s in SPECIALITIES]  # type: ignore[misc]  # a default
    kinds += [(f"difficulty {d}", lambda q, d=d: q.difficulty == d) for d in range(1, 4)]  # type: ignore[misc]  # a default
    kinds += [("neutral wording", lambda q: q.neutral), ("**all**", lambda _: True)]
    lines = [
        _row(["questions", "n", *report.candidates]),
        "|---" * (2 + len(report.candidates)) + "|",
    ]
    for name, keep in kinds:
        accuracy_M, num = report.accuracies(keep)
        lines.append(_row([name, str(num), *(f"{accuracy:.2f}" for accuracy in accuracy_M)]))
    return "\n".join(lines)


def write_card(report: Report, candidate: str) -> None:
    """Write `weights/<candidate>/README.md`."""
    facts, recipe = _training_facts(candidate), RECIPES[candidate]
    row = report.candidates.index(candidate)
    neutral_M, num_neutral = report.accuracies(lambda question: question.neutral)
    overall_M, num_questions = report.accuracies()
    card = CARD.format(
        candidate=candidate,
        about=ABOUT[candidate],
        num_parameters=_num_parameters(candidate),
        num_bytes=(WEIGHTS / candidate / "model.safetensors").stat().st_size,
        num_layers=recipe.num_layers,
        hidden_size=recipe.hidden_size,
        steps=facts["steps"],
        samples=facts["samples"],
        seed=facts["seed"],
        cpu_min=facts["cpu_s"] / 60,
        mixture=", ".join(f"{k} {v:g}" for k, v in facts["speciality_weights"].items()),
        num_questions=num_questions,
        eval_seed=SEED,
        history=_history(candidate, facts),
        accuracy=_by_difficulty(report, candidate),
        overall=overall_M[row],
        neutral=neutral_M[row],
        num_neutral=num_neutral,
    )
    (WEIGHTS / candidate / "README.md").write_text(card)


def write_table(report: Report) -> None:
    """Write the zoo's own README with the joint table."""
    best, best_accuracy = report.best_single()
    oracle = report.oracle()
    page = TABLE.format(
        num_questions=len(report.questions),
        eval_seed=SEED,
        accuracy=_joint(report),
        best=best,
        best_accuracy=best_accuracy,
        oracle=oracle,
        gain=oracle - best_accuracy,
    )
    (Path(__file__).parent / "README.md").write_text(page)


def main() -> None:
    """Evaluate all shipped candidates and write every card."""
    parser = argparse.ArgumentParser(description="Evaluate the zoo and write its model cards.")
    parser.add_argument("--num", type=int, default=NUM_QUESTIONS, help="number of questions")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    report = evaluate(list(RECIPES), list(generate(arguments.num, seed=SEED)))
    for candidate in RECIPES:
        write_card(report, candidate)
    write_table(report)
    log.info("%s\nbest %s, oracle %.3f", _joint(report), report.best_single(), report.oracle())


if __name__ == "__main__":
    main()
