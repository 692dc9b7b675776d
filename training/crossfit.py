"""Step 8, retrain: turn a training set into network inputs in which no row sees its own label.

A candidate's profile is an input, and a profile is counted from labels. A row whose profile
held its own label would teach the network to read it back, so profiles are cross-fitted: groups
are cut into folds, and the rows of a fold see profiles counted on the other folds. Projection
and kinds never look at labels and are fitted on the training rows.

Axis legend: N = training rows, B = rows of a batch, M = candidates, D = query vector,
K = kinds, P = capability vector, S = folds, V = variants of a profile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from router.errors import InvalidInputError
from router.features.project import Projection
from router.kinds import Kinds
from router.latent_scorer import query_vectors
from router.profile import NUM_ECONOMY_COLUMNS, PoolEconomics, capability_vector
from router.profile_estimate import Observations, estimate_profile
from router.utility import Reference
from training.losses import Targets

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from router.candidate import Candidate
    from router.features.schema import FeatureSchema
    from router.profile import Profile
    from training.dataset import TrainingSet
    from training.fit_config import FitConfig

VARIANT_ROWS = (None, 128, 32, 0)
"""Outcomes behind each variant of a profile: all, two calibration sets, none. A network that met
only rich profiles would not know what to do with a candidate that arrived today."""

VARIANT_SHARES = (0.7, 0.15, 0.1, 0.05)
"""How often a training row meets each variant."""

ECONOMY_JITTER = 0.2
"""Noise on the economy columns while training, in their own unit (0.4 decades of cost). With few
candidates each has its own price, and quality would be learned as a function of the price."""


class Batch(NamedTuple):
    """Tensors of one step."""

    query_BD: torch.Tensor
    capability_BMP: torch.Tensor
    available_BM: torch.Tensor
    targets: Targets

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on a device."""
        return Batch(
            self.query_BD.to(device),
            self.capability_BMP.to(device),
            self.available_BM.to(device),
            Targets(*(tensor.to(device) for tensor in self.targets)),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Encoding:
    """What is fitted before the network: from raw features to its query input, and the units."""

    projection: Projection
    kinds: Kinds
    reference: Reference

    def encode(self, training_set: TrainingSet) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return query vectors (N, D) and memberships (N, K)."""
        projected_ND = self.projection.transform(training_set.features_NF)
        membership_NK = self.kinds.assign(projected_ND)
        return query_vectors(projected_ND, membership_NK), membership_NK


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """Training rows as network input."""

    encoding: Encoding
    query_ND: NDArray[np.float32]
    capability_SVMP: NDArray[np.float32]
    """Capability vectors for the rows of each fold, by variant."""

    fold_N: NDArray[np.int64]
    available_NM: NDArray[np.bool_]
    targets: Targets
    """Over all N rows."""

    profiles: tuple[Profile, ...]
    """Profiles from all training rows: input for rows that are not among them."""


def inverse_propensity(training_set: TrainingSet, weight_clip: float) -> NDArray[np.float64]:
    """Return 1 / propensity, at most ``weight_clip``; 0 where not observed. Shape (N, M)."""
    observed_NM = training_set.observed()
    chance_NM = np.where(observed_NM, training_set.propensity_NM, 1.0)
    weight_NM: NDArray[np.float64] = np.where(
        observed_NM, np.minimum(1.0 / chance_NM, weight_clip), 0.0
    )
    return weight_NM


def estimate_profiles(
    training_set: TrainingSet,
    projected_ND: NDArray[np.floating],
    kinds: Kinds,
    *,
    weight_clip: float,
    use_NM: NDArray[np.bool_] | None = None,
) -> tuple[Profile, ...]:
    """Estimate the profile of every candidate from the entries that may be used.

    Args:
        training_set: Outcomes.
        projected_ND: Their projected features.
        kinds: Kinds of query.
        weight_clip: Most that an inverse propensity may weigh.
        use_NM: Entries that count; all when None.
    """
    weight_NM = inverse_propensity(training_set, weight_clip)
    membership_NK = kinds.assign(np.asarray(projected_ND, dtype=np.float32))
    use_NM = np.ones_like(training_set.available_NM) if use_NM is None else use_NM
    profiles = []
    for m, name in enumerate(training_set.candidate_ids):
        rows = np.flatnonzero(use_NM[:, m])
        observed = Observations(
            membership_NK=membership_NK[rows],
            score_N=training_set.score_NM[rows, m],
            weight_N=weight_NM[rows, m],
            num_chars_N=training_set.num_chars_N[rows],
            num_images_N=training_set.num_images_N[rows],
            input_tokens_N=training_set.input_tokens_NM[rows, m],
            output_tokens_N=training_set.output_tokens_NM[rows, m],
            latency_s_N=training_set.latency_s_NM[rows, m],
            ttft_s_N=training_set.ttft_s_NM[rows, m],
            projected_ND=projected_ND[rows],
        )
        profiles.append(estimate_profile(name, observed, kinds))
    return tuple(profiles)


def prepare(
    train: TrainingSet,
    config: FitConfig,
    *,
    schema: FeatureSchema,
    candidates: Sequence[Candidate],
) -> Prepared:
    """Fit projection and kinds, cross-fit profiles, and lay out all rows.

    Deterministic in ``config.seed``, so every worker of a distributed run prepares the same.

    Raises:
        InvalidInputError: If there is no row, or the candidates are not the set's columns.
    """
    if not len(train):
        raise InvalidInputError("there is no row to train on", "training_set")
    if tuple(candidate.id for candidate in candidates) != train.candidate_ids:
        raise InvalidInputError(
            f"candidates must be the set's columns {train.candidate_ids} in order", "candidates"
        )
    projection = Projection.fit(train.features_NF, schema, num_components=config.num_components)
    projected_ND = projection.transform(train.features_NF)
    kinds = Kinds.fit(projected_ND, num_kinds=config.num_kinds, seed=config.seed)
    membership_NK = kinds.assign(projected_ND)
    profiles = estimate_profiles(train, projected_ND, kinds, weight_clip=config.weight_clip)
    reference = reference_units(profiles, candidates, train, membership_NK)
    encoding = Encoding(projection=projection, kinds=kinds, reference=reference)
    fold_N, profiles_SVM = _cross_fitted(train, projected_ND, kinds, config)
    capability_SVMP = np.stack(
        [np.stack([capabilities(row, candidates) for row in fold]) for fold in profiles_SVM]
    )
    penalty_NM = np.zeros(train.available_NM.shape)
    for fold, variants in enumerate(profiles_SVM):
        rows = fold_N == fold
        penalty_NM[rows] = penalties(
            variants[0], candidates, train.subset(rows), membership_NK[rows], reference, config
        )
    return Prepared(
        encoding=encoding,
        query_ND=query_vectors(projected_ND, membership_NK),
        capability_SVMP=capability_SVMP,
        fold_N=fold_N,
        available_NM=train.available_NM,
        targets=targets(train, penalty_NM, config.weight_clip),
        profiles=profiles,
    )


def _cross_fitted(
    train: TrainingSet, projected_ND: NDArray[np.float32], kinds: Kinds, config: FitConfig
) -> tuple[NDArray[np.int64], list[list[tuple[Profile, ...]]]]:
    """Return each row's fold, and for each fold the profile variants counted on the others."""
    num_folds = min(config.num_folds, len(np.unique(train.group_N)))
    fold_N = train.folds(num_folds, config.seed)
    rng = np.random.default_rng(config.seed)
    profiles_SVM = []
    for fold in range(num_folds):
        others_NM = np.repeat((fold_N != fold)[:, None], len(train.candidate_ids), axis=1)
        variants = [
            estimate_profiles(
                train,
                projected_ND,
                kinds,
                weight_clip=config.weight_clip,
                use_NM=_thin(others_NM, train.observed(), num_rows, rng),
            )
            for num_rows in VARIANT_ROWS
        ]
        profiles_SVM.append(variants)
    return fold_N, profiles_SVM


def _thin(
    use_NM: NDArray[np.bool_],
    observed_NM: NDArray[np.bool_],
    num_rows: int | None,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Keep ``num_rows`` random observed entries of each column; all usable ones when None."""
    if num_rows is None:
        return use_NM
    order_NM = np.where(use_NM & observed_NM, rng.random(use_NM.shape), np.inf)
    rank_NM = order_NM.argsort(axis=0).argsort(axis=0)
    return np.asarray((rank_NM < num_rows) & np.isfinite(order_NM))


def capabilities(
    profiles: Sequence[Profile], candidates: Sequence[Candidate]
) -> NDArray[np.float32]:
    """Return the capability vectors of a pool, (M, P)."""
    pairs = zip(profiles, candidates, strict=True)
    return np.stack(
        [capability_vector(profile, c.price, len(profile.slope_D)) for profile, c in pairs]
    )


def reference_units(
    profiles: Sequence[Profile],
    candidates: Sequence[Candidate],
    train: TrainingSet,
    membership_NK: NDArray[np.float32],
) -> Reference:
    """Return mean cost of the dearest and median latency of the slowest candidate.

    A pool that costs nothing gets the unit 1 USD: its normalised cost is 0 either way.
    """
    pool = PoolEconomics.of(profiles, [candidate.price for candidate in candidates])
    cost_usd = pool.cost_usd(train.num_chars_N, train.num_images_N, membership_NK)
    return Reference(
        cost_usd=float(cost_usd.mean(axis=0).max()) or 1.0,
        latency_s=max(profile.latency_s_p50 for profile in profiles),
    )


def penalties(
    profiles: Sequence[Profile],
    candidates: Sequence[Candidate],
    rows: TrainingSet,
    membership_NK: NDArray[np.float32],
    reference: Reference,
    config: FitConfig,
) -> NDArray[np.float64]:
    """Return weighted, normalised, *predicted* cost and latency, (N, M)."""
    pool = PoolEconomics.of(profiles, [candidate.price for candidate in candidates])
    cost_usd = pool.cost_usd(rows.num_chars_N, rows.num_images_N, membership_NK)
    penalty_NM: NDArray[np.float64] = (
        config.cost_weight * cost_usd / reference.cost_usd
        + config.latency_weight * pool.latency_s(membership_NK) / reference.latency_s
    )
    return penalty_NM


def targets(rows: TrainingSet, penalty_NM: NDArray[np.float64], weight_clip: float) -> Targets:
    """Return the targets of all rows as float32 tensors."""
    return Targets(
        quality_BM=torch.from_numpy(rows.score_NM.astype(np.float32)),
        penalty_BM=torch.from_numpy(penalty_NM.astype(np.float32)),
        observed_BM=torch.from_numpy(rows.observed()),
        weight_BM=torch.from_numpy(inverse_propensity(rows, weight_clip).astype(np.float32)),
    )


def epoch_batches(
    prepared: Prepared,
    config: FitConfig,
    rng: np.random.Generator,
    *,
    rank: int = 0,
    num_ranks: int = 1,
) -> Iterator[Batch]:
    """Yield one worker's share of a shuffled epoch, with random pools and profile variants.

    Every worker passes a generator of the same seed, gets other rows and equally many batches.
    """
    order_N = rng.permutation(len(prepared.query_ND))
    share_N = order_N[: len(order_N) - len(order_N) % num_ranks][rank::num_ranks]
    for start in range(0, len(share_N), config.batch_size):
        yield _draw(prepared, share_N[start : start + config.batch_size], config, rng)


def _draw(
    prepared: Prepared, rows_B: NDArray[np.int64], config: FitConfig, rng: np.random.Generator
) -> Batch:
    num_candidates = prepared.available_NM.shape[1]
    shape = (len(rows_B), num_candidates)
    variant_BM = rng.choice(len(VARIANT_ROWS), size=shape, p=VARIANT_SHARES)
    capability_BMP = prepared.capability_SVMP[
        prepared.fold_N[rows_B][:, None], variant_BM, np.arange(num_candidates)
    ].copy()
    jitter = rng.normal(0.0, ECONOMY_JITTER, size=(*shape, NUM_ECONOMY_COLUMNS))
    capability_BMP[..., -NUM_ECONOMY_COLUMNS:] += jitter.astype(np.float32)
    chosen = Targets(*(tensor[torch.from_numpy(rows_B)] for tensor in prepared.targets))
    observed_BM = chosen.observed_BM.numpy()
    available_BM = prepared.available_NM[rows_B]
    # Random pools: the network must rank whoever is left. One observed candidate always stays,
    # since a row without a label teaches nothing.
    stays_BM = (rng.random(shape) * observed_BM).argmax(axis=1)[:, None] == np.arange(shape[1])
    kept_BM = available_BM & (stays_BM | (rng.random(shape) >= config.candidate_dropout))
    return Batch(
        query_BD=torch.from_numpy(prepared.query_ND[rows_B]),
        capability_BMP=torch.from_numpy(capability_BMP),
        available_BM=torch.from_numpy(kept_BM),
        targets=chosen._replace(observed_BM=torch.from_numpy(observed_BM & kept_BM)),
    )
