"""Step 8, retrain: a training set comes in, a router artifact and a report go out.

Pure: no Ray, no clock, no file. Nothing is trained step by step; all is least squares, so the same
rows give the same router.

Axis legend: N = rows, M = candidates, K = kinds, R = basis functions.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from router.anchors import Anchors
from router.artifact import RouterArtifact
from router.errors import InvalidInputError
from router.features.project import Projection
from router.floor import Floor
from router.kinds import Kinds
from router.profile import PoolEconomics
from router.profile_estimate import Observations, count_weights, estimate_profile
from router.query_model import LevelPrior, QueryModel, reference_cost_usd
from router.utility import Reference
from training.fitting.crossfit import cross_fit, fit_weights
from training.fitting.fit_config import FitConfig
from training.fitting.policy_value import PolicyValue, greedy, policy_value, uniform

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from router.candidate import Candidate
    from router.features.schema import FeatureSchema
    from router.profile import Profile
    from training.data.dataset import TrainingSet
    from training.fitting.crossfit import Crew, CrossFit, Weights

__all__ = ["FitConfig", "FitReport", "PolicyValue", "add_profile", "fit_router"]

MIN_PRIOR_STD = 0.05
DEFAULT_PRIOR_STD = 0.15
"""Spread of levels about the line of prices where two candidates or fewer cannot tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitReport:
    """How training went."""

    num_rows: int
    num_labels: int
    difficulty_penalty: float
    token_penalty: float
    noise_std: float
    """Root mean squared error of left-out predictions."""

    values: dict[str, PolicyValue]
    """On left-out rows: ``router``, ``best_single``, ``random``; ``oracle`` where every available
    candidate of every row was observed."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Rows:
    """The training rows in all the forms that training needs."""

    training_set: TrainingSet
    projection: Projection
    kinds: Kinds
    anchors: Anchors
    membership_NK: NDArray[np.float32]
    basis_NR: NDArray[np.float32]
    inverse_NM: NDArray[np.float64]
    """Clipped inverse propensity; 0 where not observed."""


def fit_router(
    training_set: TrainingSet,
    config: FitConfig,
    *,
    schema: FeatureSchema,
    candidates: Sequence[Candidate],
    on_stage: Callable[[str], None] = lambda _: None,
    crew: Crew | None = None,
) -> tuple[RouterArtifact, FitReport]:
    """Train a router.

    Args:
        training_set: Rows to learn from; test rows are the caller's to keep out.
        config: How.
        schema: Layout of the raw features.
        candidates: The set's columns, in order.
        on_stage: Told what begins.
        crew: The workers that share the folds, and where a training that was cut off goes on.

    Raises:
        InvalidInputError: If there is no row, no label, or the columns do not match.
    """
    _check(training_set, candidates)
    on_stage("features, kinds and anchors")
    rows = _lay_out(training_set, config, schema)
    weight_NM = count_weights(rows.inverse_NM)
    on_stage("penalties, on left-out folds")
    crossed = _crossed(rows, weight_NM, config, crew)
    on_stage("difficulty and capability tokens")
    weights = fit_weights(rows.basis_NR, training_set.score_NM, weight_NM, crossed.penalties)
    queries = _query_model(rows, weights, crossed, candidates)
    profiles = tuple(_profile(rows, m, queries, c) for m, c in enumerate(candidates))
    economics = _Economics.of(rows, profiles, candidates)
    report = _report(rows, crossed)
    artifact = RouterArtifact(
        version=config.version,
        schema=schema,
        projection=rows.projection,
        kinds=rows.kinds,
        queries=queries,
        floor=_floor(training_set, crossed.quality_NM, economics.cost_NM),
        profiles={profile.candidate_id: profile for profile in profiles},
        reference=economics.reference,
        training_summary=_summary(config, report, training_set),
    )
    return artifact, report


def _crossed(
    rows: _Rows, weight_NM: NDArray[np.float32], config: FitConfig, crew: Crew | None
) -> CrossFit:
    return cross_fit(
        rows.basis_NR,
        rows.training_set.score_NM,
        weight_NM,
        rows.training_set.folds(config.num_folds, config.seed),
        shares_penalty=config.shares_penalty,
        crew=crew,
    )


def _query_model(
    rows: _Rows, weights: Weights, crossed: CrossFit, candidates: Sequence[Candidate]
) -> QueryModel:
    energy_KR = rows.membership_NK.T @ np.square(rows.basis_NR)
    count_M = (rows.inverse_NM > 0).sum(axis=0)
    return QueryModel(
        anchors=rows.anchors,
        difficulty_R=weights.difficulty_R,
        energy_KR=energy_KR / np.maximum(rows.membership_NK.sum(axis=0)[:, None], 1e-9),
        token_penalty=crossed.penalties.token,
        noise_std=crossed.noise_std,
        level_prior=_level_prior(weights.token_RM[0], count_M, candidates),
    )


def add_profile(
    artifact: RouterArtifact, training_set: TrainingSet, candidate: Candidate
) -> Profile:
    """Estimate the profile of a candidate that the artifact was not trained on.

    Args:
        artifact: Gives projection, kinds and query model; is not changed.
        training_set: Rows with the candidate among the columns; none of them labelled is fine.
        candidate: Whom.

    Raises:
        InvalidInputError: If the candidate is no column of the set.
    """
    if candidate.id not in training_set.candidate_ids:
        raise InvalidInputError(
            f"{candidate.id!r} is none of the columns {training_set.candidate_ids}", "candidate"
        )
    column = training_set.candidate_ids.index(candidate.id)
    projected_ND = artifact.projection.transform(training_set.features_NF)
    rows = _Rows(
        training_set=training_set,
        projection=artifact.projection,
        kinds=artifact.kinds,
        anchors=artifact.queries.anchors,
        membership_NK=artifact.kinds.assign(projected_ND),
        basis_NR=artifact.queries.anchors.basis(projected_ND),
        inverse_NM=inverse_propensity(training_set, FitConfig().weight_clip),
    )
    return _profile(rows, column, artifact.queries, candidate)


def inverse_propensity(training_set: TrainingSet, weight_clip: float) -> NDArray[np.float64]:
    """Return 1 / propensity, at most ``weight_clip``; 0 where not observed. Shape (N, M)."""
    observed_NM = training_set.observed()
    chance_NM = np.where(observed_NM, training_set.propensity_NM, 1.0)
    weight_NM: NDArray[np.float64] = np.where(
        observed_NM, np.minimum(1.0 / chance_NM, weight_clip), 0.0
    )
    return weight_NM


def _check(training_set: TrainingSet, candidates: Sequence[Candidate]) -> None:
    if tuple(candidate.id for candidate in candidates) != training_set.candidate_ids:
        raise InvalidInputError(
            f"candidates must be the set's columns {training_set.candidate_ids} in order",
            "candidates",
        )
    if not training_set.observed().any():
        raise InvalidInputError("no outcome carries a label; nothing can be learned", "score_NM")


def _lay_out(training_set: TrainingSet, config: FitConfig, schema: FeatureSchema) -> _Rows:
    projection = Projection.fit(
        training_set.features_NF, schema, num_components=config.num_components
    )
    projected_ND = projection.transform(training_set.features_NF)
    kinds = Kinds.fit(projected_ND, num_kinds=config.num_kinds, seed=config.seed)
    anchors = Anchors.fit(
        projected_ND, projection, num_anchors=config.num_anchors, seed=config.seed
    )
    return _Rows(
        training_set=training_set,
        projection=projection,
        kinds=kinds,
        anchors=anchors,
        membership_NK=kinds.assign(projected_ND),
        basis_NR=anchors.basis(projected_ND),
        inverse_NM=inverse_propensity(training_set, config.weight_clip),
    )


def _level_prior(
    level_M: NDArray[np.float32], count_M: NDArray[np.int64], candidates: Sequence[Candidate]
) -> LevelPrior:
    """Fit a line of levels over log prices, shrunk to flat by two pseudo-candidates."""
    cost_M = np.array([reference_cost_usd(candidate.price) for candidate in candidates])
    seen_M = count_M > 0
    known_M = seen_M & (cost_M > 0)
    level_M = level_M.astype(np.float64)
    mean = float(np.clip(level_M[seen_M].mean(), -1.0, 1.0))
    if known_M.sum() < 3:  # noqa: PLR2004 - a line through two points fits by itself
        return LevelPrior(mean=mean, std=DEFAULT_PRIOR_STD)
    decades_M = np.log10(cost_M[known_M])
    apart_M = decades_M - decades_M.mean()
    slope = float(apart_M @ level_M[known_M] / (apart_M @ apart_M + 2.0))
    rest_M = level_M[known_M] - level_M[known_M].mean() - slope * apart_M
    return LevelPrior(
        mean=float(np.clip(level_M[known_M].mean(), -1.0, 1.0)),
        per_decade=float(np.clip(slope, -1.0, 1.0)),
        centre=float(decades_M.mean()),
        std=float(np.clip(rest_M.std(ddof=1), MIN_PRIOR_STD, 1.0)),
    )


def _profile(rows: _Rows, column: int, queries: QueryModel, candidate: Candidate) -> Profile:
    """Count one candidate's outcomes and estimate its token."""
    known = rows.training_set
    index = np.flatnonzero(rows.inverse_NM[:, column] > 0)
    observed = Observations(
        membership_NK=rows.membership_NK[index],
        score_N=known.score_NM[index, column],
        weight_N=rows.inverse_NM[index, column],
        num_chars_N=known.num_chars_N[index],
        num_images_N=known.num_images_N[index],
        input_tokens_N=known.input_tokens_NM[index, column],
        output_tokens_N=known.output_tokens_NM[index, column],
        latency_s_N=known.latency_s_NM[index, column],
        ttft_s_N=known.ttft_s_NM[index, column],
        basis_NR=rows.basis_NR[index],
    )
    return estimate_profile(candidate.id, observed, rows.kinds, queries, price=candidate.price)


