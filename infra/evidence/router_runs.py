"""What the router's evidence is made of: independent runs, each in a process of its own."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from router.features.extract import FeatureExtractor
from router.features.weights import DEFAULT_FOLDER
from training.benchmark.pool_changes import (
    Addition,
    Removal,
    additions,
    earned,
    one_outcome_quality,
    predicted,
    removals,
)
from training.benchmark.protocol import PoolResult, run_protocol
from training.benchmark.reliability import FloorCheck, check_floors
from training.benchmark.rivals.all_rivals import ablations, all_rivals
from training.benchmark.rivals.neighbours import NearestNeighbours
from training.benchmark.rivals.pointsman import Blend, Pointsman
from training.benchmark.rivals.torch_fit import TorchConfig
from training.benchmark.sources import SourceSpec, load_table
from training.benchmark.speed import (
    Timing,
    peak_mb,
    permutation_error,
    time_encoders,
    time_large_pools,
    time_small_pools,
)
from training.fitting.fit import FitConfig, fit_router

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from router.artifact import RouterArtifact
    from training.benchmark.rivals.rival import Rival
    from training.benchmark.table import OutcomeTable

POOLS = ("blindtest", "dynamath", "B_img_5", "joint_3", "all")
NUM_SEEDS = 5
MAIN_RIVALS = (
    *("random", "cheapest", "best_single", "knn", "kmeans", "ridge", "ridge_raw", "mlp_mf"),
    *("latent_router", "pointsman", "oracle"),
)
LARGE = "all"
LARGE_RIVALS = tuple(name for name in MAIN_RIVALS if name != "ridge_raw")
MAX_STEPS = 500
LARGE_MAX_STEPS = 80
"""A step of the published network takes 0.5 s over 60 candidates, 30 ms over 4."""

PRICED = ("B_img_5",)
"""Pools whose candidates differ enough in cost for a cost weight to be chosen; each rival is
fitted a second time for that."""

CHANGED_POOLS = {"blindtest": 2, "dynamath": 1, "B_img_5": 3, "joint_3": 2}
"""Pools on which candidates come and go, with the number of seeds."""

RELIABLE_SEEDS = {"all": 2}
ABLATED_POOLS = {"blindtest": 1, "B_img_5": 2}


class Proof(NamedTuple):
    """How one pool takes change, and whether figures mean what they say there."""

    pool: str
    full: list[float]
    """Quality by seed with all outcomes."""

    one_outcome: list[float]
    """Quality by seed with one outcome per query."""

    additions: list[Addition]
    removals: list[Removal]
    floors: list[list[FloorCheck]]
    predicted_A: NDArray[np.float64]
    score_A: NDArray[np.float64]
    candidate_A: NDArray[np.int64]
    group_A: NDArray[np.int64]
    """Predictions and outcomes of all seeds' test rows, entry by entry."""


class Cost(NamedTuple):
    """What one training took."""

    wall_s: float
    epoch_s: float
    """Wall time of one pass over the rows; of the whole training where there are no passes."""

    memory_mb: float
    """Most memory beyond what was held before."""


@dataclass(frozen=True, slots=True)
class Run:
    """One task of the evidence."""

    kind: str
    pool: str
    data: Path


def table(data: Path, pool: str) -> OutcomeTable:
    """Return a pool, its features from the cache."""
    return load_table(
        SourceSpec(published=data, pool=pool),
        report=lambda _: None,
        encoder_folder=DEFAULT_FOLDER,
    )


def carry_out(run: Run) -> object:
    """Do one run; called in a process of its own."""
    import torch  # noqa: PLC0415 - only here

    torch.set_num_threads(1)
    return _KINDS[run.kind](run)


def _protocol(run: Run) -> PoolResult:
    is_large = run.pool == LARGE
    steps = LARGE_MAX_STEPS if is_large else MAX_STEPS
    return run_protocol(
        table(run.data, run.pool),
        all_rivals(
            LARGE_RIVALS if is_large else MAIN_RIVALS, training=TorchConfig(max_steps=steps)
        ),
        seeds=range(NUM_SEEDS),
        chooses_weight=run.pool in PRICED,
    )


def _ablation(run: Run) -> PoolResult:
    """Take parts away from the router that serves and from the published one, one at a time."""
    whole = Pointsman()
    small = dataclasses.replace(whole.config, num_anchors=256)
    rivals: tuple[Rival, ...] = (
        whole,
        Pointsman(name="without text encoder", dropped_blocks=frozenset({"text"})),
        Pointsman(name="without image encoder", dropped_blocks=frozenset({"image"})),
        Pointsman(
            name="without statistics and text density",
            dropped_blocks=frozenset({"question", "image_statistics", "text_density"}),
        ),
        Pointsman(name="256 anchors", config=small),
        Pointsman(name="64 components", config=FitConfig(num_components=64)),
        Pointsman(name="one penalty for both", config=FitConfig(shares_penalty=True)),
        Blend(name="blend with kNN", parts=((0.7, whole), (0.3, NearestNeighbours()))),
        *all_rivals(["latent_router"], training=TorchConfig(max_steps=MAX_STEPS)),
        *ablations(whole, training=TorchConfig(max_steps=MAX_STEPS)),
    )
    return run_protocol(
        table(run.data, run.pool),
        rivals,
        seeds=range(ABLATED_POOLS[run.pool]),
        chooses_weight=False,
    )


