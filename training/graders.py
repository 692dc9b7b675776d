"""Graders: from a reply and the right answer to a quality score, 0 to 1."""

from __future__ import annotations

from typing import Protocol


class Grader(Protocol):
    """Scores one reply."""

    name: str
    """Goes into the label as its source."""

    version: str
    """Raised whenever the same reply may get another score."""

    def score(self, reply: str, answer: str) -> float:
        """Return the quality of a reply, 0 to 1."""
        ...


class ExactMatch:
    """One if reply and answer are the same words, case, space and a final full stop aside."""

    name = "exact_match"
    version = "1"

    def score(self, reply: str, answer: str) -> float:
        """Return 1 or 0."""
        return float(_normal(reply) == _normal(answer))


def _normal(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(".").rstrip()
