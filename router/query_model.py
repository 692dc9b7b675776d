"""Step 3, scores: what a router knows of queries, whoever answers them.

    quality of m for x = difficulty(x) + token_m · basis(x)

Difficulty is what all candidates share. A capability token is what one candidate adds: its level
(the constant's weight) and where it does better or worse than that. Tokens are ridge estimates,
each from its own candidate's outcomes, so one more or one less candidate moves no other score.

Axis legend: N = queries, K = kinds, R = basis functions, the constant first.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from router.errors import ArtifactError, InvalidInputError
from router.ridge import solve_ridge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from router.anchors import Anchors
    from router.candidate import Price

FEW_OUTCOMES = 48.0
"""Outcomes at which a newcomer's token is held back by twice the penalty of one well known. A
token that learns from 8 to 32 outcomes at the full rate is worse than none: it left 122 to 89 % of
the regret of doing without the candidate on three published pools, held back 98 to 76 %."""

REFERENCE_INPUT_TOKENS = 500.0
REFERENCE_OUTPUT_TOKENS = 200.0
"""The call whose cost stands for a candidate's expense where nothing else is known of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelPrior:
    """What a price says of a candidate's level before any outcome."""

    mean: float = 0.0
    """Level of a candidate of mean price, relative to the difficulty; -1 to 1."""

    per_decade: float = 0.0
    """Level gained where the price is ten times as high; -1 to 1."""

    centre: float = -3.0
    """Mean log10 of the reference call's cost in USD."""

    std: float = 0.15
    """Spread of levels about this line; above 0, at most 1."""

    def __post_init__(self) -> None:
        """Refuse what no pool can give."""
        bounds = (("mean", -1.0, 1.0), ("per_decade", -1.0, 1.0), ("std", 1e-3, 1.0))
        for name, low, high in bounds:
            if not low <= getattr(self, name) <= high:
                raise InvalidInputError(
                    f"{name} must be {low} to {high}, got {getattr(self, name)}", name
                )

    def level(self, price: Price | None) -> float:
        """Return the expected level of a candidate of this price."""
        if price is None or (cost_usd := reference_cost_usd(price)) <= 0:
            return self.mean
        return self.mean + self.per_decade * (math.log10(cost_usd) - self.centre)


def reference_cost_usd(price: Price) -> float:
    """Return what the reference call costs in USD."""
    return price.cost_usd(REFERENCE_INPUT_TOKENS, REFERENCE_OUTPUT_TOKENS)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QueryModel:
    """Anchors, difficulty, and how tokens are estimated."""

    anchors: Anchors
    """Whom queries are compared with."""

    difficulty_R: NDArray[np.float32]
    """Weights of the quality that all candidates share."""

    energy_KR: NDArray[np.float32]
    """Mean square of each basis function among the queries of each kind; 0 or more."""

    token_penalty: float
    """Ridge penalty of a token but for its level, in outcomes; above 0."""

    noise_std: float
    """Spread of single outcomes about their expectation; above 0."""

    level_prior: LevelPrior
    """Where a candidate's level is looked for first."""

    def __post_init__(self) -> None:
        """Refuse parts that do not fit each other."""
        num_functions = self.anchors.num_functions
        if (
            self.difficulty_R.shape != (num_functions,)
            or self.energy_KR.shape[1:] != (num_functions,)
            or not (self.token_penalty > 0 and self.noise_std > 0)
        ):
            raise InvalidInputError(
                f"difficulty {self.difficulty_R.shape}, energy {self.energy_KR.shape} and "
                f"{num_functions} basis functions do not fit each other",
                "query_model",
            )

    def penalties(self) -> NDArray[np.float32]:
        """The ridge penalty of each weight of a token, in outcomes."""
        penalty_R = np.full(len(self.difficulty_R), self.token_penalty, dtype=np.float32)
        penalty_R[0] = (self.noise_std / self.level_prior.std) ** 2
        return penalty_R

    def prior_token(self, price: Price | None) -> NDArray[np.float32]:
        """Return the token of a candidate of whom only the price is known."""
        token_R = np.zeros_like(self.difficulty_R)
        token_R[0] = self.level_prior.level(price)
        return token_R

    def estimate_token(
        self,
        basis_NR: NDArray[np.float32],
        score_N: NDArray[np.float32],
        weight_N: NDArray[np.float32],
        price: Price | None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return a candidate's token, and its standard deviation by kind of query, (R,), (K,).

        The posterior mode under a normal prior about `prior_token`, with the others' difficulty
        held fixed, and all but the level held back while outcomes are few. The deviation takes the
        outcomes' covariance as diagonal: on a basis of principal components it is, but for where
        a candidate was not asked. It tells what more outcomes would teach, not how far one answer
        may stray.

        Args:
            basis_NR: Of the queries it answered; may be empty.
            score_N: Quality labels.
            weight_N: Inverse propensities on the scale of counts.
            price: Its price, where known.
        """
        prior_R = self.prior_token(price)
        missed_N = score_N - basis_NR @ (self.difficulty_R + prior_R)
        penalty_R = self.penalties()
        held_R = penalty_R.copy()
        held_R[1:] *= 1.0 + (FEW_OUTCOMES / max(float(weight_N.sum()), 1.0)) ** 2
        step_R1 = solve_ridge(basis_NR, missed_N[:, None], weight_N[:, None], held_R)
        information_R = weight_N @ np.square(basis_NR) + penalty_R
        variance_K = self.noise_std**2 * (self.energy_KR / information_R).sum(axis=1)
        return prior_R + step_R1[:, 0], np.sqrt(variance_K)

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return what `from_arrays` needs, ready for safetensors."""
        prior = dataclasses.astuple(self.level_prior)
        return {
            "difficulty_R": self.difficulty_R,
            "energy_KR": self.energy_KR,
            "settings_6": np.array([self.token_penalty, self.noise_std, *prior]),
        }

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[np.generic]], anchors: Anchors
    ) -> QueryModel:
        """Rebuild a model from `to_arrays`.

        Raises:
            ArtifactError: If an array is missing, of the wrong shape, or out of its bounds.
        """
        try:
            penalty, noise_std, mean, per_decade, centre, std = (
                arrays["settings_6"].astype(np.float64).tolist()
            )
            return cls(
                anchors=anchors,
                difficulty_R=arrays["difficulty_R"].astype(np.float32),
                energy_KR=arrays["energy_KR"].astype(np.float32),
                token_penalty=penalty,
                noise_std=noise_std,
                level_prior=LevelPrior(mean=mean, per_decade=per_decade, centre=centre, std=std),
            )
        except (KeyError, ValueError) as error:
            raise ArtifactError(f"the query model cannot be used: {error}") from error