@dataclass(frozen=True, slots=True, eq=False)
class _Economics:
    """Predicted cost of the training rows, and the units of cost and latency."""

    cost_NM: NDArray[np.float64]
    reference: Reference

    @classmethod
    def of(
        cls, rows: _Rows, profiles: Sequence[Profile], candidates: Sequence[Candidate]
    ) -> _Economics:
        """A pool that costs nothing gets the unit 1 USD: its normalised cost is 0 either way."""
        pool = PoolEconomics.of(profiles, [candidate.price for candidate in candidates])
        known = rows.training_set
        cost_NM = pool.cost_usd(known.num_chars_N, known.num_images_N, rows.membership_NK)
        reference = Reference(
            cost_usd=float(cost_NM.mean(axis=0).max()) or 1.0,
            latency_s=max(profile.latency_s_p50 for profile in profiles),
        )
        return cls(cost_NM, reference)


def _floor(
    training_set: TrainingSet, quality_NM: NDArray[np.float64], cost_NM: NDArray[np.float64]
) -> Floor:
    full_N = training_set.full_information()

    def of(array_NM: ArrayLike) -> NDArray[Any]:
        return np.asarray(array_NM)[full_N]

    return Floor.calibrate(
        of(quality_NM), of(cost_NM), of(training_set.score_NM), of(training_set.available_NM)
    )


