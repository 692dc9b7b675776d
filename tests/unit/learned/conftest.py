"""A world of known truth: features carry a kind of query, and each candidate is good at its own.

Axis legend: N = queries, F = features, M = candidates, K = true kinds.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from router.candidate import Candidate, Price
from router.features.schema import FeatureBlock, FeatureSchema
from training.data.dataset import TrainingSet
from training.fitting.fit import FitConfig, fit_router

NUM_FEATURES = 24
SCHEMA = FeatureSchema(
    (
        FeatureBlock(name="text", encoder="made-up", sha256="0" * 64, dim=16),
        FeatureBlock(name="image", encoder="made-up", sha256="1" * 64, dim=8),
    )
)
QUALITY_MK = np.array(
    [
        [0.90, 0.40, 0.35, 0.50],
        [0.35, 0.90, 0.40, 0.45],
        [0.40, 0.35, 0.90, 0.50],
        [0.60, 0.60, 0.60, 0.60],
    ]
)
CANDIDATES = tuple(
    Candidate(id=name, price=Price(input_usd_per_mtok=price, output_usd_per_mtok=4 * price))
    for name, price in (("aster", 0.1), ("birch", 0.3), ("cedar", 1.0), ("dune", 3.0))
)


def features_of(kind_N, rng):
    """Return features whose mean tells the kind, under noise."""
    centres_KF = np.random.default_rng(99).normal(size=(4, NUM_FEATURES))
    noise_NF = 0.8 * rng.normal(size=(len(kind_N), NUM_FEATURES))
    return (centres_KF[kind_N] + noise_NF).astype(np.float32)


def make_world(num_rows=600, seed=0, *, logged=False):
    """Return a training set and the true expected quality (N, M).

    Args:
        num_rows: Queries.
        seed: Of everything.
        logged: One outcome per query, drawn with known unequal propensities.
    """
    rng = np.random.default_rng(seed)
    kind_N = rng.integers(0, 4, num_rows)
    true_NM = QUALITY_MK[:, kind_N].T
    score_NM = (rng.random(true_NM.shape) < true_NM).astype(np.float32)
    num_chars_N = rng.integers(20, 400, num_rows)
    num_images_N = rng.integers(0, 3, num_rows)
    shape = true_NM.shape
    tokens_NM = (30 + 0.25 * num_chars_N + 64 * num_images_N)[:, None] + rng.normal(0, 2, shape)
    output_NM = np.array([20.0, 40.0, 80.0, 160.0]) * (1 + kind_N[:, None]) + rng.random(shape)
    propensity_NM = np.ones(shape)
    if logged:
        propensity_NM = np.full(shape, 0.1)
        propensity_NM[np.arange(num_rows), rng.integers(0, 4, num_rows)] = 0.7
        chosen_N = (rng.random(num_rows)[:, None] > propensity_NM.cumsum(axis=1)).sum(axis=1)
        unseen_NM = np.arange(4) != chosen_N[:, None]
        for array in (score_NM, tokens_NM, output_NM, propensity_NM):
            array[unseen_NM] = np.nan
    latency_NM = 0.2 + 0.01 * output_NM
    return (
        TrainingSet(
            features_NF=features_of(kind_N, rng),
            candidate_ids=tuple(c.id for c in CANDIDATES),
            score_NM=score_NM,
            available_NM=np.ones(shape, dtype=bool),
            propensity_NM=propensity_NM,
            input_tokens_NM=tokens_NM.astype(np.float32),
            output_tokens_NM=output_NM.astype(np.float32),
            latency_s_NM=latency_NM.astype(np.float32),
            ttft_s_NM=(0.2 + 0.0 * latency_NM).astype(np.float32),
            num_chars_N=num_chars_N,
            num_images_N=num_images_N,
            group_N=np.arange(num_rows),
        ),
        true_NM,
    )


@pytest.fixture(scope="session")
def world():
    """Return the maker of rows, the schema and the candidates."""
    return SimpleNamespace(
        make=make_world, schema=SCHEMA, candidates=CANDIDATES, quality_MK=QUALITY_MK
    )


@pytest.fixture(scope="session")
def fitted():
    """Return an artifact and its report, trained once on 600 full-information rows."""
    training_set, _ = make_world(600)
    return fit_router(training_set, FitConfig(), schema=SCHEMA, candidates=CANDIDATES)
