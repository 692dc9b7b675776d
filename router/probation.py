"""Step 5, before the choice: how much of the traffic a newcomer may have, and who is one.

A newcomer is a candidate whose profile was estimated on its own, after the router was trained. It
is eligible for a share of the queries that grows with what is known of it; for the others it is
masked, by a draw whose probability is part of the propensity.

Axis legend: M = candidates, in the order of the pool; K = kinds of query.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from router.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray


MIN_CAUTION = -2.0
"""Beyond it a newcomer would be tried where it is almost certainly worse."""


class Stage(StrEnum):
    """How far a candidate of the pool has come."""

    NEW = "new"
    """Nothing is known of it; it is masked but for pinned requests."""

    PROFILING = "profiling"
    """A profile is registered, none that serves and fits the router version; masked as well."""

    PROBATION = "probation"
    """It has a capped share of the traffic."""

    FULL = "full"
    """It was trained with the router, or as much is known of it as of those."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What newcomers are held to."""

    base_share: float = 0.05
    """Share of the queries for which one of whom only the price is known is eligible; 0 to 1."""

    caution: float = 0.0
    """Least standard deviations taken off a newcomer's expected quality. Below 0 they are put on
    it, for requests that ask for no caution: it is tried where it may be the best, and learned
    of there."""

    def __post_init__(self) -> None:
        """Refuse shares and cautions outside their bounds."""
        if not 0 <= self.base_share <= 1:
            raise InvalidInputError(
                f"base_share must be 0 to 1, got {self.base_share}", "base_share"
            )
        if not MIN_CAUTION <= self.caution < inf:
            raise InvalidInputError(
                f"caution must be {MIN_CAUTION:g} or more, got {self.caution}", "caution"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Probation:
    """What one newcomer is allowed."""

    cap: float
    """Share of the queries for which it is eligible; 0 to 1."""

    caution: float
    """Least standard deviations taken off its expected quality; below 0, put on it."""


def spread(token_std_K: Sequence[float]) -> float:
    """Return the standard deviation of a profile over all kinds: the root of the mean square."""
    return float(np.sqrt(np.mean(np.square(token_std_K))))


def cap(std: float, *, prior_std: float, usual_std: float, terms: Terms) -> float:
    """Return the share of the queries for which a newcomer is eligible.

        cap = base + (1 - base) * (prior_std^2 - std^2) / (prior_std^2 - usual_std^2),  0 to 1

    The fraction is how much of what there is to learn has been learned, measured by what is known
    of those the router was trained with: 0 by price alone, 1 as they are.

    Args:
        std: `spread` of the newcomer's profile.
        prior_std: The same of a candidate without any outcome.
        usual_std: The same of those trained with the router.
        terms: Who sets the base.
    """
    if std <= usual_std:
        return 1.0
    to_learn = prior_std**2 - usual_std**2
    learned = (prior_std**2 - std**2) / to_learn if to_learn > 0 else 0.0
    return float(np.clip(terms.base_share + (1 - terms.base_share) * learned, 0.0, 1.0))


def eligible_sets(
    available_M: NDArray[np.bool_], cap_M: NDArray[np.float64]
) -> Iterator[tuple[float, NDArray[np.bool_]]]:
    """Yield the probability and the members of each set that the probation draw may leave.

    One number u, uniform in [0, 1), is drawn for all newcomers; the one of cap c is eligible where
    u < c. Each has its own share, all together have no more than the largest cap, and the sets are
    nested: there is one more of them than there are different caps, not two to their number.
    Where nobody but newcomers is available, all are eligible: a query is answered first.

    Args:
        available_M: Who may serve the query; at least one.
        cap_M: 1 for all but newcomers.
    """
    newcomer_M = available_M & (cap_M < 1.0)
    if not newcomer_M.any() or not (available_M & ~newcomer_M).any():
        yield 1.0, available_M
        return
    bounds = [0.0, *sorted({float(c) for c in cap_M[newcomer_M] if c > 0.0}), 1.0]
    for low, high in pairwise(bounds):
        yield high - low, available_M & (cap_M > low)
