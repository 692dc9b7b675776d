"""Step 8, retrain: predict each logged outcome from rows of other clusters than its own.

What doubly robust estimates rest on. A prediction that had seen the row would follow its noise,
and the estimate would be biased towards what was chosen.

Axis legend: N = rows, M = candidates, P = inputs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.linear_model import RidgeCV

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.data.dataset import TrainingSet

NUM_FOLDS = 5
PENALTIES = tuple(np.logspace(-1, 4, 6).tolist())
MIN_OUTCOMES = 20
"""Of a candidate in the other folds; with fewer its predictions are moved by their mean error."""

PSEUDO_OUTCOMES = 5.0
"""Outcomes without error that this mean holds besides."""

NO_PRIOR = 0.5

MAX_WEIGHT = 10.0
"""A regression that counts rare outcomes fully follows single ones."""


def cross_fitted(
    rows: TrainingSet,
    inputs_NP: NDArray[np.floating],
    *,
    prior_NM: NDArray[np.floating] | None = None,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Predict the quality of every candidate on every row, (N, M), 0 to 1.

    For each candidate a ridge regression of what the prior missed, weighted by inverse propensity,
    because outcomes were logged where somebody expected them to be good. Its penalty is chosen by
    leave-one-out on the very rows that it is fitted on, so that nothing at all is seen of the fold
    left out (cross-fitting; Chernozhukov et al. 2018).

    Args:
        rows: Whose outcomes.
        inputs_NP: What to predict them from; finite, of a scale near 1.
        prior_NM: A prediction that was made without these rows, such as a router's own.
        seed: Of the folds.
    """
    observed_NM = rows.observed()
    prior = np.full(observed_NM.shape, NO_PRIOR) if prior_NM is None else prior_NM
    missed_NM = np.where(observed_NM, rows.score_NM - prior, 0.0)
    chance_NM = np.where(observed_NM, rows.propensity_NM, 1.0)
    weight_NM = np.where(observed_NM, np.minimum(1.0 / chance_NM, MAX_WEIGHT), 0.0)
    fold_N = rows.folds(NUM_FOLDS, seed)
    predicted_NM = np.array(prior, dtype=np.float64)
    for fold in range(NUM_FOLDS):
        out_N = fold_N == fold
        for m in range(observed_NM.shape[1]):
            seen_N = observed_NM[:, m] & ~out_N
            predicted_NM[out_N, m] += _predict(
                inputs_NP[seen_N], missed_NM[seen_N, m], weight_NM[seen_N, m], inputs_NP[out_N]
            )
    return np.clip(predicted_NM, 0.0, 1.0)


def _predict(
    inputs_NP: NDArray[np.floating],
    target_N: NDArray[np.float64],
    weight_N: NDArray[np.float64],
    asked_NP: NDArray[np.floating],
) -> NDArray[np.float64]:
    if len(target_N) < MIN_OUTCOMES:
        mean = target_N.sum() / (len(target_N) + PSEUDO_OUTCOMES)
        return np.full(len(asked_NP), mean)
    model = RidgeCV(alphas=PENALTIES).fit(inputs_NP, target_N, sample_weight=weight_N)
    predicted_N: NDArray[np.float64] = model.predict(asked_NP)
    return predicted_N
