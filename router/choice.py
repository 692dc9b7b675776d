"""Step 5, second half: turn masked utilities into one candidate and its propensity.

Two draws: probation, which may leave a newcomer out, and exploration, which may take another than
the best of who is left. The propensity is over both.

Axis legend: M = candidates, in the order of the pool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from router.exploration import Regret
from router.probation import eligible_sets
from router.records import Policy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from router.exploration import Stakes


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """One candidate, how it came to be chosen, and how probable that was."""

    index: int
    propensity: float
    policy: Policy
    propensities_M: NDArray[np.float64]
    """Of every candidate; sums to 1."""

    eligible_M: NDArray[np.bool_]
    """Whom the probation draw left."""

    regret: Regret
    """Expected over both draws, against the greedy choice among whom probation leaves."""


@dataclass(frozen=True, slots=True, eq=False)
class _Branch:
    """What follows if the probation draw leaves one set of candidates."""

    weight: float
    eligible_M: NDArray[np.bool_]
    greedy: int
    odds_M: NDArray[np.float64]
    share: float

    @classmethod
    def of(
        cls,
        utilities_M: NDArray[np.float64],
        eligible_M: NDArray[np.bool_],
        *,
        weight: float,
        explore_share: float,
        stakes: Stakes | None,
    ) -> _Branch:
        greedy = int(np.argmax(np.where(eligible_M, utilities_M, -np.inf)))
        if not explore_share or stakes is None:
            return cls(weight, eligible_M, greedy, eligible_M.astype(np.float64), explore_share)
        odds_M = stakes.odds(eligible_M, greedy)
        # Where the budget leaves nobody else to draw, nothing is explored.
        share = explore_share if np.count_nonzero(odds_M) > 1 else 0.0
        return cls(weight, eligible_M, greedy, odds_M, share)

    def propensities(self) -> NDArray[np.float64]:
        p_M = self.share * self.odds_M / max(self.odds_M.sum(), 1e-300)
        p_M[self.greedy] += 1.0 - self.share
        return p_M


def propensities(
    utilities_M: NDArray[np.float64],
    available_M: NDArray[np.bool_],
    *,
    explore_share: float,
    cap_M: NDArray[np.float64] | None = None,
    stakes: Stakes | None = None,
) -> NDArray[np.float64]:
    """Return the probability of choosing each candidate; see `choose` for the arguments.

    Returns:
        Probabilities over M that sum to 1 and are exactly 0 where not available.
    """
    branches = _branches(utilities_M, available_M, explore_share, cap_M, stakes)
    return _mixture(branches)


def choose(
    utilities_M: NDArray[np.float64],
    available_M: NDArray[np.bool_],
    *,
    explore_share: float,
    generator: np.random.Generator,
    cap_M: NDArray[np.float64] | None = None,
    stakes: Stakes | None = None,
) -> Choice:
    """Draw one candidate. Called once a request; greedy without newcomers and at share 0.

    Args:
        utilities_M: Utility of each candidate; finite where available.
        available_M: True where the candidate may serve this query.
        explore_share: Share of draws that explore, 0 to 1.
        generator: Draws.
        cap_M: Share of queries for which each is eligible, 1 but for newcomers; all 1 when None.
        stakes: What a draw costs and may cost; a uniform draw without any limit when None.

    Raises:
        ValueError: If no candidate is available.
    """
    branches = _branches(utilities_M, available_M, explore_share, cap_M, stakes)
    branch = branches[0]
    if len(branches) > 1:
        ends = np.cumsum([b.weight for b in branches])
        branch = branches[
            min(int(np.searchsorted(ends, generator.random(), "right")), len(ends) - 1)
        ]
    index, policy = branch.greedy, Policy.GREEDY
    if branch.share and generator.random() < branch.share:
        odds_M = branch.odds_M / branch.odds_M.sum()
        index, policy = int(generator.choice(len(odds_M), p=odds_M)), Policy.EXPLORE
    p_M = _mixture(branches)
    return Choice(
        index, float(p_M[index]), policy, p_M, branch.eligible_M, _regret(branches, stakes)
    )


def _branches(
    utilities_M: NDArray[np.float64],
    available_M: NDArray[np.bool_],
    explore_share: float,
    cap_M: NDArray[np.float64] | None,
    stakes: Stakes | None,
) -> list[_Branch]:
    if not available_M.any():
        raise ValueError("no available candidate")
    sets = [(1.0, available_M)] if cap_M is None else eligible_sets(available_M, cap_M)
    return [
        _Branch.of(
            utilities_M, eligible_M, weight=weight, explore_share=explore_share, stakes=stakes
        )
        for weight, eligible_M in sets
    ]


def _mixture(branches: list[_Branch]) -> NDArray[np.float64]:
    if len(branches) == 1:
        return branches[0].propensities()
    return np.asarray(sum(b.weight * b.propensities() for b in branches))


def _regret(branches: list[_Branch], stakes: Stakes | None) -> Regret:
    usd = quality = 0.0
    for branch in branches:
        if stakes is None or not branch.share:
            continue
        usd_M, quality_M = stakes.regrets(branch.greedy)
        p_M = branch.weight * branch.propensities()
        drawn_M = p_M > 0.0
        usd += float(p_M[drawn_M] @ usd_M[drawn_M])
        quality += float(p_M[drawn_M] @ quality_M[drawn_M])
    return Regret(usd, quality)
