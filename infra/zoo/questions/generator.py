"""Mixes the tasks of all specialities into one stream of questions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from infra.zoo.questions import wordings
from infra.zoo.questions.charter import CHARTER_TASKS
from infra.zoo.questions.reader import READER_TASKS
from infra.zoo.questions.record import Question, Task
from infra.zoo.questions.scene import SCENE_TASKS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SPECIALITIES: Final = ("reader", "charter", "scene")
TASKS: Final[dict[str, Task]] = {
    task.name: task for task in (*READER_TASKS, *CHARTER_TASKS, *SCENE_TASKS)
}
NUM_DIFFICULTIES: Final = 3
NEUTRAL_SHARE: Final = 0.45
"""Of questions whose picture alone tells what is asked; a third of all questions."""


def generate(
    num_questions: int,
    *,
    seed: int,
    tasks: Sequence[str] | None = None,
    speciality_weights: Mapping[str, float] | None = None,
    task_weights: Mapping[str, float] | None = None,
) -> Iterator[Question]:
    """Yield questions, the same ones for the same arguments.

    Args:
        num_questions: How many to yield.
        seed: Of the generator that draws everything.
        tasks: Restrict to these names of `TASKS`, each keeping its share; all by default.
        speciality_weights: Relative weight of each speciality, positive; equal by default.
        task_weights: Factor on the share of each task named, positive; 1 by default.

    Yields:
        Questions whose difficulty is uniform over 1..3.

    Raises:
        ValueError: If a task is unknown or none is left.
    """
    names = list(TASKS if tasks is None else tasks)
    unknown = set(names) - TASKS.keys()
    if unknown or not names:
        raise ValueError(f"tasks must be some of {sorted(TASKS)}, got {names}")
    chosen = [TASKS[name] for name in names]
    factors = task_weights or {}
    weights = speciality_weights or dict.fromkeys(SPECIALITIES, 1.0)
    chances = np.array(
        [task.share * weights[task.speciality] * factors.get(task.name, 1.0) for task in chosen]
    )
    edges = np.cumsum(chances / chances.sum())
    rng = np.random.default_rng(seed)
    for index in range(num_questions):
        task = chosen[min(int(np.searchsorted(edges, rng.random())), len(chosen) - 1)]
        difficulty = int(rng.integers(1, NUM_DIFFICULTIES + 1))
        yield _question(task, rng, difficulty, f"{task.name}-{seed}-{index:06d}")


def _question(task: Task, rng: np.random.Generator, difficulty: int, question_id: str) -> Question:
    draft = task.draw(rng, difficulty)
    neutral = draft.canonical is not None and rng.random() < NEUTRAL_SHARE
    return Question(
        question_id=question_id,
        task=task.name,
        speciality=task.speciality,
        difficulty=difficulty,
        text=str(rng.choice(wordings.NEUTRAL)) if neutral else draft.text,
        images=tuple(canvas.image() for canvas in draft.canvases),
        answer=draft.canonical if neutral and draft.canonical else draft.answer,
        neutral=neutral,
        patches=tuple(canvas.patches for canvas in draft.canvases),
    )
