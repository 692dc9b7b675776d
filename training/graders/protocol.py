"""What a grader and a judge are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from router.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Grader(Protocol):
    """Scores one reply by rule: the same reply and answer always give the same score."""

    @property
    def name(self) -> str:
        """Goes into the label's source, as ``grader:name``."""
        ...

    @property
    def version(self) -> str:
        """Raised whenever the same reply may get another score."""
        ...

    def score(self, reply: str, answer: str) -> float:
        """Return the quality of a reply, 0 to 1."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a judge says of one reply."""

    score: float
    """Quality, 0 to 1, with the judge's bias taken off where it is known."""

    raw_score: float
    """As the judge gave it, 0 to 1."""

    cost_usd: float = 0.0
    """What asking the judge cost."""


class Judge(Protocol):
    """Scores one reply by judgement; asked over the network, so it may fail and costs money."""

    @property
    def name(self) -> str:
        """Goes into the label's source, as ``judge:name``."""
        ...

    @property
    def version(self) -> str:
        """Raised whenever its instructions or its correction change."""
        ...

    async def judge(self, question: str, reply: str, answer: str | None = None) -> Verdict:
        """Return the verdict on a reply to a question, given a right answer or None."""
        ...


def best_score(grader: Grader, reply: str, answers: Sequence[str]) -> float:
    """Return the best score over several right answers.

    Raises:
        InvalidInputError: If there is no answer.
    """
    if not answers:
        raise InvalidInputError(f"{grader.name} needs at least one right answer", "answers")
    return max(grader.score(reply, answer) for answer in answers)
