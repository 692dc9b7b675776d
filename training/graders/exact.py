"""Exact match: the same words or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class ExactMatch:
    """One if reply and answer are the same words, case, space and a final full stop aside."""

    name: ClassVar[str] = "exact_match"
    version: ClassVar[str] = "1"

    def score(self, reply: str, answer: str) -> float:
        """Return 1 or 0."""
        return float(normal(reply) == normal(answer))


def normal(text: str) -> str:
    """Return a text in lower case, with single spaces and without a final full stop."""
    return " ".join(text.lower().split()).rstrip(".").rstrip()
