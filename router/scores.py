"""Step 3, scores: what a router predicts of each candidate, and who can predict it.

The scorer that serves is `router.capability_scorer`.

Axis legend: F = raw features, M = candidates, in the order they were given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from router.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from router.candidate import Candidate
    from router.profile import Profile


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """Predictions for one query, all made before any candidate is asked."""

    quality_mean_M: NDArray[np.float64]
    """Expected quality, 0 to 1."""

    quality_std_M: NDArray[np.float64]
    """Standard deviation of that expectation, for want of outcomes; 0 or more."""

    cost_usd_M: NDArray[np.float64]
    """Expected cost in USD, 0 or more."""

    latency_s_M: NDArray[np.float64]
    """Expected seconds to the whole answer, 0 or more; without queue or cold start."""

    def __post_init__(self) -> None:
        """Refuse columns of unequal length."""
        shapes = {getattr(self, name).shape for name in self.__slots__}
        if len(shapes) != 1 or len(shapes.pop()) != 1:
            raise InvalidInputError("scores must be four columns of one length", "scores")

    @classmethod
    def empty(cls) -> Scores:
        """Return the scores of a pool without candidates."""
        return cls(
            quality_mean_M=np.empty(0),
            quality_std_M=np.empty(0),
            cost_usd_M=np.empty(0),
            latency_s_M=np.empty(0),
        )


class Scorer(Protocol):
    """Whoever predicts quality, cost and latency.

    Every implementation keeps these: permuting candidates permutes the scores; adding, masking
    or removing a candidate changes no other score; all figures are finite.
    """

    def score(
        self,
        features_F: NDArray[np.float32],
        *,
        num_chars: int,
        num_images: int,
        candidates: Sequence[Candidate],
        profiles: Mapping[str, Profile],
    ) -> Scores:
        """Score every candidate for one query; called once per request.

        Args:
            features_F: Raw features, in the order of the router's feature schema.
            num_chars: Characters of text in the query.
            num_images: Images in the query.
            candidates: Whom to score; may be empty.
            profiles: Profiles by candidate id, one for each candidate at least.

        Raises:
            InvalidInputError: If a shape or a profile does not fit this router.
        """
        ...
