"""Step 8, retrain: what a policy would have earned, from rows that another one logged.

Three estimators of V(π) = E Σ_m π(m|x) r(x, m), all unbiased or consistent where the logged
propensities are right and every candidate that π takes had a chance. With w = 1/p where observed
and 0 elsewhere, r the reward and q̂ a prediction of it that did not see the row:

    IPS    mean of Σ_m π w r                         (Horvitz and Thompson 1952)
    SNIPS  Σ_nm π w r / Σ_nm π w                     (Swaminathan and Joachims 2015)
    DR     mean of Σ_m π q̂ + Σ_m π w (r - q̂)        (Dudík, Langford and Li 2011)

A row of which every candidate was observed has w = 1 throughout; the three then are the plain mean
of what the policy earns. Two policies are compared row by row: the interval of a difference is
that of the rows' differences, which is far narrower than two intervals side by side.

Clipped weights min(w, c) bias each estimate by at most mean Σ_m π (w - min(w, c)) in expectation,
as scores, and residuals of scores, lie within one unit. Intervals are widened by that much at both
ends. Nothing is clipped unless asked for.

Axis legend: N = rows, M = candidates.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from router.errors import InvalidInputError
from training.proof.influence import interval

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from router.certificate import Estimate
    from training.data.dataset import TrainingSet


class Estimator(StrEnum):
    """How a value is estimated."""

    IPS = "ips"
    SNIPS = "snips"
    DR = "dr"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoggedRows:
    """Held-out rows as the estimators need them."""

    score_NM: NDArray[np.float64]
    """Observed quality, 0 to 1; 0 where not observed."""

    weight_NM: NDArray[np.float64]
    """Inverse propensity; 0 where not observed."""

    available_NM: NDArray[np.bool_]
    """Who could be chosen."""

    predicted_NM: NDArray[np.float64]
    """Quality as predicted by what did not see the row, 0 to 1; see `outcome_model`."""

    penalty_NM: NDArray[np.float64]
    """What the utility takes off the quality for cost and latency; known for every candidate."""

    cluster_N: NDArray[np.int64]
    """Rows of one cluster are not independent."""

    clip: float | None = None
    """Largest weight; 1 or more, none when None."""

    def __post_init__(self) -> None:
        """Refuse arrays of other shapes and a clip that would turn full rows down."""
        shape = self.score_NM.shape
        for item in dataclasses.fields(self):
            found = getattr(self, item.name)
            if item.name.endswith("_NM") and (found.shape != shape or found.ndim != 2):  # noqa: PLR2004 - rows and candidates
                raise InvalidInputError(
                    f"{item.name} must have shape {shape}, got {found.shape}", item.name
                )
        if self.cluster_N.shape != shape[:1]:
            raise InvalidInputError("cluster_N must number every row", "cluster_N")
        if self.clip is not None and not self.clip >= 1:
            raise InvalidInputError(f"clip must be 1 or more, got {self.clip}", "clip")

    @classmethod
    def of(
        cls,
        rows: TrainingSet,
        predicted_NM: NDArray[np.float64],
        *,
        penalty_NM: NDArray[np.float64] | None = None,
        clip: float | None = None,
    ) -> LoggedRows:
        """Take what is needed of training rows."""
        observed_NM = rows.observed()
        chance_NM = np.where(observed_NM, rows.propensity_NM, 1.0)
        return cls(
            score_NM=np.where(observed_NM, rows.score_NM, 0.0).astype(np.float64),
            weight_NM=observed_NM / chance_NM,
            available_NM=rows.available_NM,
            predicted_NM=predicted_NM,
            penalty_NM=np.zeros(observed_NM.shape) if penalty_NM is None else penalty_NM,
            cluster_N=rows.group_N,
            clip=clip,
        )

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.cluster_N)

    def subset(self, rows: ArrayLike) -> LoggedRows:
        """Return the chosen rows, by index or by mask."""
        index = np.asarray(rows)
        columns = {
            item.name: getattr(self, item.name)[index]
            for item in dataclasses.fields(self)
            if item.name != "clip"
        }
        return LoggedRows(clip=self.clip, **columns)

    def clipped(self, clip: float) -> LoggedRows:
        """Return the same rows with weights of at most ``clip``."""
        return dataclasses.replace(self, clip=clip)


class Contributions(NamedTuple):
    """An estimate and what each row contributes to it."""

    value: float
    influence_N: NDArray[np.float64]
    """Sums to 0; already divided by the number of rows."""

    weight_N: NDArray[np.float64]
    """Weight with which the row's outcomes were counted."""

    max_bias: float


