"""Step 8, retrain: choose how much is believed, by rows that were left out.

Squared error of raw outcomes is mostly about queries that are hard for everybody, and a penalty
chosen by it need not suit what decides: the *difference* between candidates on one query. So the
two parts, difficulty and tokens, have a penalty each, judged by the error that it can change.

Axis legend: N = rows, R = basis functions, M = candidates.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from router.ridge import solve_ridge

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

PENALTIES = tuple(np.logspace(3.0, -2.0, 11).tolist())
"""From one that leaves a token its level alone to one that lets it follow single outcomes."""

PATIENCE = 2
"""Smaller penalties that may do worse before the search ends: it takes the error to have one
valley, because small penalties on gappy tables take many steps."""

SEARCH_FUNCTIONS = 256
"""Leading basis functions that a first look at penalties is taken with. On the published pools it
ends within one step of the search over all of them, in a third of the time."""

SEARCH_ROWS = 3000
"""Left-out rows after which a first look sees no further fold."""

LEVEL_PENALTY = 1e-3
"""Of a candidate's level while training: trained candidates have outcomes enough."""

MIN_NOISE_STD = 0.05
"""Outcomes without any error, in a set made up of equal rows, must not make a token certain."""

NUM_SWEEPS = 3
"""Alternations between difficulty and tokens from a cold start; one from a nearby penalty."""


def _alone(quality_NM: NDArray[np.float32]) -> NDArray[np.float32]:
    return quality_NM


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """Workers that share the folds, and how far they have come.

    All see the same rows and walk the same search, so that each ends with the same router.
    """

    rank: int = 0
    """Of this worker, from 0."""

    size: int = 1
    """Workers in all."""

    add_up: Callable[[NDArray[np.float32]], NDArray[np.float32]] = _alone
    """Sums an array over the workers; each gets the sum."""

    errors: dict[str, float] = field(default_factory=dict)
    """Error by stage and penalties: what a checkpoint holds. What stands here is not fitted again
    when a training that was cut off goes on."""

    on_error: Callable[[], None] = lambda: None
    """Called after each new error, by every worker alike."""


