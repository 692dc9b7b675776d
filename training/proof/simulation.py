"""Step 8, retrain: logs of a made-up world whose truth is known, to judge the judge by.

A query is a point x of four numbers, drawn from a standard normal. Candidate m answers it with
quality q_m(x) = σ(a_m + b_m·x + c_m sin 2x₁), which no linear model gets wholly right. A policy
takes the best available of blurred scores (1 - blur) q_m(x) + blur j_m(x), j being a surface of
the same kind that has nothing to do with q: the more blur, the worse. The champion logs, with a
share of uniform draws after the mask. A fifth of the queries are asked two to four times, and
answers to one query have half of their luck in common.

Every logged row has a label of a user; `trusted_share` of them, drawn at random, a trusted one
too. A user errs now and then; an attacker errs on purpose. Besides, the queries of a calibration
set go to every candidate, and have trusted labels alone.

Axis legend: N = rows, M = candidates, P = inputs, Q = distinct queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from router.errors import InvalidInputError
from training.data.dataset import TrainingSet
from training.fitting.policy_value import greedy

if TYPE_CHECKING:
    from numpy.typing import NDArray

NUM_INPUTS = 4
NUM_TRUTH_QUERIES = 200_000
"""Queries behind a true value: its own standard error is below 0.0006."""

_COMMON_LUCK = 0.5


class Poison(StrEnum):
    """What an attacker does to labels that are not trusted."""

    NONE = "none"
    RANDOM = "random"
    """Flips labels of rows drawn at random."""

    TARGETED = "targeted"
    """Praises the harmful challenger's choices and damns others, where a label counts most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogShape:
    """How a log comes about."""

    num_rows: int = 4000
    """Requests; 10 or more."""

    num_calibration: int = 600
    """Queries that every candidate answers besides."""

    explore_share: float = 0.2
    """Of the champion's requests; above 0."""

    masked_share: float = 0.1
    """Chance with which a candidate is away; two are always there."""

    is_graded: bool = False
    """Whether labels lie between 0 and 1 instead of being one of the two."""

    trusted_share: float = 0.05
    """Rows that have a trusted label besides the user's."""

    user_error: float = 0.03
    """Users' labels that are flipped for no reason."""

    poison: Poison = Poison.NONE
    poison_share: float = 0.05
    """Labels that the attacker flips, of all rows."""

    def __post_init__(self) -> None:
        """Refuse logs from which nothing follows."""
        if self.num_rows < 10 or not 0 < self.explore_share <= 1:  # noqa: PLR2004 - the numbers are the simulation
            raise InvalidInputError("a log needs 10 rows and some exploration", "num_rows")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimulatedLog:
    """What was logged, and what only the maker knows."""

    rows: TrainingSet
    """With the label that counts: the trusted one where there is one."""

    trusted_NM: NDArray[np.float64]
    """Trusted labels; NaN where there is none."""

    untrusted_NM: NDArray[np.float64]
    """Users' labels, poisoned or not; NaN where nobody answered."""

    quality_NM: NDArray[np.float64]
    """True expected quality."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class World:
    """Surfaces of quality, and of what has nothing to do with it."""

    true_MP: NDArray[np.float64]
    """Weights of level, inputs and wave."""

    junk_MP: NDArray[np.float64]

    @classmethod
    def make(cls, *, num_candidates: int = 4, seed: int = 0) -> World:
        """Draw a world."""
        rng = np.random.default_rng(seed)
        scale = np.array([0.5, *[1.0] * NUM_INPUTS, 0.8])
        true_MP, junk_MP = scale * rng.normal(size=(2, num_candidates, NUM_INPUTS + 2))
        return cls(true_MP=true_MP, junk_MP=junk_MP)

    def quality(self, inputs_NP: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the expected quality of each candidate, (N, M)."""
        return _surface(inputs_NP, self.true_MP)

    def scores(self, inputs_NP: NDArray[np.float64], blur: float) -> NDArray[np.float64]:
        """Return what a policy of that blur thinks, (N, M); a negative blur contradicts truth."""
        good_NM, junk_NM = self.quality(inputs_NP), _surface(inputs_NP, self.junk_MP)
        return (1 - blur) * good_NM + blur * junk_NM

    def policy(
        self, inputs_NP: NDArray[np.float64], available_NM: NDArray[np.bool_], blur: float
    ) -> NDArray[np.float64]:
        """Return the chances with which the policy of that blur chooses, 0 or 1."""
        return greedy(self.scores(inputs_NP, blur), available_NM)

    def true_value(self, blur: float, shape: LogShape) -> float:
        """Return V(π), by the expected qualities of a great many queries."""
        rng = np.random.default_rng(2**31)
        inputs_NP = rng.normal(size=(NUM_TRUTH_QUERIES, NUM_INPUTS))
        available_NM = self._available(NUM_TRUTH_QUERIES, shape, rng)
        policy_NM = self.policy(inputs_NP, available_NM, blur)
        return float((policy_NM * self.quality(inputs_NP)).sum(axis=1).mean())

    def log(
        self, shape: LogShape, *, champion_blur: float, bad_blur: float, seed: int
    ) -> SimulatedLog:
        """Draw a log of the champion's traffic.

        Args:
            shape: How.
            champion_blur: Of the policy that logged.
            bad_blur: Of the challenger that an attacker favours.
            seed: Of everything.
        """
        rng = np.random.default_rng(seed)
        num_logged, num_rows = shape.num_rows, shape.num_rows + shape.num_calibration
        query_N = _asked_again(num_rows, rng)
        inputs_NP = rng.normal(size=(int(query_N.max()) + 1, NUM_INPUTS))[query_N]
        available_NM = self._available(num_rows, shape, rng)
        quality_NM = self.quality(inputs_NP)
        label_NM = _labels(quality_NM, query_N, shape, rng)
        champion_NM = self.policy(inputs_NP, available_NM, champion_blur)
        chance_NM, chosen_NM = _draw(champion_NM, available_NM, shape, rng)
        bad_NM = self.policy(inputs_NP, available_NM, bad_blur)
        user_N = _user_labels(label_NM, bad_NM, chance_NM, chosen_NM, shape, rng)
        is_logged_N1 = (np.arange(num_rows) < num_logged)[:, None]
        has_trusted_N1 = ~is_logged_N1 | (rng.random((num_rows, 1)) < shape.trusted_share)
        chosen_NM = np.where(is_logged_N1, chosen_NM, available_NM)
        untrusted_NM = np.where(chosen_NM & is_logged_N1, user_N[:, None], np.nan)
        trusted_NM = np.where(chosen_NM & has_trusted_N1, label_NM, np.nan)
        score_NM = np.where(np.isfinite(trusted_NM), trusted_NM, untrusted_NM)
        chance_NM = np.where(is_logged_N1, chance_NM, 1.0)
        rows = _training_set(
            inputs_NP, score_NM, np.where(chosen_NM, chance_NM, np.nan), available_NM, query_N
        )
        return SimulatedLog(
            rows=rows, trusted_NM=trusted_NM, untrusted_NM=untrusted_NM, quality_NM=quality_NM
        )

    def _available(
        self, num_rows: int, shape: LogShape, rng: np.random.Generator
    ) -> NDArray[np.bool_]:
        order_NM = rng.random((num_rows, len(self.true_MP)))
        two_best_NM = order_NM.argsort(axis=1).argsort(axis=1) < 2  # noqa: PLR2004 - the numbers are the simulation
        return (order_NM >= shape.masked_share) | two_best_NM