def _report(rows: _Rows, crossed: CrossFit) -> FitReport:
    """Value the plainest policies and the router's own on rows that it did not see."""
    known = rows.training_set
    available_NM, weight_NM = known.available_NM, rows.inverse_NM
    total_M = weight_NM.sum(axis=0)
    score_NM = np.where(weight_NM > 0, known.score_NM, 0.0).astype(np.float64)
    mean_M = np.divide(
        (weight_NM * score_NM).sum(axis=0), total_M, out=np.full(len(total_M), -1.0),
        where=total_M > 0,
    )  # fmt: skip
    policies = {
        "router": greedy(crossed.quality_NM, available_NM),
        "best_single": greedy(np.broadcast_to(mean_M, available_NM.shape), available_NM),
        "random": uniform(available_NM),
    }
    if known.full_information()[available_NM.any(axis=1)].all():
        policies["oracle"] = greedy(np.where(weight_NM > 0, score_NM, -np.inf), available_NM)
    values = {}
    for name, policy_NM in policies.items():
        quality = policy_value(policy_NM, score_NM, weight_NM)
        values[name] = PolicyValue(quality=quality, utility=quality)
    return FitReport(
        num_rows=len(known),
        num_labels=int(known.observed().sum()),
        difficulty_penalty=crossed.penalties.difficulty,
        token_penalty=crossed.penalties.token,
        noise_std=crossed.noise_std,
        values=values,
    )


def _summary(config: FitConfig, report: FitReport, training_set: TrainingSet) -> dict[str, Any]:
    """Return what the artifact tells of its training, in JSON values; NaN becomes null."""
    record = {
        "config": dataclasses.asdict(config),
        "num_observed": training_set.num_observed().tolist(),
        **dataclasses.asdict(report),
    }
    summary: dict[str, Any] = _without_nan(record)
    return summary


def _without_nan(record: object) -> Any:  # noqa: ANN401 - JSON values
    if isinstance(record, dict):
        return {key: _without_nan(value) for key, value in record.items()}
    if isinstance(record, float) and not math.isfinite(record):
        return None
    return record
