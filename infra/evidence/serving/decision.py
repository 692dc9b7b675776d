"""How long the decision itself takes: mask, scores and choice of the version that serves."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from deployments.versions.hot_swap import HotSwap
from deployments.versions.registry import Registry
from infra import services
from router.candidate import Candidate, Price
from router.features.extract import FeatureExtractor
from router.records import Pool, QueryShape, Routing, Standing
from router.route import route

NUM_DECISIONS = 2000
NUM_WARM_UP = 200


def measure() -> dict[str, Any]:
    """Load the champion as serving does, and decide on random features."""
    torch.set_num_threads(1)
    schema = FeatureExtractor.load(services.ROOT / ".cache" / "encoders").schema
    registry = Registry(
        services.MLFLOW_URI,
        model="pointsman-router",
        alias="champion",
        cache=services.RUN / "serving" / "versions",
    )
    swap = HotSwap(registry, schema, has_shadow=False)
    swap.swap_if_moved()
    if swap.router is None:
        raise services.ServiceError(f"no champion to measure: {swap.refused_version}")
    price = Price(input_usd_per_mtok=0.1, output_usd_per_mtok=0.4)
    names = tuple(swap.router.profiles)
    pool = Pool(
        standings=tuple(Standing(candidate=Candidate(id=name, price=price)) for name in names)
    )
    rng = np.random.default_rng(0)
    taken_s = []
    for number in range(NUM_WARM_UP + NUM_DECISIONS):
        features_F = rng.standard_normal(schema.num_features).astype(np.float32)
        began_s = time.perf_counter()
        route(
            swap.router,
            features_F=features_F,
            shape=QueryShape(num_chars=60, num_images=1),
            pool=pool,
            routing=Routing(),
            decision_id="dec_0",
            seed=number,
        )
        taken_s.append(time.perf_counter() - began_s)
    p50_s, p99_s = np.quantile(taken_s[NUM_WARM_UP:], (0.5, 0.99))
    return {
        "num_decisions": NUM_DECISIONS,
        "num_candidates": len(names),
        "p50_s": float(p50_s),
        "p99_s": float(p99_s),
    }
