"""Step 7, labels: which of several labels of one answer counts.

A source is ``class`` or ``class:name``, such as ``gold``, ``grader:anls``, ``judge:some-model``.
The order of classes decides first: a label of a class that ranks higher counts whatever came later
from below. Within a class the later label counts, so that a repeated or corrected label replaces
its predecessor. Classes that the order does not name rank below all that it does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from router.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

DEFAULT_ORDER = ("gold", "grader", "user", "judge")
"""A person who checked, a program that knows the answer, a person who did not, a model."""


class GivenLabel(NamedTuple):
    """What of a label decides whether it counts."""

    decision_id: str
    time: datetime
    source: str
    score: float


@dataclass(frozen=True, slots=True)
class LabelPrecedence:
    """Order of the classes of sources, the one that counts most first."""

    order: tuple[str, ...] = DEFAULT_ORDER

    def __post_init__(self) -> None:
        """Refuse an order that names a class twice, none, or a source instead of a class."""
        if not self.order or len(set(self.order)) != len(self.order):
            raise InvalidInputError(
                f"name each class of sources once, got {self.order}", "label_precedence"
            )
        if faults := [name for name in self.order if not name or ":" in name]:
            raise InvalidInputError(
                f"{faults} are no classes; write gold, not gold:name", "label_precedence"
            )

    @classmethod
    def parse(cls, text: str) -> LabelPrecedence:
        """Read ``gold,grader,user,judge``.

        Raises:
            InvalidInputError: If a class is named twice or none is.
        """
        return cls(tuple(name.strip() for name in text.split(",")))

    def rank(self, source: str) -> int:
        """Return the place of a source's class; lower counts more, unnamed classes come last."""
        name = source.partition(":")[0]
        return self.order.index(name) if name in self.order else len(self.order)

    def counts_over(self, new: GivenLabel, old: GivenLabel) -> bool:
        """Return whether a label replaces another of the same answer; a tie goes to ``new``."""
        new_rank, old_rank = self.rank(new.source), self.rank(old.source)
        return new_rank < old_rank or (new_rank == old_rank and new.time >= old.time)

    def choose(self, labels: Iterable[GivenLabel]) -> dict[str, float]:
        """Return the score that counts for each decision, in one pass over labels in any order."""
        chosen: dict[str, GivenLabel] = {}
        for label in labels:
            old = chosen.get(label.decision_id)
            if old is None or self.counts_over(label, old):
                chosen[label.decision_id] = label
        return {decision_id: label.score for decision_id, label in chosen.items()}
