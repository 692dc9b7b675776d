"""VL-RouterBench as its own tools build it, scores and token counts in tables.

``ORACLE/score/*.parquet`` (sample_id, model_id, quality), ``BENCHMARKS/*/*_samples.jsonl``
(sample_id, dataset, prompt, assets) and, for costs, ``data/matrices/cost_details.csv`` or
``reports/token_statistics/token_based_costs.csv``. The matrices ``Y.npz`` and ``C.npy`` hold the
same scores and costs, but name their rows and columns in pickles, which are not opened here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from router.errors import InvalidInputError
from training.benchmark.columns import ColumnFile
from training.benchmark.generic_form import GenericForm, OutcomeRow, QueryRow
from training.benchmark.tsv_images import TsvImages, unpack_tsv
from training.benchmark.vl_workbooks import IMAGES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from training.benchmark.generic_form import ImageStore
    from training.benchmark.source_table import Report

SCORES = "ORACLE/score"
_DATA = "vlm_router_data"
_COSTS = (
    ("data/matrices/cost_details.csv", "input_tokens", "total_cost_usd"),
    ("reports/token_statistics/token_based_costs.csv", "total_input_tokens", "total_cost"),
)
"""Files with the columns of input tokens and cost; the first that is there counts."""

_Usage = tuple[float | None, float | None, float | None]
"""Input tokens, output tokens, cost in USD."""


def convert_matrices(root: Path, store: ImageStore, report: Report) -> GenericForm:
    """Gather the scored samples with their prompts, images and costs.

    Args:
        root: The folder that holds ``ORACLE`` and ``BENCHMARKS``.
        store: Takes the images.
        report: Told how it goes.

    Raises:
        InvalidInputError: If a file is broken or missing, or a scored sample has no prompt.
    """
    form = GenericForm()
    assets = _Assets(root, store, report)
    samples = {sample["sample_id"]: sample for sample in _samples(root)}
    usage = _usage(root)
    if not usage:
        form.notes.append("costs are unknown: neither " + " nor ".join(c[0] for c in _COSTS))
    for path in sorted((root / SCORES).glob("*.parquet")):
        file = ColumnFile(path, ("sample_id", "model_id", "quality"))
        columns = (
            file.names("sample_id"),
            file.names("model_id"),
            file.numbers("quality", high=1),
        )
        for sample_id, model, score in zip(*columns, strict=True):
            if sample_id not in samples:
                raise file.refusal("sample_id", f"holds {sample_id!r}, which BENCHMARKS has not")
            if sample_id not in form.queries:
                form.queries[sample_id] = assets.query(samples[sample_id])
            num_input, num_output, cost_usd = usage.get((sample_id, model), (None, None, None))
            form.outcomes.append(
                OutcomeRow(
                    query_id=sample_id,
                    model=model,
                    score=float(score),
                    input_tokens=num_input,
                    output_tokens=num_output,
                    cost_usd=cost_usd,
                )
            )
        report(f"vl-router-bench: answers of {path.stem}")
    if blind := sum(not row.image_path for row in form.queries.values()):
        form.notes.append(f"{blind} questions without their image")
    return form


class _Assets:
    """Finds the images of samples, each table unpacked when it is first asked for."""

    def __init__(self, root: Path, store: ImageStore, report: Report) -> None:
        self._root = root
        self._store = store
        self._report = report
        self._tables: dict[str, TsvImages] = {}

    def query(self, sample: Mapping[str, Any]) -> QueryRow:
        """Return a sample as a query."""
        return QueryRow(
            query_id=sample["sample_id"],
            question=sample.get("prompt") or "",
            image_path=tuple(
                path for asset in sample.get("assets") or () for path in self._paths(asset)
            ),
            dataset=sample.get("dataset") or sample["sample_id"].split("/")[0],
        )

    def _paths(self, asset: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the stored images of one asset; none if it is not there."""
        if asset.get("type") == "image_tsv":
            rows = self._table(Path(str(asset.get("tsv_file"))).name).by_row
            index = asset.get("index")
            return rows[index] if isinstance(index, int) and 0 <= index < len(rows) else ()
        path = self._root / (asset.get("uri") or asset.get("path") or "")
        inside = path.resolve().is_relative_to(self._root.resolve())
        return (self._store.add(path.read_bytes()),) if inside and path.is_file() else ()

    def _table(self, name: str) -> TsvImages:
        """Return a table of images by its file name: recorded paths are of another machine."""
        if name not in self._tables:
            folders = (self._root / _DATA / IMAGES, self._root / IMAGES)
            path = next((f / name for f in folders if (f / name).is_file()), None)
            self._tables[name] = unpack_tsv(path, self._store) if path else TsvImages([], {})
            self._report(f"vl-router-bench: images of {name}")
        return self._tables[name]


def _samples(root: Path) -> Iterator[dict[str, Any]]:
    """Yield the samples of all tasks."""
    for path in sorted(root.glob("BENCHMARKS/*/*_samples.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                sample = json.loads(line)
            except ValueError as error:
                raise InvalidInputError(
                    f"{path}: line {number} is no JSON: {error}", "sample_id"
                ) from error
            if not isinstance(sample, dict) or not isinstance(sample.get("sample_id"), str):
                raise InvalidInputError(f"{path}: line {number} has no sample_id", "sample_id")
            yield sample


def _usage(root: Path) -> dict[tuple[str, str], _Usage]:
    """Return tokens and cost by sample and model; nothing without a file of costs."""
    for name, input_column, cost_column in _COSTS:
        if not (root / name).is_file():
            continue
        file = ColumnFile(
            root / name, ("sample_id", "model", input_column, "output_tokens", cost_column)
        )
        keys = zip(file.names("sample_id"), file.names("model"), strict=True)
        numbers = [file.numbers(column) for column in (input_column, "output_tokens", cost_column)]
        return dict(zip(keys, map(_known, *numbers), strict=True))
    return {}


def _known(*numbers: float) -> _Usage:
    """Return the numbers, None for NaN."""
    first, second, third = (None if np.isnan(number) else float(number) for number in numbers)
    return first, second, third
