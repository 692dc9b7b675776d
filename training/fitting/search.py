"""Step 8, retrain: Ray Tune looks for settings, halving the field as rows are added (ASHA).

Settings are judged by the error of left-out predictions: on logs of some thousand rows the quality
that a router earns differs by less between settings than its own noise.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler

from training.fitting.fit import fit_router

if TYPE_CHECKING:
    from pathlib import Path

    from training.data.dataset import TrainingSet
    from training.fitting.fit_config import FitConfig
    from training.fitting.train_job import TrainJob

SPACE: dict[str, tuple[float, ...]] = {
    "num_components": (32, 64, 128, 256),
    "num_kinds": (8, 16, 32),
    "num_anchors": (256, 512, 1024, 2048),
    "weight_clip": (5.0, 10.0, 20.0),
}
SHARES = (0.25, 0.5, 1.0)
"""Of the groups of queries that a trial fits on, one after the other."""

ERROR = "left_out_error"


def search_settings(job: TrainJob, *, storage: Path, num_trials: int) -> FitConfig:
    """Return the job's config with the settings that predicted left-out outcomes best.

    The config itself is the first trial, so that a search never ends worse than none.

    Args:
        job: The rows, and the config to start from.
        storage: Folder that the driver and all workers reach.
        num_trials: Settings tried; 1 or more.
    """
    shared = ray.put(job)
    start = {name: getattr(job.config, name) for name in SPACE}

    def trial(settings: dict[str, Any]) -> None:
        known: TrainJob = ray.get(shared)
        config = dataclasses.replace(known.config, **settings)
        for share in SHARES:
            rows = leading_groups(known.training_set, share, seed=config.seed)
            _, report = fit_router(rows, config, schema=known.schema, candidates=known.candidates)
            tune.report({ERROR: report.noise_std, "num_rows": report.num_rows})

    grid = tune.Tuner(
        tune.with_resources(trial, {"CPU": 1}),
        param_space={name: tune.choice(list(values)) for name, values in SPACE.items()},
        tune_config=tune.TuneConfig(
            metric=ERROR,
            mode="min",
            num_samples=num_trials,
            scheduler=ASHAScheduler(max_t=len(SHARES), grace_period=1, reduction_factor=2),
            search_alg=tune.search.BasicVariantGenerator(
                points_to_evaluate=[start], random_state=job.config.seed
            ),
        ),
        run_config=tune.RunConfig(
            name=f"{job.config.version}-search", storage_path=str(storage / "runs")
        ),
    ).fit()
    whole = [r for r in grid if (r.metrics or {}).get("training_iteration") == len(SHARES)]
    best = min(whole, key=lambda result: result.metrics[ERROR])
    return dataclasses.replace(job.config, **best.config)


def leading_groups(rows: TrainingSet, share: float, *, seed: int) -> TrainingSet:
    """Return a share of the groups, the same ones for every trial and more of them each time."""
    groups = np.random.default_rng(seed).permutation(np.unique(rows.group_N))
    kept = groups[: max(round(share * len(groups)), 1)]
    return rows.subset(np.isin(rows.group_N, kept))
