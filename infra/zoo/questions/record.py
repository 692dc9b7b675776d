"""What a question is, and when a reply to it is right."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from infra.zoo.questions.canvas import Canvas


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question with its pictures and its only right answer."""

    question_id: str
    """Unique within one call of `generate`; tells task, seed and position."""
    task: str
    """Kind of question, a key of `TASKS`."""
    speciality: str
    """Which specialist is meant to be good at it: reader, charter or scene."""
    difficulty: int
    """1 (easy) to 3 (hard)."""
    text: str
    """What the user asks."""
    images: tuple[Image.Image, ...]
    """None, one or two RGB pictures of 64 x 64 pixels."""
    answer: str
    """Lower case, at most a few words."""
    neutral: bool
    """The wording is shared between tasks: only the picture tells what is asked."""
    patches: tuple[NDArray[np.int64], ...] = field(default=(), compare=False, repr=False)
    """What each 8 x 8 patch of each picture shows (`canvas.PATCH_NAMES`); for training only."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What a task draws: a question before it gets its identity."""

    text: str
    """Specific wording, never a neutral one."""
    answer: str
    """The right answer to the specific wording."""
    canvases: tuple[Canvas, ...] = ()
    """Pictures in the order asked about."""
    canonical: str | None = None
    """The right answer to a neutral wording; None where the picture alone does not tell it."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A kind of question."""

    name: str
    """Unique among all tasks."""
    speciality: str
    """reader, charter or scene."""
    share: float
    """Part of its speciality's questions, 0 to 1; shares of a speciality sum to one."""
    draw: Callable[[np.random.Generator, int], Draft]
    """Draws a fresh question of the given difficulty."""


def grade(answer: str, reply: str) -> float:
    """Return 1.0 if the reply is the answer up to case and outer white space, else 0.0."""
    return float(answer.strip().lower() == reply.strip().lower())
