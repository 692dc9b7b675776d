"""ANLS: average normalised Levenshtein similarity, the measure of document questions.

Biten et al. 2019, Scene Text Visual Question Answering, equation 1: a reading error of a few
letters costs a little, another word costs all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from router.errors import InvalidInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Anls:
    """``1 - distance / longer length``, and 0 where the distance reaches the threshold."""

    name: ClassVar[str] = "anls"
    version: ClassVar[str] = "1"

    threshold: float = 0.5
    """Normalised distance from which on a reply is worth nothing; above 0, at most 1."""

    def __post_init__(self) -> None:
        """Refuse a threshold that scores nothing, or everything."""
        if not 0 < self.threshold <= 1:
            raise InvalidInputError(
                f"threshold must be above 0 and at most 1, got {self.threshold}", "threshold"
            )

    def score(self, reply: str, answer: str) -> float:
        """Return 0, or 1 less the normalised distance; case and spacing do not count."""
        one, other = (" ".join(text.lower().split()) for text in (reply, answer))
        longer = max(len(one), len(other))
        if longer == 0:
            return 1.0
        # The lengths alone bound the distance from below: a long reply costs no comparison.
        if abs(len(one) - len(other)) >= self.threshold * longer:
            return 0.0
        distance = levenshtein(one, other) / longer
        return 1.0 - distance if distance < self.threshold else 0.0


def levenshtein(one: str, other: str) -> int:
    """Return the fewest insertions, deletions and substitutions that make one text the other.

    Bit-parallel, a column of the dynamic program in one integer: Hyyrö 2003, A bit-vector
    algorithm for computing Levenshtein and Damerau edit distances, figure 3.
    """
    if not one:
        return len(other)
    places: dict[str, int] = {}
    for place, letter in enumerate(one):
        places[letter] = places.get(letter, 0) | 1 << place
    all_ones, last = (1 << len(one)) - 1, 1 << (len(one) - 1)
    plus, minus, distance = all_ones, 0, len(one)
    for letter in other:
        matches = places.get(letter, 0)
        diagonal = (((matches & plus) + plus) ^ plus) | matches | minus
        up, down = minus | ~(diagonal | plus) & all_ones, plus & diagonal
        distance += bool(up & last) - bool(down & last)
        up, down = up << 1 | 1, down << 1
        plus, minus = (down | ~(diagonal | up)) & all_ones, up & diagonal & all_ones
    return distance
