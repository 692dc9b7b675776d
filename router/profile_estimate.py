"""Step 8, retrain: count one candidate's past outcomes into its profile.

Pure numpy, so a serving process can refresh a profile as well as a training job.

Axis legend: N = outcomes of the candidate, K = kinds of query, R = basis functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from router.errors import InvalidInputError
from router.profile import (
    MIN_OUTCOME_STD,
    PRIOR_INPUT_TOKENS,
    PRIOR_LATENCY_S,
    PRIOR_OUTCOME_STD,
    PRIOR_OUTPUT_TOKENS,
    PRIOR_QUALITY,
    Profile,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from router.candidate import Price
    from router.kinds import Kinds
    from router.query_model import QueryModel

SPREAD_PRIOR_COUNT = 2.0
"""Outcomes that the prior spread counts for, so that two equal labels do not claim certainty."""

OUTPUT_PRIOR_COUNT = 4.0
"""Replies that the overall mean length counts for in each kind."""

INPUT_NOISE_TOKENS = 20.0
INPUT_PRIOR_STD = (200.0, 0.25, 500.0)
"""How far base, per character and per image may lie from `PRIOR_INPUT_TOKENS`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Observations:
    """Outcomes of one candidate; NaN where a figure was not seen."""

    membership_NK: NDArray[np.floating]
    """Kinds of each query; rows sum to one."""

    score_N: NDArray[np.floating]
    """Quality label, 0 to 1."""

    weight_N: NDArray[np.floating]
    """Inverse propensity, clipped by the caller; 1 for full-information rows; above 0."""

    num_chars_N: NDArray[np.integer]
    """Characters of text."""

    num_images_N: NDArray[np.integer]
    """Images."""

    input_tokens_N: NDArray[np.floating]
    """Prompt tokens as the engine counted them."""

    output_tokens_N: NDArray[np.floating]
    """Reply tokens."""

    latency_s_N: NDArray[np.floating]
    """Seconds to the whole answer."""

    ttft_s_N: NDArray[np.floating]
    """Seconds to the first token."""

    basis_NR: NDArray[np.float32]
    """Basis functions of each query."""

    def __post_init__(self) -> None:
        """Refuse columns of unequal length and labels outside 0 to 1."""
        lengths = {len(getattr(self, name)) for name in self.__slots__}
        if len(lengths) != 1:
            raise InvalidInputError(f"columns differ in length: {sorted(lengths)}", "observations")
        seen_N = self.score_N[np.isfinite(self.score_N)]
        if ((seen_N < 0) | (seen_N > 1)).any():
            raise InvalidInputError("quality labels must lie in 0 to 1", "score_N")


def estimate_profile(
    candidate_id: str,
    observed: Observations,
    kinds: Kinds,
    queries: QueryModel,
    *,
    price: Price | None = None,
) -> Profile:
    """Estimate a profile; without any outcome it says what the price says.

    The same function serves a retrain and a candidate that arrived today: no other candidate's
    profile, and nothing of the query model, changes by it. Every figure falls back on its own:
    labels may be missing where latencies are not.

    Raises:
        InvalidInputError: If the memberships are not those of ``kinds`` in width.
    """
    if observed.membership_NK.shape[1] != kinds.num_kinds:
        raise InvalidInputError(
            f"memberships have {observed.membership_NK.shape[1]} kinds, not {kinds.num_kinds}",
            "membership_NK",
        )
    base, per_char, per_image = _input_tokens(observed)
    p50_s, p95_s, first_s = _latencies(observed)
    token_R, token_std_K = _token(observed, queries, price)
    return Profile(
        candidate_id=candidate_id,
        kinds_hash=kinds.hash,
        **_quality(observed),
        token_R=tuple(token_R.tolist()),
        token_std_K=tuple(token_std_K.tolist()),
        input_tokens_base=base,
        input_tokens_per_char=per_char,
        input_tokens_per_image=per_image,
        output_tokens_K=_output_tokens(observed),
        latency_s_p50=p50_s,
        latency_s_p95=p95_s,
        time_to_first_token_s=first_s,
    )


