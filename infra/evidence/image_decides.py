"""Does the image decide? Swap the pictures of neutrally worded questions and watch the answers.

A neutral wording ("What is the answer?") fits every picture of the zoo's neutral tasks, so the
wording of one question over the picture of another is again a question, and its right answer is
the other's. Where the picture decides, answer and route follow it.
"""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from infra import services
from infra.asking import Ask, Asked, ask_all, prices
from infra.progress import step
from infra.zoo.questions import generate, grade

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.zoo.questions import Question

NUM_NEUTRAL = 200
SEED = 31_337


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapResult:
    """Shares over the swapped questions, and accuracy on the neutral ones."""

    num_swapped: int
    answers_follow: float
    """Right for the picture that was swapped in."""

    answers_stay: float
    """Right for the picture that was taken away, though wrong for the one shown."""

    routes_follow: float
    """Went where the picture's own question goes, where the two own questions differ."""

    routes_stay: float
    """Went where the wording's own question goes, likewise."""

    num_differing: int
    """Swaps whose two own questions go to different candidates."""

    auto_quality: float
    best_single: str
    best_single_quality: float
    oracle_quality: float


def neutral_questions() -> list[Question]:
    """Return one-picture questions whose wording tells nothing of the task."""
    found = (q for q in generate(NUM_NEUTRAL * 6, seed=SEED) if q.neutral and len(q.images) == 1)
    return [question for question, _ in zip(found, range(NUM_NEUTRAL), strict=False)]


def swap(questions: Sequence[Question]) -> list[tuple[int, int, Question]]:
    """Return (wording, picture, question) with pictures drawn from another speciality."""
    rng = np.random.default_rng(SEED)
    swapped = []
    for i, question in enumerate(questions):
        others = [j for j, q in enumerate(questions) if q.speciality != question.speciality]
        j = int(rng.choice(others))
        mixed = dataclasses.replace(
            question, images=questions[j].images, answer=questions[j].answer
        )
        swapped.append((i, j, mixed))
    return swapped


def measure() -> SwapResult:
    """Ask originals of everyone and swaps of ``auto``, through HTTP."""
    questions = neutral_questions()
    swaps = swap(questions)
    price_of = prices(services.HTTP_URL)
    asks = [Ask(question=q) for q in questions]
    asks += [Ask(question=mixed) for _, _, mixed in swaps]
    asks += [Ask(question=q, model=name) for name in price_of for q in questions]
    with step("Swap the pictures", expected_s=len(asks) / 30):
        asked = asyncio.run(ask_all(asks, url=services.HTTP_URL, price_of=price_of))
    num = len(questions)
    own, moved, alone = asked[:num], asked[num : 2 * num], asked[2 * num :]
    score_NM = np.array([a.score for a in alone]).reshape(len(price_of), num).T
    best = int(score_NM.mean(axis=0).argmax())
    differing = [
        k for k, (i, j, _) in enumerate(swaps) if own[i].answered_by != own[j].answered_by
    ]
    return SwapResult(
        num_swapped=num,
        answers_follow=float(np.mean([a.score for a in moved])),
        answers_stay=float(
            np.mean(
                [
                    (1.0 - a.score) * grade(questions[i].answer, a.reply)
                    for (i, _, _), a in zip(swaps, moved, strict=True)
                ]
            )
        ),
        routes_follow=_share(moved, differing, [own[j].answered_by for _, j, _ in swaps]),
        routes_stay=_share(moved, differing, [own[i].answered_by for i, _, _ in swaps]),
        num_differing=len(differing),
        auto_quality=float(np.mean([a.score for a in own])),
        best_single=list(price_of)[best],
        best_single_quality=float(score_NM[:, best].mean()),
        oracle_quality=float(score_NM.max(axis=1).mean()),
    )


def _share(moved: Sequence[Asked], rows: Sequence[int], expected: Sequence[str]) -> float:
    """Return how often the swapped questions of these rows went where expected."""
    return float(np.mean([moved[k].answered_by == expected[k] for k in rows]))
