"""Outcomes that others published, brought into one shape, and the named pools.

A multimodal folder holds ``queries.parquet``, ``outcomes.parquet``, ``models.csv`` and images; a
candidate is a family of models, averaged. A text folder has the first two files; a candidate is a
base model.

Axis legend: O = outcomes, P = priced models.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from router.candidate import Price
from router.errors import InvalidInputError
from training.benchmark.columns import ColumnFile, column_names
from training.benchmark.image_folder import ImageFolder
from training.benchmark.parquet_source import (
    OUTCOMES,
    QUERIES,
    image_names,
    positions,
    scores,
    unique_names,
)
from training.benchmark.pivot import Selection
from training.benchmark.source_table import Outcomes, SourceTable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

MIN_OUTCOMES = 300
"""A candidate of an open pool has answered at least as many queries."""

TEXT_POOL = "text"

POOLS: Mapping[str, Selection] = MappingProxyType(
    {
        "blindtest": Selection(
            datasets=("blindtest",),
            candidates=("claude-3.5-sonnet", "gemini-1.5-pro", "gpt-4o", "claude-3-sonnet"),
            complete=True,
        ),
        "dynamath": Selection(datasets=("dynamath",), min_outcomes=MIN_OUTCOMES, complete=True),
        "B_img_5": Selection(
            datasets=("visonlyqa", "mathcheck_geo", "mllm_bench"),
            candidates=(
                "claude-3.5-sonnet",
                "gemini-1.5-pro",
                "gemini-1.5-flash",
                "qwen2-vl-72b",
                "qwen2-vl-7b",
            ),
            complete=True,
        ),
        "joint_3": Selection(
            datasets=("blindtest", "dynamath", "visonlyqa", "mathcheck_geo"),
            candidates=("claude-3.5-sonnet", "gemini-1.5-pro", "gpt-4o"),
            complete=True,
        ),
        "all": Selection(min_outcomes=MIN_OUTCOMES),
        TEXT_POOL: Selection(min_outcomes=MIN_OUTCOMES),
    }
)
"""What each pool keeps of a source."""

_DIRECT = "direct"
"""The mode of an answer that was asked for without steps, hints or tools."""


def pool_selection(pool: str) -> Selection:
    """Return what a pool keeps.

    Raises:
        InvalidInputError: If there is no such pool.
    """
    if pool not in POOLS:
        raise InvalidInputError(f"no pool is called {pool!r}; use {', '.join(POOLS)}", "pool")
    return POOLS[pool]


def read_published(folder: Path, pool: str) -> SourceTable:
    """Read a published folder, whole: a pool's ``Selection`` is applied afterwards.

    So that features are computed once for all pools. Only queries with a question count, and in a
    multimodal folder only those whose image could be had.

    Raises:
        InvalidInputError: If the folder is not of that form, or holds no such pool.
    """
    pool_selection(pool)
    has_images = "image_path" in column_names(folder / QUERIES)
    if has_images == (pool == TEXT_POOL):
        raise InvalidInputError(
            f"{folder} is a {'multimodal' if has_images else 'text'} folder and holds no pool "
            f"{pool!r}",
            "pool",
        )
    return _read_multimodal(folder) if has_images else _read_text(folder)


def _read_multimodal(folder: Path) -> SourceTable:
    """Return direct answers of models that saw the image, by family."""
    columns = ("query_id", "dataset", "question", "image_path", "group_id")
    queries = ColumnFile(folder / QUERIES, columns)
    answers = ColumnFile(
        folder / OUTCOMES,
        ("query_id", "family", "mode", "sees_image", "score"),
        ("prompt_tokens", "output_tokens", "cost_usd", "cost_est_usd", "latency_s"),
    )
    images = ImageFolder(folder, f"{queries.path}: the column image_path")
    files = [images.files(names) or None for names in image_names(queries)]
    keep_O = np.array([mode == _DIRECT for mode in answers.texts("mode")], dtype=bool)
    keep_O &= np.array([seen is True for seen in answers.values("sees_image")], dtype=bool)
    return _source(
        queries,
        answers,
        files=files,
        keep_O=keep_O,
        model_column="family",
        prices=_family_prices(folder / "models.csv"),
    )


def _read_text(folder: Path) -> SourceTable:
    """Return one answer of each base model to each query: the direct one, or the usual one."""
    queries = ColumnFile(folder / QUERIES, ("query_id", "dataset", "question"), ("group_id",))
    answers = ColumnFile(
        folder / OUTCOMES,
        ("query_id", "dataset", "base_model", "mode", "score"),
        ("prompt_tokens", "output_tokens", "cost_usd", "cost_est_usd", "latency_s"),
    )
    return _source(
        queries,
        answers,
        files=[()] * len(queries),
        keep_O=_usual_mode(answers),
        model_column="base_model",
        prices={},
    )


def _source(
    queries: ColumnFile,
    answers: ColumnFile,
    *,
    files: Sequence[tuple[Path, ...] | None],
    keep_O: NDArray[np.bool_],
    model_column: str,
    prices: Mapping[str, Price],
) -> SourceTable:
    """Return the kept answers to queries with a question, and with files that are not None."""
    query_ids = unique_names(queries, "query_id")
    questions, groups = queries.texts("question"), queries.texts("group_id")
    datasets = queries.names("dataset")
    has_both = [
        text is not None and images is not None
        for text, images in zip(questions, files, strict=True)
    ]
    kept_N = np.flatnonzero(has_both)
    new_position_N = np.full(len(query_ids), -1)
    new_position_N[kept_N] = np.arange(len(kept_N))
    query_O = new_position_N[positions(answers, "query_id", query_ids)]
    models = tuple(sorted(set(answers.names(model_column))))
    recorded_O = answers.numbers("cost_usd")
    outcomes = Outcomes(
        query_O=query_O,
        model_O=positions(answers, model_column, models),
        score_O=scores(answers),
        input_tokens_O=answers.numbers("prompt_tokens"),
        output_tokens_O=answers.numbers("output_tokens"),
        cost_usd_O=np.where(np.isnan(recorded_O), answers.numbers("cost_est_usd"), recorded_O),
        latency_s_O=answers.numbers("latency_s"),
    )
    return SourceTable(
        name=queries.path.parent.resolve().name,
        query_ids=tuple(query_ids[i] for i in kept_N),
        questions=tuple(questions[i] or "" for i in kept_N),
        images=tuple(files[i] or () for i in kept_N),
        datasets=tuple(datasets[i] for i in kept_N),
        groups=tuple(groups[i] for i in kept_N),
        models=models,
        outcomes=outcomes.subset(keep_O & (query_O >= 0)),
        prices=prices,
    )


def _usual_mode(answers: ColumnFile) -> NDArray[np.bool_]:
    """Return one mode's answers for each query and base model.

    Of the modes that they meet in, the direct one; else the one used most in the data set.
    """
    datasets, modes = answers.texts("dataset"), answers.texts("mode")
    used = Counter(zip(datasets, modes, strict=True))
    pairs = list(zip(answers.names("query_id"), answers.names("base_model"), strict=True))
    met: dict[tuple[str, str], set[str | None]] = defaultdict(set)
    for pair, mode in zip(pairs, modes, strict=True):
        met[pair].add(mode)
    keep = [
        len(met[pair]) == 1
        or mode == max(met[pair], key=lambda m: (m == _DIRECT, used[dataset, m], str(m)))
        for pair, dataset, mode in zip(pairs, datasets, modes, strict=True)
    ]
    return np.array(keep, dtype=bool)


def _family_prices(path: Path) -> dict[str, Price]:
    """Return the mean price of each family's base models, as far as they are known."""
    file = ColumnFile(path, ("family", "price_in", "price_out"))
    price_P2 = np.stack([file.numbers("price_in"), file.numbers("price_out")], axis=1)
    by_family: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    for family, price_2 in zip(file.names("family"), price_P2, strict=True):
        if np.isfinite(price_2).all():
            by_family[family].append(price_2)
    return {
        family: Price(input_usd_per_mtok=float(mean_2[0]), output_usd_per_mtok=float(mean_2[1]))
        for family, prices in by_family.items()
        for mean_2 in [np.mean(prices, axis=0)]
    }
