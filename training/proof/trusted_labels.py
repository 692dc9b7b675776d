"""Step 8, retrain: what labels that nobody can tamper with say of a difference.

Most labels come from users and judges, who err, and whom an attacker may be. The best trusted
evidence is a calibration set: every candidate answers, a program that knows the answer grades.
Where there are enough such rows, they alone decide: a logged row with a trusted label adds an
inverse propensity's noise, and a dozen of them can decide for all.

Without a calibration set, a few logged answers, drawn without a look at them, have a trusted
label too. What users say of *all* rows, corrected by what trusted labels say of *those*, is right
however wrong the users are; if they are right, it is nearly as sure as all rows together
(prediction-powered inference; Angelopoulos, Bates, Fannjiang, Jordan and Zrnic 2023; with the
power tuning of Angelopoulos, Duchi and Zrnic 2023):

    θ = mean_T φ(trusted) + λ (mean_U φ(untrusted) - mean_B φ(untrusted))

T are the rows with a trusted label, U those with an untrusted one, B those with both, φ the
doubly robust contributions of a row; λ between 0 and 1 makes the variance least. Poison makes the
two kinds of label differ, λ small, and the estimate that of the trusted rows alone.

Axis legend: N = rows, M = candidates, C = clusters.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from training.proof.influence import interval
from training.proof.off_policy import Estimator, paired

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from router.certificate import Estimate
    from training.proof.off_policy import LoggedRows

MIN_ROWS = 30
"""Rows with a trusted label from which an interval is worth its name."""

MIN_FULL = 100
"""Trusted rows of which every candidate was observed, from which they alone decide."""

MIN_PAIRS = 30
"""Rows with both labels from which untrusted ones are looked at."""


def trusted_difference(
    rows: LoggedRows,
    trusted_NM: NDArray[np.float64],
    untrusted_NM: NDArray[np.float64],
    policy_NM: NDArray[np.float64],
    rival_NM: NDArray[np.float64],
) -> Estimate | None:
    """Return what the policy gains on its rival by trusted labels; None with too few.

    Args:
        rows: With the labels that count; their scores are not looked at.
        trusted_NM: Trusted labels of observed entries; NaN where there is none.
        untrusted_NM: The others; NaN where there is none.
        policy_NM: Chances of the policy's choices.
        rival_NM: Chances of its rival's.
    """
    seen_NM = rows.weight_NM > 0
    has_trusted_N = _has_all(trusted_NM, seen_NM)
    has_both_N = has_trusted_N & _has_all(untrusted_NM, seen_NM)
    has_untrusted_N = _has_all(untrusted_NM, seen_NM)
    is_full_N = has_trusted_N & ((rows.weight_NM == 1.0) | ~rows.available_NM).all(axis=1)
    if _num_clusters(rows, is_full_N) >= MIN_FULL:
        has_trusted_N, has_both_N = is_full_N, np.zeros_like(is_full_N)
    if _num_clusters(rows, has_trusted_N) < MIN_ROWS:
        return None

    def part(
        label_NM: NDArray[np.float64], chosen_N: NDArray[np.bool_]
    ) -> tuple[float, NDArray[np.float64]]:
        scored = dataclasses.replace(rows, score_NM=np.nan_to_num(label_NM)).subset(chosen_N)
        found = paired(scored, policy_NM[chosen_N], rival_NM[chosen_N], Estimator.DR)
        influence_N = np.zeros(len(rows))
        influence_N[chosen_N] = found.influence_N
        return found.value, influence_N

    value, influence_N = part(trusted_NM, has_trusted_N)
    if has_both_N.sum() >= MIN_PAIRS:
        everywhere, everywhere_N = part(untrusted_NM, has_untrusted_N)
        where_both, where_both_N = part(untrusted_NM, has_both_N)
        tuned = _tuned(influence_N, everywhere_N - where_both_N, rows.cluster_N)
        value += tuned * (everywhere - where_both)
        influence_N = influence_N + tuned * (everywhere_N - where_both_N)
    apart_N = (np.abs(policy_NM - rival_NM) * rows.weight_NM).sum(axis=1) * has_trusted_N
    used_N = has_trusted_N | has_untrusted_N if has_both_N.sum() >= MIN_PAIRS else has_trusted_N
    return interval(value, influence_N[used_N], rows.cluster_N[used_N], apart_N[used_N])


def source_bias(
    trusted_NM: NDArray[np.float64],
    untrusted_NM: NDArray[np.float64],
    cluster_N: NDArray[np.int64],
    candidate_ids: Sequence[str],
) -> dict[str, Estimate]:
    """Return by how much untrusted labels flatter each candidate, by answers that have both.

    Candidates with fewer than `MIN_PAIRS` such answers are left out. That all are flattered alike
    harms nobody; that one is, decides for it.
    """
    bias = {}
    for m, name in enumerate(candidate_ids):
        apart_N = untrusted_NM[:, m] - trusted_NM[:, m]
        both_N = np.isfinite(apart_N)
        number = int(both_N.sum())
        if len(np.unique(cluster_N[both_N])) < MIN_PAIRS:
            continue
        mean = float(apart_N[both_N].mean())
        influence_N = (apart_N[both_N] - mean) / number
        bias[name] = interval(mean, influence_N, cluster_N[both_N], np.ones(number))
    return bias


def _num_clusters(rows: LoggedRows, chosen_N: NDArray[np.bool_]) -> int:
    return len(np.unique(rows.cluster_N[chosen_N]))


def _has_all(label_NM: NDArray[np.float64], seen_NM: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the rows whose every observed entry has such a label."""
    return np.asarray((np.isfinite(label_NM) | ~seen_NM).all(axis=1) & seen_NM.any(axis=1))


def _tuned(
    base_N: NDArray[np.float64], shift_N: NDArray[np.float64], cluster_N: NDArray[np.int64]
) -> float:
    """Return the λ in 0 to 1 that makes the variance of base + λ shift least."""
    _, place_N = np.unique(cluster_N, return_inverse=True)
    base_C, shift_C = (np.bincount(place_N, weights=column) for column in (base_N, shift_N))
    square = float(shift_C @ shift_C)
    return float(np.clip(-(base_C @ shift_C) / square, 0.0, 1.0)) if square > 0 else 0.0
