"""Step 8, retrain: policies on held-out rows come in, the figures of a certificate go out. Pure.

Axis legend: N = rows, M = candidates, B = bins.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from router.certificate import Calibration, Choices, SliceDifference
from router.errors import InvalidInputError
from training.proof.off_policy import Estimator, difference, value
from training.proof.trusted_labels import source_bias, trusted_difference

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from router.certificate import Estimate
    from training.proof.off_policy import LoggedRows

CLIP = 10.0
"""Weights of the clipped difference."""

MIN_SLICE_CLUSTERS = 30
"""A slice of fewer queries is not shown: its interval would be too short."""

NUM_BINS = 10


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contest:
    """Policies on the same held-out rows."""

    rows: LoggedRows
    candidate_ids: tuple[str, ...]
    policies: Mapping[str, NDArray[np.float64]]
    """Chances (N, M) by name: ``challenger``, ``best_single``, and others."""

    trusted_NM: NDArray[np.float64]
    """Trusted labels of observed entries; NaN where there is none."""

    untrusted_NM: NDArray[np.float64]
    """The others; NaN where there is none."""

    slices: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    """Rows (N,) by name of the slice; they may overlap."""

    def __post_init__(self) -> None:
        """Refuse a contest without its two contestants."""
        if missing := {"challenger", "best_single"} - set(self.policies):
            raise InvalidInputError(f"the policies {sorted(missing)} are missing", "policies")

    @property
    def rival(self) -> str:
        """Whom slices and trusted labels compare with: the champion where there is one."""
        return "champion" if "champion" in self.policies else "best_single"

    def figures(self) -> dict[str, Any]:
        """Return the fields of `Evidence` that follow from the rows."""
        challenger_NM = self.policies["challenger"]
        rival_NM = self.policies[self.rival]
        return {
            "values": {name: self._values(policy) for name, policy in self.policies.items()},
            "differences": {
                name: difference(self.rows, challenger_NM, policy)
                for name, policy in self.policies.items()
                if name != "challenger"
            },
            "clipped_difference": difference(self.rows.clipped(CLIP), challenger_NM, rival_NM),
            "trusted_difference": trusted_difference(
                self.rows, self.trusted_NM, self.untrusted_NM, challenger_NM, rival_NM
            ),
            "source_bias": source_bias(
                self.trusted_NM, self.untrusted_NM, self.rows.cluster_N, self.candidate_ids
            ),
            "slices": tuple(self._slices(challenger_NM, rival_NM)),
            "choices": self._choices(),
        }

    def num_trusted(self) -> int:
        """Return the number of rows with a trusted label."""
        return int(np.isfinite(self.trusted_NM).any(axis=1).sum())

    def _values(self, policy_NM: NDArray[np.float64]) -> dict[str, Estimate]:
        """Return the policy's value by estimator; SNIPS only where a logged choice is its own."""
        meets = bool(((policy_NM > 0) & (self.rows.weight_NM > 0)).any())
        estimators = [e for e in Estimator if meets or e is not Estimator.SNIPS]
        return {e.value: value(self.rows, policy_NM, e) for e in estimators}

    def _slices(
        self, challenger_NM: NDArray[np.float64], rival_NM: NDArray[np.float64]
    ) -> list[SliceDifference]:
        found = []
        for name, inside_N in sorted(self.slices.items()):
            rows = self.rows.subset(inside_N)
            if len(np.unique(rows.cluster_N)) >= MIN_SLICE_CLUSTERS:
                gain = difference(rows, challenger_NM[inside_N], rival_NM[inside_N])
                found.append(SliceDifference(name=name, difference=gain))
        return found

    def _choices(self) -> Choices:
        challenger_M = self.policies["challenger"].mean(axis=0)
        champion_NM = self.policies.get("champion")
        champion_M = None if champion_NM is None else champion_NM.mean(axis=0)
        apart_NM = np.abs(self.policies["challenger"] - self.policies[self.rival])
        return Choices(
            challenger=self._shares(challenger_M),
            champion=None if champion_M is None else self._shares(champion_M),
            challenger_entropy=share_entropy(challenger_M),
            champion_entropy=None if champion_M is None else share_entropy(champion_M),
            disagreement=float(np.clip(apart_NM.sum(axis=1).mean() / 2, 0.0, 1.0)),
        )

    def _shares(self, share_M: NDArray[np.float64]) -> dict[str, float]:
        return dict(zip(self.candidate_ids, share_M.tolist(), strict=True))


def share_entropy(share_M: NDArray[np.float64]) -> float:
    """Return the entropy of shares over that of equal ones: 0 for one alone, 1 for all alike."""
    if len(share_M) < 2:  # noqa: PLR2004 - one candidate leaves no choice
        return 0.0
    return float(np.clip(stats.entropy(share_M) / np.log(len(share_M)), 0.0, 1.0))


def calibration_by_candidate(
    predicted_NM: NDArray[np.float64], rows: LoggedRows, candidate_ids: Sequence[str]
) -> dict[str, Calibration]:
    """Return the calibration of each candidate with a label, outcomes by inverse propensity."""
    found = {}
    for m, name in enumerate(candidate_ids):
        seen_N = (rows.weight_NM[:, m] > 0) & np.isfinite(predicted_NM[:, m])
        if seen_N.any():
            found[name] = calibration(
                predicted_NM[seen_N, m], rows.score_NM[seen_N, m], rows.weight_NM[seen_N, m]
            )
    return found


def calibration(
    predicted_N: NDArray[np.float64],
    score_N: NDArray[np.float64],
    weight_N: NDArray[np.float64],
) -> Calibration:
    """Return the expected calibration error over ten bins of equal width (Naeini et al. 2015).

    What chance gives a perfect forecast is the sum over bins of √(2/π Σ w² p (1 - p)) over Σ w:
    the mean of |N(0, s²)| is √(2/π) s. For graded labels it is an upper bound.
    """
    bin_N = np.clip((predicted_N * NUM_BINS).astype(int), 0, NUM_BINS - 1)
    gap_B = np.bincount(bin_N, weight_N * (predicted_N - score_N), NUM_BINS)
    variance_N = weight_N**2 * np.clip(predicted_N * (1 - predicted_N), 0.0, None)
    noise_B = np.sqrt(2 / np.pi * np.bincount(bin_N, variance_N, NUM_BINS))
    total = weight_N.sum()
    return Calibration(
        error=float(np.abs(gap_B).sum() / total),
        by_chance=float(noise_B.sum() / total),
        num_labels=len(score_N),
    )
