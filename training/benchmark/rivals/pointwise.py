"""Torch models that predict each observed score by itself.

Axis legend: N = queries, B = rows of a batch, D = features, M = candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from training.benchmark.rivals.rows import candidate_means
from training.benchmark.rivals.torch_fit import (
    Labelled,
    TorchConfig,
    feature_scale,
    labelled,
    predict,
    scaled_features,
    seeded,
    train_on_labels,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from training.benchmark.rivals.rival import RivalRows

LOGIT_EPS = 0.02
"""Means are kept this far from 0 and 1, where the logit has no end."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FittedPointwise:
    """A trained model from scaled features to scores or their logits."""

    model: nn.Module
    scale: float
    is_logit: bool

    def quality(self, rows: RivalRows) -> NDArray[np.float64]:
        """Return the predicted scores."""
        feature_ND = scaled_features(rows, self.scale)
        return predict(lambda part: self._link(self.model(feature_ND[part])), len(feature_ND))

    def _link(self, output_BM: Tensor) -> Tensor:
        return output_BM.sigmoid() if self.is_logit else output_BM


def fit_pointwise(
    build: Callable[[int, Tensor], nn.Module],
    train: RivalRows,
    validation: RivalRows,
    *,
    config: TorchConfig,
    seed: int,
    is_logit: bool,
) -> FittedPointwise:
    """Train a model on the observed entries until the validation loss stops falling.

    Args:
        build: Makes the model from the number of features and the candidates' mean scores (their
            logits if ``is_logit``), which is where its output should start.
        train: Rows to learn from.
        validation: Rows that decide when to stop.
        config: How.
        seed: Of the starting weights, dropout and the order of rows.
        is_logit: Outputs are logits, judged by binary cross entropy; else scores, judged by
            squared error.
    """
    scale = feature_scale(train)
    past, held = labelled(train, scale), labelled(validation, scale)
    mean_M = torch.from_numpy(candidate_means(train.score_NM)).float()
    start_M = mean_M.clamp(LOGIT_EPS, 1 - LOGIT_EPS).logit() if is_logit else mean_M
    judge = functional.binary_cross_entropy_with_logits if is_logit else functional.mse_loss

    def loss(output_BM: Tensor, rows: Labelled) -> Tensor:
        loss_BM = judge(output_BM, rows.score_NM, reduction="none")
        # An empty sum is 0 / 1 = 0, and its gradient too.
        return (loss_BM * rows.observed_NM).sum() / rows.observed_NM.sum().clamp_min(1)

    with seeded(seed):
        model = build(past.feature_ND.shape[1], start_M)
        train_on_labels(model, loss, (past, held), config=config, seed=seed)
    return FittedPointwise(model=model, scale=scale, is_logit=is_logit)
