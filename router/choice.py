"""Step 5, second half: turn masked utilities into one candidate and its propensity.

Axis legend: M = candidates, in the order of the pool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from router.records import Policy

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Choice:
    """One candidate, how it came to be chosen, and how probable that was."""

    index: int
    propensity: float
    policy: Policy


def propensities(
    utilities_M: NDArray[np.float64], available_M: NDArray[np.bool_], *, explore_share: float
) -> NDArray[np.float64]:
    """Return the probability of choosing each candidate.

    Args:
        utilities_M: Utility of each candidate; finite where available.
        available_M: True where the candidate may serve this query.
        explore_share: Share of a uniform draw among the available, 0 to 1.

    Returns:
        Probabilities over M that sum to 1 and are exactly 0 where not available.

    Raises:
        ValueError: If no candidate is available.
    """
    if not available_M.any():
        raise ValueError("no available candidate")
    greedy = int(np.argmax(np.where(available_M, utilities_M, -np.inf)))
    p_M = np.where(available_M, explore_share / available_M.sum(), 0.0)
    p_M[greedy] += 1.0 - explore_share
    return np.asarray(p_M)


def choose(
    utilities_M: NDArray[np.float64],
    available_M: NDArray[np.bool_],
    *,
    explore_share: float,
    generator: np.random.Generator,
) -> Choice:
    """Draw one candidate. Called once a request; greedy when ``explore_share`` is 0.

    Raises:
        ValueError: If no candidate is available.
    """
    p_M = propensities(utilities_M, available_M, explore_share=explore_share)
    if explore_share and generator.random() < explore_share:
        index = int(generator.choice(np.flatnonzero(available_M)))
        return Choice(index, float(p_M[index]), Policy.EXPLORE)
    index = int(np.argmax(np.where(available_M, utilities_M, -np.inf)))
    return Choice(index, float(p_M[index]), Policy.GREEDY)
