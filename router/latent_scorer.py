"""Step 3, scores: the trained LatentRouter behind the `Scorer` protocol; numpy in, numpy out.

Axis legend: N = queries, F = raw features, D = projected components, K = kinds, M = candidates,
P = capability vector.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from router.errors import InvalidInputError
from router.profile import PoolEconomics, Profile, capability_vector, capability_width
from router.scores import Scores

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from router.candidate import Candidate, Price
    from router.kinds import Kinds
    from router.network import LatentRouter

NUM_CACHED_POOLS = 64
"""Pools kept ready; a pool changes only when a profile, a price or the catalog does."""


BATCH = 512
"""Queries per pass; the pair tensor of 512 queries and 66 candidates takes 143 MB."""


class Projects(Protocol):
    """What this module needs of `router.features.project.Projection`."""

    def transform(self, features_NF: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return projected features, shape (N, D)."""
        ...


def query_vectors(
    projected_ND: NDArray[np.float32], membership_NK: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the network's query input: projected features, then memberships, (N, D + K)."""
    return np.concatenate([projected_ND, membership_NK], axis=1).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class _PoolInput:
    profiles: tuple[Profile, ...]
    prices: tuple[Price, ...]
    capability_MP: torch.Tensor
    economics: PoolEconomics


class LatentScorer:
    """Score candidates with a trained network. Safe to call from many threads."""

    def __init__(self, network: LatentRouter, projection: Projects, kinds: Kinds) -> None:
        """Put the network into evaluation mode and keep it.

        Raises:
            InvalidInputError: If the network was not built for this number of kinds.
        """
        expected = capability_width(kinds.num_kinds, network.config.num_slopes)
        if network.config.capability_width != expected:
            raise InvalidInputError(
                f"the network reads capability vectors of {network.config.capability_width}, "
                f"{kinds.num_kinds} kinds give {expected}",
                "capability_width",
            )
        self._network = network.eval()
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
        available_M: NDArray[np.bool_],
    ) -> Scores:
        """Score every candidate for one query; see `Scorer.score`.

        A candidate without a profile is scored by the prior one: middling and uncertain.
        """
        if not candidates:
            return Scores.empty()
        pool = self._pool(candidates, profiles)
        query_ND, membership_NK = self._query(features_F[None])
        mean_NM, std_NM = self._predict(query_ND, pool, np.asarray(available_M)[None])
        return Scores(
            quality_mean_M=mean_NM[0],
            quality_std_M=std_NM[0],
            cost_usd_M=pool.economics.cost_usd([num_chars], [num_images], membership_NK)[0],
            latency_s_M=pool.economics.latency_s(membership_NK)[0],
        )

    def quality(
        self,
        features_NF: NDArray[np.float32],
        *,
        candidates: Sequence[Candidate],
        profiles: Mapping[str, Profile],
        available_NM: NDArray[np.bool_],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and spread of quality for many queries, each (N, M); for evaluation."""
        query_ND, _ = self._query(features_NF)
        pool = self._pool(candidates, profiles)
        parts = [
            self._predict(
                query_ND[start : start + BATCH], pool, available_NM[start : start + BATCH]
            )
            for start in range(0, len(query_ND), BATCH)
        ]
        mean_NM = np.concatenate([np.empty((0, len(candidates))), *(mean for mean, _ in parts)])
        std_NM = np.concatenate([np.empty((0, len(candidates))), *(std for _, std in parts)])
        return mean_NM, std_NM

    def _query(
        self, features_NF: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        projected_ND = self._projection.transform(np.asarray(features_NF, dtype=np.float32))
        membership_NK = self._kinds.assign(projected_ND)
        return query_vectors(projected_ND, membership_NK), membership_NK

    def _predict(
        self, query_ND: NDArray[np.float32], pool: _PoolInput, available_NM: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        shape = (len(query_ND), len(pool.profiles))
        if available_NM.shape != shape or available_NM.dtype != np.bool_:
            raise InvalidInputError(
                f"availability must be booleans of shape {shape}, got "
                f"{available_NM.dtype} of {available_NM.shape}",
                "available_M",
            )
        with torch.inference_mode():
            prediction = self._network(
                torch.from_numpy(query_ND),
                pool.capability_MP,
                torch.from_numpy(np.ascontiguousarray(available_NM)),
            )
            return prediction.mean_BM.double().numpy(), prediction.std_BM.double().numpy()

    def _pool(
        self, candidates: Sequence[Candidate], profiles: Mapping[str, Profile]
    ) -> _PoolInput:
        """Return the pool's tensors, built once while profiles and prices stay the same objects.

        The cache holds the very objects whose addresses are its key, so no address can be
        taken over by another object.
        """
        key = tuple(
            address
            for candidate in candidates
            for address in (id(candidate.price), id(profiles.get(candidate.id)))
        )
        with self._lock:
            if (pool := self._pools.get(key)) is not None and all(
                p.candidate_id == c.id for p, c in zip(pool.profiles, candidates, strict=True)
            ):
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
        chosen = tuple(profiles.get(c.id) or self._prior(c.id) for c in candidates)
        for profile in chosen:
            if profile.kinds_hash != self._kinds_hash:
                raise InvalidInputError(
                    f"the profile of {profile.candidate_id!r} was counted under other kinds "
                    f"({profile.kinds_hash}, not {self._kinds_hash}); estimate it again",
                    "profiles",
                )
        prices = tuple(candidate.price for candidate in candidates)
        capability_MP = np.stack(
            [
                capability_vector(p, price, self._network.config.num_slopes)
                for p, price in zip(chosen, prices, strict=True)
            ]
        )
        return _PoolInput(
            chosen, prices, torch.from_numpy(capability_MP), PoolEconomics.of(chosen, prices)
        )

    def _prior(self, candidate_id: str) -> Profile:
        return Profile.prior(
            candidate_id, num_kinds=self._kinds.num_kinds, kinds_hash=self._kinds_hash
        )
