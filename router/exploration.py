"""Step 5, exploring: whom a draw may meet, what that puts at stake, what the day has left.

A draw costs what the greedy choice would have spared: quality, USD, or both. That regret is
predicted, expected over the draw, and paid out of a budget by the day. Which budget is left is
known before the draw, so the propensity stays exact.

Axis legend: M = candidates, in the order of the pool; H = quadrature nodes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from router.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

LEAST_STD = 1e-6
"""Keeps the odds of a candidate without spread defined."""

_NODES_H, _MASS_H = np.polynomial.hermite_e.hermegauss(16)
_MASS_H = _MASS_H / _MASS_H.sum()


class Draw(StrEnum):
    """How the explored share is spread over whom the budget allows."""

    UNIFORM = "uniform"
    """Everyone alike."""

    THOMPSON = "thompson"
    """By the odds of being the best, given how little is known of each (Thompson 1933)."""


@dataclass(frozen=True, slots=True)
class Regret:
    """What a choice gives up against the greedy one."""

    usd: float = 0.0
    quality: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is negative or no number."""
        for name in ("usd", "quality"):
            if not getattr(self, name) >= 0:
                raise InvalidInputError(
                    f"{name} must be 0 or more, got {getattr(self, name)}", f"regret.{name}"
                )


UNLIMITED = Regret(math.inf, math.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploration:
    """How a server explores at this moment."""

    draw: Draw = Draw.UNIFORM
    left: Regret = UNLIMITED
    """What is left of the day's budget."""


UNBOUNDED = Exploration()
"""A uniform draw that may cost anything."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stakes:
    """What is predicted of each candidate, as far as a draw needs it; NaN where not known."""

    quality_M: NDArray[np.float64]
    quality_std_M: NDArray[np.float64]
    cost_usd_M: NDArray[np.float64]
    mean_utility_M: NDArray[np.float64]
    """Utility without caution: a draw looks for what could be, caution for what is safe."""

    exploration: Exploration = UNBOUNDED

    def regrets(self, greedy: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return each candidate's regret against one of them, in USD and in quality; 0 or more."""
        usd_M = np.maximum(self.cost_usd_M - self.cost_usd_M[greedy], 0.0)
        quality_M = np.maximum(self.quality_M[greedy] - self.quality_M, 0.0)
        return usd_M, quality_M

    def odds(self, eligible_M: NDArray[np.bool_], greedy: int) -> NDArray[np.float64]:
        """Return how probable each candidate is once it is decided to explore, unnormalised.

        A candidate whose regret, were it drawn, would overrun what is left, has no chance. The
        greedy one has no regret and always a chance.
        """
        usd_M, quality_M = self.regrets(greedy)
        left = self.exploration.left
        drawable_M = eligible_M & (usd_M <= left.usd) & (quality_M <= left.quality)
        if self.exploration.draw is Draw.UNIFORM:
            return drawable_M.astype(np.float64)
        return odds_of_best(self.mean_utility_M, self.quality_std_M, drawable_M)


def odds_of_best(
    utility_M: NDArray[np.float64], std_M: NDArray[np.float64], drawable_M: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the probability that each candidate's true utility is the greatest.

    P(m) = E_z prod_{j != m} Phi((u_m + s_m z - u_j) / s_j) for independent normals, by
    Gauss-Hermite quadrature. A draw is made from these very numbers, so their small error makes no
    propensity wrong. 0 where not drawable.
    """
    odds_M = np.zeros(len(utility_M))
    index = np.flatnonzero(drawable_M)
    mean_m, std_m = utility_M[index], np.maximum(std_M[index], LEAST_STD)
    drawn_mH = mean_m[:, None] + std_m[:, None] * _NODES_H
    below_mHm = _below((drawn_mH[:, :, None] - mean_m) / std_m)
    own = np.arange(len(index))
    below_mHm[own, :, own] = 1.0
    odds_M[index] = below_mHm.prod(axis=2) @ _MASS_H
    return odds_M


def _below(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the standard normal distribution function, within 2e-4 (Page 1977).

    scipy's would add half a second to the start of every process that decides.
    """
    z = np.clip(z, -6.0, 6.0)
    return np.asarray(1.0 / (1.0 + np.exp(-1.5976 * z - 0.07056 * z**3)))


class ExplorationBudget:
    """What one replica may spend on exploring in a day of UTC.

    Charged with the regret expected over the draw, before the draw and whoever is drawn: what is
    left then depends on no luck, and over a day the sum of what is drawn is the same on average.

    Args:
        daily: For all replicas together.
        num_replicas: Among whom it is divided.
    """

    def __init__(self, daily: Regret, *, num_replicas: int = 1) -> None:
        """Start with nothing spent."""
        if num_replicas < 1:
            raise InvalidInputError(
                f"num_replicas must be 1 or more, got {num_replicas}", "num_replicas"
            )
        self._daily = Regret(daily.usd / num_replicas, daily.quality / num_replicas)
        self._spent = Regret()
        self._day = date.min

    @property
    def spent(self) -> Regret:
        """What the last day with a look or a charge has spent."""
        return self._spent

    def left(self, now: datetime) -> Regret:
        """Return what this replica may still spend today."""
        self._turn(now)
        return Regret(
            max(self._daily.usd - self._spent.usd, 0.0),
            max(self._daily.quality - self._spent.quality, 0.0),
        )

    def charge(self, regret: Regret, now: datetime) -> None:
        """Spend; called once a decision, with what the decision says.

        Raises:
            ValueError: If it is more than what is left.
        """
        left = self.left(now)
        rounding = 1e-9
        if regret.usd > left.usd + rounding or regret.quality > left.quality + rounding:
            raise ValueError(f"{regret} is more than what is left, {left}")
        self._spent = Regret(
            min(self._spent.usd + regret.usd, self._daily.usd),
            min(self._spent.quality + regret.quality, self._daily.quality),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the state, which a replica that takes over restores."""
        return {
            "day": self._day.isoformat(),
            "usd": self._spent.usd,
            "quality": self._spent.quality,
        }

    def restore(self, record: Mapping[str, Any]) -> None:
        """Take over what another replica spent.

        Raises:
            InvalidInputError: If the record is none of `to_json`; nothing is taken over.
        """
        try:
            day = date.fromisoformat(record["day"])
            spent = Regret(float(record["usd"]), float(record["quality"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInputError(
                f"the state of the exploration budget cannot be read: {error}; delete it to start "
                "a new day's budget",
                "exploration_state",
            ) from error
        self._day, self._spent = day, spent

    def _turn(self, now: datetime) -> None:
        """Begin a new day. A clock that was set back does not begin one."""
        today = now.astimezone(UTC).date()
        if today > self._day:
            self._day, self._spent = today, Regret()
