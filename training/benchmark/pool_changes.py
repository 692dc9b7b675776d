"""Proof of ease with any pool: candidates added with few examples, removed, or seen one at a time.

Axis legend: N = queries, M = candidates.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from training.fitting.fit import FitConfig, add_profile, fit_router

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from router.artifact import RouterArtifact
    from router.profile import Profile
    from training.benchmark.table import OutcomeTable

NUM_EXAMPLES = (0, 8, 16, 32, 64, 128, 512, 1024)
MAX_SUBSETS = 60
NUM_RESAMPLES = 2000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Addition:
    """What a newcomer's examples were worth on the test rows of one cut."""

    pool: str
    seed: int
    candidate: str
    group_N: NDArray[np.int64]
    full_N: NDArray[np.float64]
    """Earned by the router that was trained with all its outcomes."""

    without_N: NDArray[np.float64]
    """Earned without the candidate."""

    added: Mapping[int, NDArray[np.float64]]
    """Earned with a profile from so many examples, by their number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """A pool cut down to some of its candidates, masked without retraining."""

    num_subsets: int
    num_below: int
    """Subsets on which the router is below the best remaining single beyond noise."""

    worst_points: float
    """Least difference to the best remaining single candidate, in points."""


def earned(
    quality_NM: NDArray[np.float64], table: OutcomeTable, keeps_M: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Return the observed score of the best predicted available candidate, NaN without one."""
    available_NM = (
        table.rows.available_NM if keeps_M is None else (table.rows.available_NM & keeps_M)
    )
    chosen_N = np.where(available_NM, quality_NM, -np.inf).argmax(axis=1)
    score_N = table.rows.score_NM[np.arange(len(chosen_N)), chosen_N].astype(np.float64)
    return np.where(available_NM.any(axis=1), score_N, np.nan)


def predicted(
    artifact: RouterArtifact, table: OutcomeTable, profiles: Mapping[str, Profile] | None = None
) -> NDArray[np.float64]:
    """Return expected quality of a table's queries for its candidates."""
    return artifact.scorer().quality(
        table.rows.features_NF,
        candidates=table.candidates,
        profiles=artifact.profiles if profiles is None else profiles,
    )


def additions(
    past: OutcomeTable, test: OutcomeTable, full: RouterArtifact, seed: int
) -> list[Addition]:
    """Leave out each candidate in turn and bring it back with few examples."""
    full_N = earned(predicted(full, test), test)
    found = []
    for m, candidate in enumerate(past.candidates):
        others = tuple(c for c in past.candidates if c.id != candidate.id)
        artifact, _ = fit_router(
            past.rows.without_candidate(candidate.id),
            FitConfig(seed=seed),
            schema=past.schema,
            candidates=others,
        )
        others_M = np.array([c.id != candidate.id for c in past.candidates])
        rng = np.random.default_rng((seed, m))
        seen = rng.permutation(np.flatnonzero(past.rows.observed()[:, m]))
        added = {}
        quality_NM = np.zeros(test.rows.score_NM.shape)
        for number in NUM_EXAMPLES:
            profile = add_profile(artifact, past.rows.subset(seen[:number]), candidate)
            profiles = {**artifact.profiles, candidate.id: profile}
            quality_NM = predicted(artifact, test, profiles)
            added[number] = earned(quality_NM, test)
        without_N = earned(quality_NM, test, others_M)
        keep_N = np.isfinite(without_N)
        found.append(
            Addition(
                pool=past.name,
                seed=seed,
                candidate=candidate.id,
                group_N=test.rows.group_N[keep_N],
                full_N=full_N[keep_N],
                without_N=without_N[keep_N],
                added={n: values[keep_N] for n, values in added.items()},
            )
        )
    return found