def evaluable(rows: TrainingSet) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Return which rows can tell policies apart, and how many cannot, by reason.

    Left out are rows without a label, rows with one available candidate, and rows for which the
    logging policy gave the others no chance: a request that refused exploration. Whether it did
    was known before anybody answered, so leaving it out changes whom the figures speak of, and
    biases nothing.
    """
    observed_NM = rows.observed()
    is_labelled_N = observed_NM.any(axis=1)
    has_choice_N = rows.available_NM.sum(axis=1) > 1
    sure_N = (np.where(observed_NM, rows.propensity_NM, 0.0) >= 1.0).any(axis=1)
    no_chance_N = sure_N & ~rows.full_information()
    kept_N = is_labelled_N & has_choice_N & ~no_chance_N
    return kept_N, {
        "no_label": int((~is_labelled_N).sum()),
        "one_available": int((is_labelled_N & ~has_choice_N).sum()),
        "no_exploration": int((is_labelled_N & has_choice_N & no_chance_N).sum()),
    }


def contributions(
    rows: LoggedRows, policy_NM: NDArray[np.float64], estimator: Estimator
) -> Contributions:
    """Return the estimate of one policy's value and each row's part in it.

    Args:
        rows: At least one.
        policy_NM: Probability with which the policy chooses each candidate; a row sums to 1.
        estimator: Which.

    Raises:
        InvalidInputError: If there is no row, or the policy leaves what is available.
    """
    _check_policy(rows, policy_NM)
    return _contributions(rows, policy_NM, estimator)


def value(rows: LoggedRows, policy_NM: NDArray[np.float64], estimator: Estimator) -> Estimate:
    """Return what a policy earns, with its interval; see `contributions`."""
    found = contributions(rows, policy_NM, estimator)
    return interval(
        found.value, found.influence_N, rows.cluster_N, found.weight_N, max_bias=found.max_bias
    )


def paired(
    rows: LoggedRows,
    policy_NM: NDArray[np.float64],
    rival_NM: NDArray[np.float64],
    estimator: Estimator,
) -> Contributions:
    """Return the estimate of what a policy earns more than its rival, row by row.

    The weight of a row is that of the outcomes on which the two differ: 0 where they agree.
    """
    _check_policy(rows, policy_NM)
    _check_policy(rows, rival_NM)
    if estimator is not Estimator.SNIPS:  # linear in the policy
        return _contributions(rows, policy_NM - rival_NM, estimator)
    one, two = (_contributions(rows, p_NM, estimator) for p_NM in (policy_NM, rival_NM))
    apart = _contributions(rows, policy_NM - rival_NM, Estimator.IPS)
    return Contributions(
        value=one.value - two.value,
        influence_N=one.influence_N - two.influence_N,
        weight_N=apart.weight_N,
        max_bias=one.max_bias + two.max_bias,
    )


def difference(
    rows: LoggedRows,
    policy_NM: NDArray[np.float64],
    rival_NM: NDArray[np.float64],
    estimator: Estimator = Estimator.DR,
) -> Estimate:
    """Return what a policy earns more than its rival, with the interval of the pairs."""
    found = paired(rows, policy_NM, rival_NM, estimator)
    return interval(
        found.value, found.influence_N, rows.cluster_N, found.weight_N, max_bias=found.max_bias
    )


def _contributions(
    rows: LoggedRows, share_NM: NDArray[np.float64], estimator: Estimator
) -> Contributions:
    """Return the contributions of any sum of policies; of SNIPS, of a policy alone."""
    whole_NM = rows.weight_NM
    weight_NM = whole_NM if rows.clip is None else np.minimum(whole_NM, rows.clip)
    mass_NM = share_NM * weight_NM
    known_N = -(share_NM * rows.penalty_NM).sum(axis=1)
    if estimator is Estimator.DR:
        residual_NM = rows.score_NM - rows.predicted_NM
        earned_N = (share_NM * rows.predicted_NM + mass_NM * residual_NM).sum(axis=1)
    else:
        earned_N = (mass_NM * rows.score_NM).sum(axis=1)
    influence_N = earned_N - earned_N.mean()
    estimate = earned_N.mean()
    if estimator is Estimator.SNIPS:
        mass_N = mass_NM.sum(axis=1)
        if mass_N.mean() <= 0:
            raise InvalidInputError(
                "no logged choice is one that the policy makes; explore more", "weight_NM"
            )
        estimate = earned_N.mean() / mass_N.mean()
        influence_N = (earned_N - estimate * mass_N) / mass_N.mean()
    return Contributions(
        value=float(estimate + known_N.mean()),
        influence_N=(influence_N + known_N - known_N.mean()) / len(rows),
        weight_N=np.abs(mass_NM).sum(axis=1),
        max_bias=float((np.abs(share_NM) * (whole_NM - weight_NM)).sum(axis=1).mean()),
    )


def _check_policy(rows: LoggedRows, policy_NM: NDArray[np.float64]) -> None:
    if not len(rows):
        raise InvalidInputError("no held-out row is left to value a policy on", "rows")
    if policy_NM.shape != rows.score_NM.shape:
        raise InvalidInputError(
            f"policy_NM must have shape {rows.score_NM.shape}, got {policy_NM.shape}", "policy_NM"
        )
    outside = np.where(rows.available_NM, 0.0, policy_NM).any()
    if outside or not np.allclose(policy_NM.sum(axis=1), 1.0) or (policy_NM < 0).any():
        raise InvalidInputError(
            "a policy's chances must lie on available candidates and sum to 1", "policy_NM"
        )
