"""Step 3, scores: what is known of a candidate before it is asked, and what that predicts.

A `Profile` holds a capability token and counts from past outcomes, of a width that never depends
on the pool; `PoolEconomics` predicts cost and latency of a query. Nothing here looks at what a
candidate answered to the very query.

Axis legend: N = queries, M = candidates, K = kinds of query, R = basis functions.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from router.candidate import Price
from router.errors import ArtifactError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

PRIOR_QUALITY = 0.5
PRIOR_OUTCOME_STD = 0.5
PRIOR_INPUT_TOKENS = (64.0, 0.25, 256.0)
"""Base, per character and per image: a chat template, English text, a small image."""

PRIOR_OUTPUT_TOKENS = 128.0
PRIOR_LATENCY_S = (2.0, 6.0, 0.5)
"""Median, 95th percentile, and time to first token of a candidate nobody has timed."""

MIN_OUTCOME_STD = 0.2
"""Two hundred equal labels in one kind show no spread; they must not make a single label in
another kind look certain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What past outcomes say of one candidate."""

    candidate_id: str
    """Whom it describes."""

    kinds_hash: str
    """`Kinds.hash` of the kinds it was counted under."""

    quality_K: tuple[float, ...]
    """Observed mean quality by kind, 0 to 1; the overall quality where nothing was observed."""

    num_observed_K: tuple[float, ...]
    """Effective number of labelled outcomes behind each mean; 0 or more."""

    quality: float = PRIOR_QUALITY
    """Observed mean quality over all kinds, 0 to 1."""

    num_observed: float = 0.0
    """Effective number of labelled outcomes in all; 0 or more."""

    outcome_std: float = PRIOR_OUTCOME_STD
    """Spread of single outcomes about the mean of their kind; above 0."""

    input_tokens_base: float = PRIOR_INPUT_TOKENS[0]
    """Prompt tokens of an empty query; 0 or more."""

    input_tokens_per_char: float = PRIOR_INPUT_TOKENS[1]
    """Prompt tokens per character of text; 0 or more."""

    input_tokens_per_image: float = PRIOR_INPUT_TOKENS[2]
    """Prompt tokens per image; 0 or more."""

    output_tokens_K: tuple[float, ...]
    """Mean reply length by kind, in tokens; above 0."""

    token_R: tuple[float, ...]
    """Capability token: weights of what it adds to the difficulty of a query, its level first."""

    token_std_K: tuple[float, ...]
    """Standard deviation of its predicted quality by kind of query, for want of outcomes; 0 or
    more."""

    latency_s_p50: float = PRIOR_LATENCY_S[0]
    """Median seconds to the whole answer; above 0."""

    latency_s_p95: float = PRIOR_LATENCY_S[1]
    """95th percentile of the same; at least the median."""

    time_to_first_token_s: float = PRIOR_LATENCY_S[2]
    """Median seconds to the first token; 0 or more."""

    def __post_init__(self) -> None:
        """Refuse figures that no count of outcomes can give."""
        columns = (self.quality_K, self.num_observed_K, self.output_tokens_K, self.token_std_K)
        widths = set(map(len, columns))
        if len(widths) != 1 or 0 in widths:
            raise InvalidInputError(
                f"the figures by kind must have one width of at least 1, got {sorted(widths)}",
                "quality_K",
            )
        for name in _BOUNDS:
            self._check(name)
        if self.latency_s_p95 < self.latency_s_p50:
            raise InvalidInputError(
                f"latency_s_p95 must be at least latency_s_p50 ({self.latency_s_p50}), "
                f"got {self.latency_s_p95}",
                "latency_s_p95",
            )

    def _check(self, name: str) -> None:
        low, high = _BOUNDS[name]
        values = np.atleast_1d(np.asarray(getattr(self, name), dtype=np.float64))
        if not (np.isfinite(values) & (values >= low) & (values <= high)).all():
            raise InvalidInputError(
                f"{name} of {self.candidate_id!r} must lie in {low} to {high}, got {values}", name
            )

    @property
    def num_kinds(self) -> int:
        """Return K."""
        return len(self.quality_K)

    def predict_cost_usd(
        self,
        price: Price,
        *,
        num_chars: float,
        num_images: float,
        membership_K: NDArray[np.floating],
    ) -> float:
        """Return the expected cost of one query in USD; see `PoolEconomics.cost_usd`."""
        pool = PoolEconomics.of([self], [price])
        return float(pool.cost_usd([num_chars], [num_images], membership_K[None])[0, 0])

    def predict_latency_s(self, *, membership_K: NDArray[np.floating]) -> float:
        """Return the expected seconds to the whole answer; see `PoolEconomics.latency_s`."""
        # Latency has no price in it; any price stacks.
        pool = PoolEconomics.of([self], [Price(input_usd_per_mtok=0.0, output_usd_per_mtok=0.0)])
        return float(pool.latency_s(membership_K[None])[0, 0])

    def to_json(self) -> dict[str, Any]:
        """Return a record that `json.dumps` takes and `from_json` reads back equal."""
        record = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in record.items()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Profile:
        """Read a record of `to_json`.

        Raises:
            ArtifactError: If a field is missing, unknown, or out of its bounds.
        """
        figures: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in record.items()
        }
        try:
            return cls(**figures)
        except (InvalidInputError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"the profile of {record.get('candidate_id', '?')!r} cannot be read: {error}; "
                "estimate it again"
            ) from error


_INFINITE = 1e12
_BOUNDS: dict[str, tuple[float, float]] = {
    "quality_K": (0.0, 1.0),
    "num_observed_K": (0.0, _INFINITE),
    "quality": (0.0, 1.0),
    "num_observed": (0.0, _INFINITE),
    "outcome_std": (MIN_OUTCOME_STD, 1.0),
    "input_tokens_base": (0.0, _INFINITE),
    "input_tokens_per_char": (0.0, _INFINITE),
    "input_tokens_per_image": (0.0, _INFINITE),
    "output_tokens_K": (1e-3, _INFINITE),
    "token_R": (-_INFINITE, _INFINITE),
    "token_std_K": (0.0, _INFINITE),
    "latency_s_p50": (1e-6, _INFINITE),
    "latency_s_p95": (1e-6, _INFINITE),
    "time_to_first_token_s": (0.0, _INFINITE),
}


def _mean_output_tokens(profile: Profile) -> float:
    """Average reply length over kinds, each counted by how often it was seen."""
    weight_K = np.asarray(profile.num_observed_K) + 1.0
    return float(weight_K @ np.asarray(profile.output_tokens_K) / weight_K.sum())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PoolEconomics:
    """Token counts, prices and latencies of a pool, stacked to predict many queries at once."""

    input_tokens_M3: NDArray[np.float64]
    """Prompt tokens: base, per character, per image."""

    output_tokens_MK: NDArray[np.float64]
    """Reply tokens by kind."""

    price_M2: NDArray[np.float64]
    """USD per token of input and of output."""

    latency_M2: NDArray[np.float64]
    """Seconds until the first token, and seconds per token of reply after it."""

    @classmethod
    def of(cls, profiles: Sequence[Profile], prices: Sequence[Price]) -> PoolEconomics:
        """Stack profiles and prices of equal order."""
        first_s = [min(p.time_to_first_token_s, p.latency_s_p50) for p in profiles]
        per_token_s = [
            (p.latency_s_p50 - first) / _mean_output_tokens(p)
            for p, first in zip(profiles, first_s, strict=True)
        ]
        return cls(
            input_tokens_M3=np.array(
                [
                    (p.input_tokens_base, p.input_tokens_per_char, p.input_tokens_per_image)
                    for p in profiles
                ]
            ),
            output_tokens_MK=np.array([p.output_tokens_K for p in profiles]),
            price_M2=np.array([(p.input_usd_per_mtok, p.output_usd_per_mtok) for p in prices])
            / 1e6,
            latency_M2=np.column_stack([first_s, per_token_s]),
        )

    def cost_usd(
        self, num_chars_N: ArrayLike, num_images_N: ArrayLike, membership_NK: ArrayLike
    ) -> NDArray[np.float64]:
        """Predict the cost of each query at each candidate, before anybody answers.

        Returns:
            USD, shape (N, M): (base + chars * per_char + images * per_image) * input price
            + expected reply tokens of the query's kinds * output price.
        """
        chars_N = np.asarray(num_chars_N, dtype=np.float64)
        size_N3 = np.column_stack([np.ones_like(chars_N), chars_N, np.asarray(num_images_N)])
        output_NM = np.asarray(membership_NK, dtype=np.float64) @ self.output_tokens_MK.T
        cost_NM: NDArray[np.float64] = (
            size_N3 @ self.input_tokens_M3.T * self.price_M2[:, 0]
            + output_NM * self.price_M2[:, 1]
        )
        return cost_NM

    def latency_s(self, membership_NK: ArrayLike) -> NDArray[np.float64]:
        """Predict seconds to the whole answer, shape (N, M).

        The first token's wait plus the reply's expected length at the candidate's usual pace.
        Queues and cold starts are the dispatcher's to add: a profile does not know them.
        """
        output_NM = np.asarray(membership_NK, dtype=np.float64) @ self.output_tokens_MK.T
        latency_NM: NDArray[np.float64] = self.latency_M2[:, 0] + output_NM * self.latency_M2[:, 1]
        return latency_NM
