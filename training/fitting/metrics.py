"""Step 8, retrain: what a training measured, under MLflow metric names."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.fitting.fit import FitReport


def training_metrics(report: FitReport) -> dict[str, float]:
    """Return what training measured on left-out rows."""
    metrics: dict[str, float] = {
        "num_rows": report.num_rows,
        "num_labels": report.num_labels,
        "difficulty_penalty": report.difficulty_penalty,
        "token_penalty": report.token_penalty,
        "noise_std": report.noise_std,
    }
    for policy, value in report.values.items():
        if math.isfinite(value.quality):
            metrics[f"validation.{policy}.quality"] = value.quality
            metrics[f"validation.{policy}.utility"] = value.utility
    return metrics
