"""Step 3, scores: difficulty and capability tokens behind the `Scorer` protocol; numpy alone.

What depends on the pool is folded once and kept: a query then costs its distance to the anchors
and one product of (1, A) with (A, M).

Axis legend: N = queries, F = raw features, D = projected features, K = kinds, A = anchors,
R = basis functions, M = candidates.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from router.errors import InvalidInputError
from router.profile import PoolEconomics
from router.scores import Scores

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from router.candidate import Candidate, Price
    from router.features.project import Projection
    from router.kinds import Kinds
    from router.profile import Profile
    from router.query_model import QueryModel

NUM_CACHED_POOLS = 64
"""Pools kept ready; a pool changes only when a profile, a price or the catalog does."""

BATCH = 1024
"""Queries per pass; their distances to 1024 anchors take 8 MB."""


@dataclass(frozen=True, slots=True, eq=False)
class _PoolInput:
    profiles: tuple[Profile, ...]
    prices: tuple[Price, ...]
    weight_AM: NDArray[np.float64]
    constant_M: NDArray[np.float64]
    variance_KM: NDArray[np.float32]
    economics: PoolEconomics


class CapabilityScorer:
    """Score candidates by their profiles. Safe to call from many threads."""

    def __init__(self, queries: QueryModel, projection: Projection, kinds: Kinds) -> None:
        """Keep the parts; nothing is computed until the first query."""
        self._queries = queries
        self._projection = projection
        self._kinds = kinds
        self._kinds_hash = kinds.hash
        self._pools: OrderedDict[tuple[int, ...], _PoolInput] = OrderedDict()
        self._lock = threading.Lock()

    def score(
        self,
        features_F: NDArray[np.float32],
        *,
        num_chars: int,
        num_images: int,
        candidates: Sequence[Candidate],
        profiles: Mapping[str, Profile],
    ) -> Scores:
        """Score every candidate for one query; see `Scorer.score`."""
        if not candidates:
            return Scores.empty()
        pool = self._pool(candidates, profiles)
        projected_ND = self._projection.transform(features_F[None])
        membership_NK = self._kinds.assign(projected_ND)
        return Scores(
            quality_mean_M=self._mean(projected_ND, pool)[0],
            quality_std_M=np.sqrt(membership_NK @ pool.variance_KM)[0].astype(np.float64),
            cost_usd_M=pool.economics.cost_usd([num_chars], [num_images], membership_NK)[0],
            latency_s_M=pool.economics.latency_s(membership_NK)[0],
        )

    def quality(
        self,
        features_NF: NDArray[np.float32],
        *,
        candidates: Sequence[Candidate],
        profiles: Mapping[str, Profile],
    ) -> NDArray[np.float64]:
        """Return the expected quality of many queries, (N, M)."""
        pool = self._pool(candidates, profiles)
        projected_ND = self._projection.transform(features_NF)
        parts = [
            self._mean(projected_ND[start : start + BATCH], pool)
            for start in range(0, len(projected_ND), BATCH)
        ]
        return np.concatenate([np.empty((0, len(candidates))), *parts])

    def _mean(self, projected_ND: NDArray[np.float32], pool: _PoolInput) -> NDArray[np.float64]:
        likeness_NA = self._queries.anchors.likeness(projected_ND).astype(np.float64)
        mean_NM = likeness_NA @ pool.weight_AM + pool.constant_M
        return np.clip(mean_NM, 0.0, 1.0)

    def _pool(
        self, candidates: Sequence[Candidate], profiles: Mapping[str, Profile]
    ) -> _PoolInput:
        """Return the pool's arrays, built once while profiles and prices stay the same objects.

        The cache holds the very objects whose addresses are its key, so no address can be
        taken over by another object.
        """
        key = tuple(
            address
            for candidate in candidates
            for address in (id(candidate.price), id(profiles.get(candidate.id)))
        )
        with self._lock:
            if (pool := self._pools.get(key)) is not None:
                self._pools.move_to_end(key)
                return pool
        pool = self._build(candidates, profiles)
        with self._lock:
            self._pools[key] = pool
            while len(self._pools) > NUM_CACHED_POOLS:
                self._pools.popitem(last=False)
        return pool

    def _build(
        self, candidates: Sequence[Candidate], profiles: Mapping[str, Profile]
    ) -> _PoolInput:
        chosen = tuple(self._profile(candidate.id, profiles) for candidate in candidates)
        prices = tuple(candidate.price for candidate in candidates)
        token_RM = np.array([p.token_R for p in chosen], dtype=np.float32).T
        weight_AM, constant_M = self._queries.anchors.fold(
            token_RM + self._queries.difficulty_R[:, None]
        )
        variance_KM = np.square(np.array([p.token_std_K for p in chosen], dtype=np.float32)).T
        return _PoolInput(
            chosen, prices, weight_AM, constant_M, variance_KM, PoolEconomics.of(chosen, prices)
        )

    def _profile(self, candidate_id: str, profiles: Mapping[str, Profile]) -> Profile:
        if (profile := profiles.get(candidate_id)) is None:
            raise InvalidInputError(
                f"{candidate_id!r} has no profile; estimate one, from no outcome if need be",
                "profiles",
            )
        if profile.kinds_hash != self._kinds_hash:
            raise InvalidInputError(
                f"the profile of {candidate_id!r} was counted under other kinds "
                f"({profile.kinds_hash}, not {self._kinds_hash}); estimate it again",
                "profiles",
            )
        if len(profile.token_R) != len(self._queries.difficulty_R):
            raise InvalidInputError(
                f"the token of {candidate_id!r} has {len(profile.token_R)} weights, not "
                f"{len(self._queries.difficulty_R)}; estimate it again",
                "token_R",
            )
        return profile
