"""A candidate's profile as LatentRouter published it, counted against its pool.

Axis legend: N = queries, M = candidates, P = profile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from training.benchmark.rivals.rows import candidate_means

if TYPE_CHECKING:
    from numpy.typing import NDArray


MIN_STD = 1e-6
"""Below this spread the figures of a pool are the same."""


def pool_profiles(
    score_NM: NDArray[np.float64], relative_cost_NM: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the profile of every candidate, (M, 2 + 2 M).

    Its columns: mean quality, mean cost, then by opponent the win rate (ties count half) and the
    mean difference in score, over the rows in which both were observed. Without such rows, and
    against itself, a candidate wins half and differs by nothing. A changed pool changes the
    width; `router.profile` was made for that reason.

    Args:
        score_NM: Scores of the training rows; NaN where not observed.
        relative_cost_NM: Predicted costs in the unit that the network reads.
    """
    observed_NM = np.isfinite(score_NM)
    filled_NM = np.where(observed_NM, score_NM, 0.0)
    num_candidates = score_NM.shape[1]
    win_MM = np.full((num_candidates, num_candidates), 0.5)
    difference_MM = np.zeros((num_candidates, num_candidates))
    # By opponent, because an (N, M, M) table takes 300 MB at N = 10 000 and M = 60.
    for opponent in range(num_candidates):
        both_NM = observed_NM & observed_NM[:, opponent, None]
        gap_NM = np.where(both_NM, filled_NM - filled_NM[:, opponent, None], 0.0)
        count_M = both_NM.sum(axis=0)
        divisor_M = np.maximum(count_M, 1)
        win_MM[:, opponent] += 0.5 * np.sign(gap_NM).sum(axis=0) / divisor_M
        difference_MM[:, opponent] = gap_NM.sum(axis=0) / divisor_M
    means_MP = np.column_stack([candidate_means(score_NM), relative_cost_NM.mean(axis=0)])
    return np.concatenate([means_MP, win_MM, difference_MM], axis=1)


def standardised(profile_MP: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each column in deviations over the pool; one that does not vary is 0.

    The paper names no scale. Raw figures lie so close together that at four times the learning
    rate all candidates stay alike; standardised ones learn at either rate.
    """
    std_P = profile_MP.std(axis=0)
    varies_P = std_P > MIN_STD
    scaled_MP: NDArray[np.float64] = (profile_MP - profile_MP.mean(axis=0)) / np.where(
        varies_P, std_P, 1.0
    )
    return scaled_MP * varies_P