def cut(whole: OutcomeTable, seed: int) -> tuple[OutcomeTable, OutcomeTable]:
    """Return past rows, training and validation together, and test rows."""
    parts = whole.split(seed)
    is_test_N = np.isin(whole.rows.group_N, np.unique(parts.test.rows.group_N))
    return whole.subset(~is_test_N), parts.test


def fit(past: OutcomeTable, seed: int) -> RouterArtifact:
    """Train the router on past rows."""
    return fit_router(
        past.rows, FitConfig(seed=seed), schema=past.schema, candidates=past.candidates
    )[0]


def _proof(run: Run) -> Proof:
    whole = table(run.data, run.pool)
    nothing_A, nobody_A = np.empty(0), np.empty(0, dtype=np.int64)
    proof = Proof(run.pool, [], [], [], [], [], nothing_A, nothing_A, nobody_A, nobody_A)
    entries: list[tuple[NDArray[Any], ...]] = []
    for seed in range(RELIABLE_SEEDS.get(run.pool, NUM_SEEDS)):
        past, test = cut(whole, seed)
        artifact = fit(past, seed)
        quality_NM = predicted(artifact, test)
        seen_NM = test.rows.observed()
        row_A, candidate_A = np.nonzero(seen_NM)
        entries.append(
            (
                quality_NM[seen_NM],
                test.rows.score_NM[seen_NM],
                candidate_A,
                test.rows.group_N[row_A],
            )
        )
        proof.floors.append(check_floors(artifact, test))
        if seed < CHANGED_POOLS.get(run.pool, 0):
            proof.full.append(float(np.nanmean(earned(quality_NM, test))))
            proof.one_outcome.append(one_outcome_quality(past, test, seed))
            proof.additions.extend(additions(past, test, artifact, seed))
            proof.removals.append(removals(past, test, artifact, seed))
    columns = [np.concatenate(column) for column in zip(*entries, strict=True)]
    return proof._replace(
        predicted_A=columns[0], score_A=columns[1], candidate_A=columns[2], group_A=columns[3]
    )


def large_set(data: Path) -> OutcomeTable:
    """Return 9,000 queries and the 22 candidates that were asked most."""
    whole = table(data, LARGE)
    most = set(np.argsort(-whole.rows.num_observed())[:22].tolist())
    names = [name for m, name in enumerate(whole.rows.candidate_ids) if m not in most]
    rows = whole.rows
    for name in names:
        rows = rows.without_candidate(name)
    kept_M = np.array([m in most for m in range(len(whole.candidates))])
    trimmed = dataclasses.replace(
        whole,
        rows=rows,
        candidates=tuple(c for c in whole.candidates if c.id in rows.candidate_ids),
        cost_usd_NM=whole.cost_usd_NM[:, kept_M],
    )
    answered = np.flatnonzero(rows.available_NM.sum(axis=1) > 1)
    chosen = np.random.default_rng(0).permutation(answered)[:9000]
    return trimmed.subset(np.sort(chosen))


def _train_router(run: Run) -> Cost:
    past = large_set(run.data)
    before_mb, began = peak_mb(), time.monotonic()
    fit(past, 0)
    wall_s = time.monotonic() - began
    return Cost(wall_s, wall_s, peak_mb() - before_mb)


def _train_published(run: Run) -> Cost:
    """Train the published network for one pass, its pairs laid out as published."""
    from training.benchmark.rivals.latent_network import LatentConfig  # noqa: PLC0415 - torch takes seconds to import
    from training.benchmark.rivals.latent_router import LatentRouter  # noqa: PLC0415 - torch takes seconds to import

    past = large_set(run.data)
    num_steps = -(-int(0.875 * len(past)) // 128)
    rival = LatentRouter(
        network=LatentConfig(pair_form="literal"), training=TorchConfig(max_steps=num_steps)
    )
    before_mb = peak_mb()
    result = run_protocol(past, [rival], seeds=[0], chooses_weight=False)
    wall_s = result.seeds[0].rivals[0].fit_s
    return Cost(wall_s, wall_s, peak_mb() - before_mb)


class Speed(NamedTuple):
    """Timings of decisions, and the memory of the largest pool."""

    small: list[Timing]
    large: list[Timing]
    large_mb: float
    encoders_ms: tuple[float, float]
    """Of a question and a picture first seen, and seen before."""

    permutation_error: float


def _speed(run: Run) -> Speed:
    past, test = cut(table(run.data, run.pool), 0)
    artifact = fit(past, 0)
    features_NF = test.rows.features_NF
    small = time_small_pools(artifact, features_NF)
    before_mb = peak_mb()
    large = time_large_pools(artifact, features_NF)
    return Speed(
        small,
        large,
        peak_mb() - before_mb,
        time_encoders(FeatureExtractor.load(DEFAULT_FOLDER)),
        permutation_error(artifact, features_NF),
    )


_KINDS = {
    "protocol": _protocol,
    "ablation": _ablation,
    "proof": _proof,
    "train_router": _train_router,
    "train_published": _train_published,
    "speed": _speed,
}
