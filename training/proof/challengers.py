"""Step 8, retrain: what routers and their baselines would have chosen on held-out rows.

Axis legend: N = rows, M = candidates, D = projected features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from router.certificate import DecisionTime
from router.errors import NoCandidateError
from router.profile import PoolEconomics
from router.records import Pool, QueryShape, Refusal, Standing
from router.route import route
from router.utility import utilities
from training.benchmark.rivals.neighbours import FittedNeighbours
from training.benchmark.rivals.rows import Known
from training.fitting.fit import inverse_propensity
from training.fitting.policy_value import greedy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from router.artifact import RouterArtifact
    from router.candidate import Candidate
    from router.records import Decision, Routing
    from router.route import Router
    from training.data.dataset import TrainingSet

NUM_NEIGHBOURS = 32
MAX_WEIGHT = 10.0
WARM_UP = 5
"""Decisions that are not timed: the first ones of a process fill caches."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Forecasts:
    """What a router predicts for rows that it was not trained on; NaN without a profile."""

    quality_NM: NDArray[np.float64]
    utility_NM: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        artifact: RouterArtifact,
        rows: TrainingSet,
        candidates: Sequence[Candidate],
        routing: Routing,
    ) -> Forecasts:
        """Predict as the served path does, many rows at once."""
        shape = (len(rows), len(candidates))
        quality_NM, utility_NM = np.full(shape, np.nan), np.full(shape, np.nan)
        known = [m for m, c in enumerate(candidates) if c.id in artifact.profiles]
        if known:
            served = [candidates[m] for m in known]
            quality_NM[:, known] = artifact.scorer().quality(
                rows.features_NF, candidates=served, profiles=artifact.profiles
            )
            profiles = [artifact.profiles[c.id] for c in served]
            pool = PoolEconomics.of(profiles, [c.price for c in served])
            membership_NK = artifact.kinds.assign(projected(artifact, rows))
            utility_NM[:, known] = utilities(
                quality_NM[:, known],
                pool.cost_usd(rows.num_chars_N, rows.num_images_N, membership_NK),
                pool.latency_s(membership_NK),
                routing,
                artifact.reference,
            )
        return cls(quality_NM=quality_NM, utility_NM=utility_NM)

    @property
    def penalty_NM(self) -> NDArray[np.float64]:  # noqa: N802 - axis suffix
        """What cost and latency take off the quality; 0 where not known."""
        return np.nan_to_num(self.quality_NM - self.utility_NM)

    def policy(self, available_NM: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the choices: the best utility among available candidates with a profile."""
        known_NM = np.isfinite(self.utility_NM)
        return greedy(np.where(known_NM, self.utility_NM, -np.inf), available_NM & known_NM)


def projected(artifact: RouterArtifact, rows: TrainingSet) -> NDArray[np.float32]:
    """Return the rows' features as the router sees them, (N, D)."""
    return artifact.projection.transform(rows.features_NF)


def single_means(train: TrainingSet) -> NDArray[np.float64]:
    """Return each candidate's mean score by inverse propensity, (M,); -1 without one."""
    weight_NM = inverse_propensity(train, MAX_WEIGHT)
    total_M = weight_NM.sum(axis=0)
    earned_M = (weight_NM * np.where(weight_NM > 0, train.score_NM, 0.0)).sum(axis=0)
    mean_M: NDArray[np.float64] = np.where(total_M > 0, earned_M / np.maximum(total_M, 1e-9), -1.0)
    return mean_M


def neighbours_quality(
    artifact: RouterArtifact, train: TrainingSet, held_out: TrainingSet
) -> NDArray[np.float64]:
    """Return the mean score of the nearest training rows, in the router's projection, (N, M)."""
    past = Known(projected(artifact, train), train.score_NM.astype(np.float64))
    fitted = FittedNeighbours.remember(past, NUM_NEIGHBOURS)
    return fitted.average(fitted.nearest(projected(artifact, held_out)))


def timed_decisions(
    challenger: Router,
    champion: Router | None,
    rows: TrainingSet,
    candidates: Sequence[Candidate],
    *,
    routing: Routing,
    timer: Callable[[], float],
) -> tuple[DecisionTime, list[Decision | None]]:
    """Decide every row by the served path, champion and challenger in turns.

    Args:
        challenger: Timed, and its decisions returned; None where it found nobody.
        champion: Timed only.
        rows: At least one.
        candidates: The rows' columns.
        routing: As the rows are judged by.
        timer: Seconds of a monotonic clock.
    """
    routers = [challenger] if champion is None else [challenger, champion]
    taken_s: dict[int, list[float]] = {i: [] for i in range(len(routers))}
    decisions: list[Decision | None] = []
    for n in [*range(min(WARM_UP, len(rows))), *range(len(rows))]:
        query: dict[str, Any] = {
            "shape": QueryShape(
                num_chars=int(rows.num_chars_N[n]), num_images=int(rows.num_images_N[n])
            ),
            "pool": _pool(candidates, rows.available_NM[n]),
            "routing": routing,
        }
        for place, router in enumerate(routers):
            start_s = timer()
            decision = _decide(router, rows.features_NF[n], query)
            taken_s[place].append(timer() - start_s)
            if place == 0:
                decisions.append(decision)
    skipped = min(WARM_UP, len(rows))
    times = [np.percentile(taken_s[place][skipped:], (50, 95)).tolist() for place in taken_s]
    other = times[1] if champion is not None else (None, None)
    found = DecisionTime(
        challenger_p50_s=times[0][0],
        challenger_p95_s=times[0][1],
        champion_p50_s=other[0],
        champion_p95_s=other[1],
        num_decisions=len(rows),
    )
    return found, decisions[skipped:]


def _decide(
    router: Router, features_F: NDArray[np.float32], query: dict[str, Any]
) -> Decision | None:
    try:
        return route(router, features_F, decision_id="", seed=0, **query)
    except NoCandidateError:
        return None


def _pool(candidates: Sequence[Candidate], available_M: NDArray[np.bool_]) -> Pool:
    return Pool(
        standings=tuple(
            Standing(candidate=c, refusal=None if ok else Refusal.NO_REPLICA, num_running=int(ok))
            for c, ok in zip(candidates, available_M, strict=True)
        )
    )
