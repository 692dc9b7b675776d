"""A router that was trained on made-up rows, for tests of what happens to routers."""

import numpy as np

from router.candidate import Candidate, Price
from router.features.schema import FeatureBlock, FeatureSchema
from training.data.dataset import TrainingSet
from training.fitting.fit import FitConfig, fit_router

SCHEMA = FeatureSchema((FeatureBlock(name="text", encoder="made-up", sha256="0" * 64, dim=8),))
CANDIDATES = tuple(
    Candidate(id=name, price=Price(input_usd_per_mtok=price, output_usd_per_mtok=price))
    for name, price in (("aster", 0.1), ("birch", 1.0))
)
NUM_ROWS = 60


def fit(version, seed=0, *, schema=SCHEMA, candidates=CANDIDATES, features_NF=None, num_kinds=2):
    """Return a router for candidates that are right or wrong by chance on sixty questions."""
    rng = np.random.default_rng(seed)
    if features_NF is None:
        features_NF = rng.normal(size=(NUM_ROWS, schema.num_features)).astype(np.float32)
    shape = (NUM_ROWS, len(candidates))
    rows = TrainingSet.of_scores(
        features_NF,
        tuple(candidate.id for candidate in candidates),
        rng.integers(0, 2, shape).astype(np.float32),
        input_tokens_NM=np.full(shape, 50, dtype=np.float32),
        output_tokens_NM=np.full(shape, 5, dtype=np.float32),
        latency_s_NM=np.full(shape, 0.5, dtype=np.float32),
        ttft_s_NM=np.full(shape, 0.25, dtype=np.float32),
        num_chars_N=np.full(NUM_ROWS, 80),
    )
    config = FitConfig(version=version, num_folds=2, num_kinds=num_kinds, num_anchors=16)
    return fit_router(rows, config, schema=schema, candidates=candidates)[0]