class Penalties(NamedTuple):
    """Ridge penalties, in outcomes."""

    difficulty: float
    token: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Weights:
    """A fitted difficulty with its tokens."""

    difficulty_R: NDArray[np.float32]
    token_RM: NDArray[np.float32]

    def quality(self, basis_NR: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return expected quality, (N, M)."""
        return basis_NR @ (self.token_RM + self.difficulty_R[:, None])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CrossFit:
    """Penalties, and what routers that did not see a row predict for it."""

    penalties: Penalties
    quality_NM: NDArray[np.float64]
    """Each row predicted from the other folds."""

    noise_std: float
    """Root mean squared error of those predictions where observed."""


def fit_weights(
    basis_NR: NDArray[np.float32],
    score_NM: NDArray[np.float32],
    weight_NM: NDArray[np.float32],
    penalties: Penalties,
    start: Weights | None = None,
) -> Weights:
    """Fit difficulty and tokens in turns on the entries of positive weight."""
    num_functions = basis_NR.shape[1]
    if start is None:
        token_RM = np.zeros((num_functions, score_NM.shape[1]), dtype=np.float32)
        difficulty_R = np.zeros(num_functions, dtype=np.float32)
    else:
        token_RM, difficulty_R = start.token_RM, start.difficulty_R
    total_N = weight_NM.sum(axis=1)
    known_NM = np.where(weight_NM > 0, score_NM, np.float32(0.0))
    for _ in range(NUM_SWEEPS if start is None else 1):
        missed_NM = weight_NM * (known_NM - basis_NR @ token_RM)
        target_N = missed_NM.sum(axis=1) / np.maximum(total_N, np.float32(1e-12))
        difficulty_R = solve_ridge(
            basis_NR,
            target_N[:, None],
            total_N[:, None],
            _penalty(num_functions, penalties.difficulty),
            start_RM=difficulty_R[:, None],
        )[:, 0]
        token_RM = solve_ridge(
            basis_NR,
            known_NM - (basis_NR @ difficulty_R)[:, None],
            weight_NM,
            _penalty(num_functions, penalties.token),
            start_RM=token_RM,
        )
    return Weights(difficulty_R=difficulty_R, token_RM=token_RM)


def _penalty(num_functions: int, penalty: float) -> NDArray[np.float32]:
    penalty_R = np.full(num_functions, penalty, dtype=np.float32)
    penalty_R[0] = LEVEL_PENALTY
    return penalty_R


def cross_fit(
    basis_NR: NDArray[np.float32],
    score_NM: NDArray[np.float32],
    weight_NM: NDArray[np.float32],
    fold_N: NDArray[np.int64],
    *,
    shares_penalty: bool = False,
    crew: Crew | None = None,
) -> CrossFit:
    """Choose both penalties on left-out folds.

    A first look, with few basis functions and no more folds than needed, gives the difficulty's
    penalty and where the token's lies; the token's is then chosen among its neighbours with all.
    """
    run = _Folds(basis_NR, score_NM, weight_NM, fold_N, crew=crew or Crew())
    difficulty, token = _first_look(run)
    if shares_penalty:
        token = difficulty
    else:
        token = _search(
            "token",
            [Penalties(difficulty, p) for p in PENALTIES[max(PENALTIES.index(token) - 1, 0) :]],
            run,
            run.difference_error,
            patience=1,
        ).token
    quality_NM = run.predict(Penalties(difficulty, token))
    error_NM = np.where(weight_NM > 0, quality_NM - score_NM, 0.0)
    noise = _mean_square(error_NM, weight_NM)
    return CrossFit(
        penalties=Penalties(difficulty, token),
        quality_NM=quality_NM.astype(np.float64),
        noise_std=max(noise**0.5, MIN_NOISE_STD),
    )


def _first_look(run: _Folds) -> Penalties:
    """Return the penalties of difficulty and token that suit the leading basis functions.

    Both parts share a penalty at first, and the best for the shared error is the difficulty's.
    With that one held, the token's is chosen by the error of differences.
    """
    look = run.leading(SEARCH_FUNCTIONS, SEARCH_ROWS)
    shared = [Penalties(p, p) for p in PENALTIES]
    difficulty = _search("shared", shared, look, look.shared_error).difficulty
    # The search ended at small penalties; a sweep from there does not forget them.
    look.forget()
    pairs = [Penalties(difficulty, p) for p in PENALTIES]
    return _search("look", pairs, look, look.difference_error)


def _search(
    stage: str,
    tried: Sequence[Penalties],
    folds: _Folds,
    error: Callable[[NDArray[np.float32]], float],
    *,
    patience: int = PATIENCE,
) -> Penalties:
    """Walk from the largest penalties down while the error falls; return the best ones found."""
    crew = folds.crew
    best, least, num_worse = tried[0], np.inf, 0
    for penalties in tried:
        key = f"{stage} {penalties.difficulty:g} {penalties.token:g}"
        if key not in crew.errors:
            crew.errors[key] = error(folds.predict(penalties))
            crew.on_error()
        if crew.errors[key] < least:
            best, least, num_worse = penalties, crew.errors[key], 0
        elif (num_worse := num_worse + 1) == patience:
            break
    return best


class _Folds:
    """Left-out predictions, each penalty warm from the one before."""

    def __init__(
        self,
        basis_NR: NDArray[np.float32],
        score_NM: NDArray[np.float32],
        weight_NM: NDArray[np.float32],
        fold_N: NDArray[np.int64],
        *,
        crew: Crew,
        num_rows: float = np.inf,
    ) -> None:
        """Take all folds, or the first that leave out ``num_rows`` rows together."""
        self.crew = crew
        self._basis_NR, self._weight_NM, self._fold_N = basis_NR, weight_NM, fold_N
        self._score_NM = np.where(weight_NM > 0, score_NM, np.float32(0.0))
        self._warm: dict[int, Weights] = {}
        folds, count = np.unique(fold_N, return_counts=True)
        self._left_out = folds[: int(np.searchsorted(count.cumsum(), num_rows)) + 1].tolist()
        judged_N1 = np.isin(fold_N, self._left_out)[:, None]
        self._judged_NM = np.where(judged_N1, weight_NM, np.float32(0.0))

    def leading(self, num_functions: int, num_rows: float) -> _Folds:
        """Return the same with the first basis functions and folds only."""
        basis_NR = np.ascontiguousarray(self._basis_NR[:, :num_functions])
        return _Folds(
            basis_NR,
            self._score_NM,
            self._weight_NM,
            self._fold_N,
            crew=self.crew,
            num_rows=num_rows,
        )

    def forget(self) -> None:
        """Start the next prediction from nothing."""
        self._warm.clear()

    def predict(self, penalties: Penalties) -> NDArray[np.float32]:
        """Return each left-out row's prediction by the weights of the other folds; 0 elsewhere.

        The crew's workers take the folds in turns.
        """
        quality_NM = np.zeros_like(self._score_NM)
        for fold in self._left_out[self.crew.rank :: self.crew.size]:
            out_N = self._fold_N == fold
            kept_NM = np.where(out_N[:, None], np.float32(0.0), self._weight_NM)
            warm = self._warm.get(fold)
            weights = fit_weights(self._basis_NR, self._score_NM, kept_NM, penalties, warm)
            self._warm[fold] = weights
            quality_NM[out_N] = weights.quality(self._basis_NR[out_N])
        return self.crew.add_up(quality_NM)

    def error(self, quality_NM: NDArray[np.float32]) -> float:
        """Return the mean squared error."""
        return _mean_square(quality_NM - self._score_NM, self._judged_NM)

    def shared_error(self, quality_NM: NDArray[np.float32]) -> float:
        """Return the mean squared error of each row's mean."""
        return _mean_square(self._row_mean(quality_NM)[:, None], self._judged_NM)

    def difference_error(self, quality_NM: NDArray[np.float32]) -> float:
        """Return the mean squared error about each row's mean.

        Rows with one outcome, as live traffic has them, show no difference; where most rows are
        such, the plain error decides: with the difficulty held it is the difference's plus noise.
        """
        error_NM = quality_NM - self._score_NM
        is_single_N = (self._weight_NM > 0).sum(axis=1) == 1
        if is_single_N.mean() > 0.5:  # noqa: PLR2004 - most
            return self.error(quality_NM)
        return _mean_square(error_NM - self._row_mean(quality_NM)[:, None], self._judged_NM)

    def _row_mean(self, quality_NM: NDArray[np.float32]) -> NDArray[np.float32]:
        total_N = np.maximum(self._judged_NM.sum(axis=1), 1e-12)
        missed_NM = self._judged_NM * (quality_NM - self._score_NM)
        mean_N: NDArray[np.float32] = missed_NM.sum(axis=1) / total_N
        return mean_N


def _mean_square(error_NM: NDArray[np.float32], weight_NM: NDArray[np.float32]) -> float:
    return float((weight_NM * error_NM**2).sum() / max(weight_NM.sum(), 1e-12))