def count_weights(weight_NM: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return inverse propensities scaled by column so that they sum to Kish's effective count.

    A ridge penalty is in outcomes: weights of 10 must not make one outcome speak for ten.
    """
    total_M, squares_M = weight_NM.sum(axis=0), np.square(weight_NM).sum(axis=0)
    scale_M = np.divide(total_M, squares_M, out=np.zeros_like(total_M), where=squares_M > 0)
    return (weight_NM * scale_M).astype(np.float32)


def _token(
    observed: Observations, queries: QueryModel, price: Price | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    seen_N = np.isfinite(observed.score_N)
    return queries.estimate_token(
        observed.basis_NR[seen_N],
        observed.score_N[seen_N].astype(np.float32),
        count_weights(observed.weight_N[seen_N, None].astype(np.float64))[:, 0],
        price,
    )


def _quality(observed: Observations) -> dict[str, Any]:
    """Return weighted means with Kish's effective counts, (Σwr)² / Σw²r for memberships r."""
    seen_N = np.isfinite(observed.score_N)
    num_kinds = observed.membership_NK.shape[1]
    if not seen_N.any():
        return {
            "quality_K": (PRIOR_QUALITY,) * num_kinds,
            "num_observed_K": (0.0,) * num_kinds,
        }
    score_N = observed.score_N[seen_N].astype(np.float64)
    weight_N = observed.weight_N[seen_N].astype(np.float64)
    member_NK = observed.membership_NK[seen_N].astype(np.float64)
    mass_K = weight_N @ member_NK
    count_K = mass_K**2 / np.maximum(weight_N**2 @ member_NK, 1e-12)
    overall = float(weight_N @ score_N / weight_N.sum())
    mean_K = np.where(
        count_K > 0, (weight_N * score_N) @ member_NK / np.maximum(mass_K, 1e-12), overall
    ).clip(0.0, 1.0)
    count = float(weight_N.sum() ** 2 / (weight_N**2).sum())
    residual = float(weight_N @ (score_N - member_NK @ mean_K) ** 2 / weight_N.sum())
    variance = (count * residual + SPREAD_PRIOR_COUNT * PRIOR_OUTCOME_STD**2) / (
        count + SPREAD_PRIOR_COUNT
    )
    return {
        "quality_K": tuple(mean_K.tolist()),
        "num_observed_K": tuple(count_K.tolist()),
        "quality": min(max(overall, 0.0), 1.0),
        "num_observed": count,
        "outcome_std": max(variance**0.5, MIN_OUTCOME_STD),
    }


def _input_tokens(observed: Observations) -> tuple[float, float, float]:
    """Fit base, per character and per image by ridge towards the prior; none below zero.

    The posterior mode for noise of 20 tokens and the prior spreads above: with no row it is
    the prior, with one row it moves the least likely parts only.
    """
    seen_N = np.isfinite(observed.input_tokens_N)
    size_N3 = np.column_stack(
        [np.ones(len(seen_N)), observed.num_chars_N, observed.num_images_N]
    ).astype(np.float64)[seen_N]
    prior_3 = np.array(PRIOR_INPUT_TOKENS)
    missed_N = observed.input_tokens_N[seen_N].astype(np.float64) - size_N3 @ prior_3
    ridge_33 = np.diag((INPUT_NOISE_TOKENS / np.array(INPUT_PRIOR_STD)) ** 2)
    step_3 = np.linalg.solve(size_N3.T @ size_N3 + ridge_33, size_N3.T @ missed_N)
    base, per_char, per_image = np.maximum(prior_3 + step_3, 0.0).tolist()
    return base, per_char, per_image


def _output_tokens(observed: Observations) -> tuple[float, ...]:
    seen_N = np.isfinite(observed.output_tokens_N)
    tokens_N = observed.output_tokens_N[seen_N].astype(np.float64)
    member_NK = observed.membership_NK[seen_N].astype(np.float64)
    overall = (tokens_N.sum() + PRIOR_OUTPUT_TOKENS) / (len(tokens_N) + 1.0)
    mean_K = (tokens_N @ member_NK + OUTPUT_PRIOR_COUNT * overall) / (
        member_NK.sum(axis=0) + OUTPUT_PRIOR_COUNT
    )
    return tuple(np.maximum(mean_K, 1.0).tolist())


def _latencies(observed: Observations) -> tuple[float, float, float]:
    p50_s, p95_s, first_s = PRIOR_LATENCY_S
    latency_s_N = observed.latency_s_N[np.isfinite(observed.latency_s_N)]
    if len(latency_s_N):
        p50_s, p95_s = np.maximum(np.percentile(latency_s_N, [50, 95]), 1e-6).tolist()
        first_s = min(first_s, p50_s)
    ttft_s_N = observed.ttft_s_N[np.isfinite(observed.ttft_s_N)]
    if len(ttft_s_N):
        first_s = max(float(np.median(ttft_s_N)), 0.0)
    return p50_s, max(p50_s, p95_s), first_s
