"""Write a table as plain arrays, for anybody's own experiments.

Axis legend: N = queries, F = raw features, K = candidates, B = feature blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from router.errors import InvalidInputError

if TYPE_CHECKING:
    from pathlib import Path

    from training.benchmark.table import OutcomeTable


def dump_features(table: OutcomeTable, path: Path) -> None:
    """Write one ``.npz`` that ``numpy.load`` opens with ``allow_pickle=False``.

    ``X`` (N, F) float32, ``score`` (N, K) float32 and ``cost`` (N, K) float64 in USD, NaN where
    not observed; ``group`` (N,) int64; ``models`` (K,), ``query_ids`` (N,) and ``datasets`` (N,)
    as text; ``block_names`` (B,) and ``block_sizes`` (B,), in the order of the columns of ``X``.

    Raises:
        InvalidInputError: If the path does not end in ``.npz``, which numpy would append.
    """
    if path.suffix != ".npz":
        raise InvalidInputError(f"{path} must end in .npz", "dump_features")
    blocks = table.schema.blocks
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        X=table.rows.features_NF.astype(np.float32),
        score=table.rows.score_NM.astype(np.float32),
        cost=table.cost_usd_NM.astype(np.float64),
        group=table.rows.group_N.astype(np.int64),
        models=np.array(table.rows.candidate_ids, dtype=np.str_),
        query_ids=np.array(table.query_ids, dtype=np.str_),
        datasets=np.array(table.datasets, dtype=np.str_),
        block_names=np.array([block.name for block in blocks], dtype=np.str_),
        block_sizes=np.array([block.dim for block in blocks], dtype=np.int64),
    )