def _surface(
    inputs_NP: NDArray[np.float64], weight_MP: NDArray[np.float64]
) -> NDArray[np.float64]:
    wave_N = np.sin(2 * inputs_NP[:, 0])
    terms_NP = np.column_stack([np.ones(len(inputs_NP)), inputs_NP, wave_N])
    return np.asarray(special.expit(terms_NP @ weight_MP.T))


def _asked_again(num_rows: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the query of each row; a fifth of the queries have two to four rows."""
    times_Q = np.where(rng.random(num_rows) < 0.2, rng.integers(2, 5, num_rows), 1)  # noqa: PLR2004 - the numbers are the simulation
    return np.repeat(np.arange(num_rows), times_Q)[:num_rows]


def _labels(
    quality_NM: NDArray[np.float64],
    query_N: NDArray[np.int64],
    shape: LogShape,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Draw labels of the given means; rows of one query share their luck half of the time."""
    luck_NM, common_NM = rng.random((2, *quality_NM.shape))
    shares_N1 = rng.random((len(query_N), 1)) < _COMMON_LUCK
    luck_NM = np.where(shares_N1, common_NM[query_N], luck_NM)
    if not shape.is_graded:
        return (luck_NM < quality_NM).astype(np.float64)
    graded_NM: NDArray[np.float64] = special.betaincinv(
        4 * quality_NM + 1e-3, 4 * (1 - quality_NM) + 1e-3, luck_NM
    )
    return graded_NM


def _draw(
    champion_NM: NDArray[np.float64],
    available_NM: NDArray[np.bool_],
    shape: LogShape,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return each candidate's chance, and who was drawn."""
    uniform_NM = available_NM / available_NM.sum(axis=1, keepdims=True)
    chance_NM = shape.explore_share * uniform_NM + (1 - shape.explore_share) * champion_NM
    # The last available one takes what rounding leaves above the sum of the chances.
    reached_NM = (rng.random((len(chance_NM), 1)) < chance_NM.cumsum(axis=1)) & available_NM
    last_N = available_NM.shape[1] - 1 - available_NM[:, ::-1].argmax(axis=1)
    drawn_N = np.where(reached_NM.any(axis=1), reached_NM.argmax(axis=1), last_N)
    return chance_NM, np.eye(available_NM.shape[1], dtype=bool)[drawn_N]


def _user_labels(
    label_NM: NDArray[np.float64],
    bad_NM: NDArray[np.float64],
    chance_NM: NDArray[np.float64],
    chosen_NM: NDArray[np.bool_],
    shape: LogShape,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Return what users say of the logged answers, an attacker among them."""
    user_N = (label_NM * chosen_NM).sum(axis=1)
    errs_N = rng.random(len(user_N)) < shape.user_error
    user_N = np.where(errs_N, 1 - user_N, user_N)
    number = round(shape.poison_share * shape.num_rows)
    if shape.poison is Poison.RANDOM:
        flipped = rng.choice(shape.num_rows, number, replace=False)
        user_N[flipped] = 1 - user_N[flipped]
    elif shape.poison is Poison.TARGETED:
        is_bad_N = (bad_NM * chosen_NM).sum(axis=1) > 0
        weight_N = 1.0 / np.where(chosen_NM, chance_NM, 0.0).sum(axis=1)
        gain_N = np.abs(is_bad_N - user_N) * np.where(is_bad_N, weight_N, 1.0)
        worst = np.argsort(-gain_N[: shape.num_rows], kind="stable")[:number]
        user_N[worst] = is_bad_N[worst]
    return user_N


def _training_set(
    inputs_NP: NDArray[np.float64],
    score_NM: NDArray[np.float64],
    propensity_NM: NDArray[np.float64],
    available_NM: NDArray[np.bool_],
    group_N: NDArray[np.int64],
) -> TrainingSet:
    return TrainingSet.of_scores(
        inputs_NP.astype(np.float32),
        tuple(f"candidate-{m}" for m in range(score_NM.shape[1])),
        score_NM.astype(np.float32),
        available_NM=available_NM,
        propensity_NM=propensity_NM,
        num_chars_N=np.full(len(score_NM), 100),
        num_images_N=(inputs_NP[:, 1] > 0).astype(np.int64),
        group_N=group_N,
    )
