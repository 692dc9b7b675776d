"""Recorded outcomes in the generic form, for anybody's own data.

A folder with ``queries.parquet``, ``outcomes.parquet``, ``images/`` and, for costs, ``models.csv``
or ``models.parquet``; docs/own-data.md describes the columns.

Axis legend: O = outcomes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from router.candidate import Price
from router.errors import InvalidInputError
from training.benchmark.columns import ColumnFile
from training.benchmark.image_folder import ImageFolder
from training.benchmark.source_table import Outcomes, SourceTable, first_repeated

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

QUERIES = "queries.parquet"
OUTCOMES = "outcomes.parquet"
PRICES = ("models.csv", "models.parquet")

_QUERY_COLUMNS = ("query_id", "question", "image_path")
_PRICE_COLUMNS = ("model", "input_usd_per_mtok", "output_usd_per_mtok")
_MEASURES = ("input_tokens", "prompt_tokens", "output_tokens", "cost_usd", "latency_s")


def read_parquet_source(folder: Path) -> SourceTable:
    """Read a folder in the generic form.

    Raises:
        InvalidInputError: If a file, a column or an image is missing, a score lies outside 0 to
            1, an outcome belongs to no query, or a path leaves the folder.
    """
    queries = ColumnFile(folder / QUERIES, _QUERY_COLUMNS, ("group_id", "dataset"))
    answers = ColumnFile(folder / OUTCOMES, ("query_id", "model", "score"), _MEASURES)
    query_ids = unique_names(queries, "query_id")
    models = tuple(sorted(set(answers.names("model"))))
    images = ImageFolder(folder, f"{queries.path}: the column image_path")
    return SourceTable(
        name=folder.resolve().name,
        query_ids=query_ids,
        questions=tuple(text or "" for text in queries.texts("question")),
        images=tuple(images.files(names) for names in image_names(queries)),
        datasets=tuple(text or folder.resolve().name for text in queries.texts("dataset")),
        groups=tuple(queries.texts("group_id")),
        models=models,
        outcomes=_outcomes(answers, query_ids, models),
        prices=_read_prices(folder),
    )


def unique_names(file: ColumnFile, column: str) -> tuple[str, ...]:
    """Return a column of identifiers that may not repeat.

    Raises:
        InvalidInputError: If one does.
    """
    names = tuple(file.names(column))
    if repeated := first_repeated(names):
        raise file.refusal(column, f"holds {repeated!r} twice; give every row its own")
    return names


def image_names(queries: ColumnFile) -> list[Any]:
    """Return what ``image_path`` holds: a path, a list of paths, or None.

    Raises:
        InvalidInputError: If it holds anything else.
    """
    values = queries.values("image_path")
    for value in values:
        items = value if isinstance(value, list) else [value]
        if any(not isinstance(item, str | None) for item in items):
            raise queries.refusal("image_path", f"holds {value!r}; give a path or a list of paths")
    return values


def positions(file: ColumnFile, column: str, known: Sequence[str]) -> NDArray[np.int64]:
    """Return where each name of a column stands in ``known``.

    Raises:
        InvalidInputError: If a name is not known.
    """
    place = {name: position for position, name in enumerate(known)}
    names = file.names(column)
    if strangers := [name for name in names if name not in place]:
        raise file.refusal(
            column,
            f"holds {strangers[0]!r}, which no query has ({len(strangers)} such rows); add the "
            f"query to {QUERIES} or drop the rows",
        )
    return np.array([place[name] for name in names], dtype=np.int64)


def scores(answers: ColumnFile) -> NDArray[np.float64]:
    """Return the column ``score``.

    Raises:
        InvalidInputError: If a score is missing or outside 0 to 1.
    """
    score_O = answers.numbers("score", high=1.0)
    if (missing_O := np.isnan(score_O)).any():
        raise answers.refusal(
            "score", f"is null in row {int(missing_O.argmax())}; drop what was not scored"
        )
    return score_O


def _outcomes(answers: ColumnFile, query_ids: Sequence[str], models: Sequence[str]) -> Outcomes:
    """Return the answers as columns."""
    tokens = "input_tokens" if "input_tokens" in answers else "prompt_tokens"
    return Outcomes(
        query_O=positions(answers, "query_id", query_ids),
        model_O=positions(answers, "model", models),
        score_O=scores(answers),
        input_tokens_O=answers.numbers(tokens),
        output_tokens_O=answers.numbers("output_tokens"),
        cost_usd_O=answers.numbers("cost_usd"),
        latency_s_O=answers.numbers("latency_s"),
    )


def _read_prices(folder: Path) -> dict[str, Price]:
    """Return the price of every model that has one; none without a file of prices."""
    paths = [folder / name for name in PRICES if (folder / name).exists()]
    if not paths:
        return {}
    if len(paths) > 1:
        raise InvalidInputError(f"{folder} holds {' and '.join(PRICES)}; keep one", PRICES[0])
    file = ColumnFile(paths[0], _PRICE_COLUMNS)
    models = unique_names(file, "model")
    inputs, outputs = (file.numbers(name) for name in _PRICE_COLUMNS[1:])
    return {
        model: Price(input_usd_per_mtok=float(in_), output_usd_per_mtok=float(out))
        for model, in_, out in zip(models, inputs, outputs, strict=True)
        if np.isfinite(in_ + out)
    }