def regret_shares(
    found: list[Addition], rng: np.random.Generator
) -> dict[int, tuple[float, float, float]]:
    """Return by number of examples the regret left over the regret without the candidate.

    Regret is against the router that had all outcomes, summed over left-out candidates; with its
    95 % interval from a bootstrap over groups of queries.
    """
    names = [f"{a.pool}/{g}" for a in found for g in a.group_N]
    _, cluster_A = np.unique(names, return_inverse=True)
    full_A = np.concatenate([a.full_N for a in found])
    columns = [full_A - np.concatenate([a.without_N for a in found])]
    columns += [full_A - np.concatenate([a.added[n] for a in found]) for n in NUM_EXAMPLES]
    sums_CP = np.stack([np.bincount(cluster_A, column) for column in columns], axis=1)
    num_clusters = len(sums_CP)
    draws = rng.multinomial(num_clusters, np.full(num_clusters, 1 / num_clusters), NUM_RESAMPLES)
    drawn_P = draws @ sums_CP
    drawn_P = drawn_P[drawn_P[:, 0] != 0]
    total_P = sums_CP.sum(axis=0)
    return {
        number: (
            float(total_P[i] / total_P[0]),
            *np.percentile(drawn_P[:, i] / drawn_P[:, 0], [2.5, 97.5]).tolist(),
        )
        for i, number in enumerate(NUM_EXAMPLES, start=1)
    }


def removals(past: OutcomeTable, test: OutcomeTable, full: RouterArtifact, seed: int) -> Removal:
    """Mask subsets of the pool and compare with the best remaining single candidate."""
    quality_NM = predicted(full, test)
    mean_M = np.nanmean(past.rows.score_NM, axis=0)
    single_NM = np.broadcast_to(mean_M, quality_NM.shape)
    num_below, worst = 0, np.inf
    subsets = _subsets(len(mean_M), np.random.default_rng(seed))
    for keeps_M in subsets:
        gain_N = earned(quality_NM, test, keeps_M) - earned(single_NM, test, keeps_M)
        gain_N = gain_N[np.isfinite(gain_N)]
        if len(gain_N) < 2:  # noqa: PLR2004 - a spread needs two
            continue
        error = gain_N.std(ddof=1) / len(gain_N) ** 0.5
        num_below += bool(gain_N.mean() + 1.96 * error < 0)
        worst = min(worst, float(gain_N.mean()))
    return Removal(num_subsets=len(subsets), num_below=num_below, worst_points=100 * worst)


def _subsets(num_candidates: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return every subset of two or more candidates, or a draw of them where there are many."""
    if 2**num_candidates <= MAX_SUBSETS:
        codes = np.arange(2**num_candidates)[:, None] >> np.arange(num_candidates) & 1
        keeps_SM = codes.astype(bool)
    else:
        share_S1 = rng.uniform(0.1, 0.9, (MAX_SUBSETS, 1))
        keeps_SM = rng.random((MAX_SUBSETS, num_candidates)) < share_S1
    return keeps_SM[keeps_SM.sum(axis=1) >= 2]  # noqa: PLR2004 - one candidate is no choice


def one_outcome_quality(past: OutcomeTable, test: OutcomeTable, seed: int) -> float:
    """Return the quality after training on one outcome per query, drawn with known chances."""
    rng = np.random.default_rng(seed)
    available_NM = past.rows.available_NM
    chance_NM = np.where(available_NM, rng.uniform(0.5, 1.5, available_NM.shape), 0.0)
    chance_NM /= chance_NM.sum(axis=1, keepdims=True)
    drawn_N1 = rng.random((len(chance_NM), 1))
    chosen_N = (drawn_N1 > chance_NM.cumsum(axis=1)).sum(axis=1).clip(max=chance_NM.shape[1] - 1)
    seen_NM = (np.arange(chance_NM.shape[1]) == chosen_N[:, None]) & available_NM
    logged = dataclasses.replace(past.rows, propensity_NM=chance_NM).with_observed(seen_NM)
    artifact, _ = fit_router(
        logged, FitConfig(seed=seed), schema=past.schema, candidates=past.candidates
    )
    return float(np.nanmean(earned(predicted(artifact, test), test)))
