"""MMR-Bench's outcomes, from its merged CSV and image folders.

Read off the published loader and data page (github.com/Hunter-Wrynn/MMR-Bench, ``data/``): one row
per instance with ``dataset_idx`` (``MMStar_17``) and ``question``, and for each model
``<m>_correct`` (0/1 or True/False; ``<m>_is_correct`` is taken as well), ``<m>_cost`` and, in the
merged file, ``<m>_token`` (tokens of the reply). Images lie beside the file in one folder a data
set, ``MMStar/17.jpg``, or where a column ``img_path`` says.

Assumed, as it is not written there: costs are in USD. There are no prices; each is worked out as
what a model's replies cost by the token, which makes its input free.

Axis legend: O = outcomes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from router.candidate import Price
from router.errors import InvalidInputError
from training.benchmark.columns import ColumnFile, column_names
from training.benchmark.image_folder import ImageFolder
from training.benchmark.source_table import Outcomes, SourceTable

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

FILE_NAMES = ("MMR_Bench.csv", "MMR-Bench.csv")
_CORRECT = ("_is_correct", "_correct")
_IMAGE_COLUMNS = ("img_path", "image_path", "image_paths", "image")
_IMAGE_SUFFIXES = (".jpg", ".png", ".jpeg", ".webp")
_FOLDERS = {"SEEDBench2_Plus": "SEEDBenchv2Plus"}
"""Image folders that are not called as the data set is."""

_SCORES = {"1": 1.0, "true": 1.0, "yes": 1.0, "0": 0.0, "false": 0.0, "no": 0.0}


def read_mmr_bench(path: Path) -> SourceTable:
    """Read the merged CSV, or the folder that holds it.

    Raises:
        InvalidInputError: If the file is not of that form, or the images were not unpacked.
    """
    if path.is_dir():
        path = next((path / name for name in FILE_NAMES if (path / name).exists()), path / "*.csv")
    names = column_names(path)
    correct = _correct_columns(path, names)
    extra = [f"{model}{kind}" for model in correct for kind in ("_cost", "_token", "_tokens")]
    file = ColumnFile(
        path, ("dataset_idx", "question", *correct.values()), (*_IMAGE_COLUMNS, *extra)
    )
    instances = file.names("dataset_idx")
    images, num_absent = _images(file, instances)
    outcomes = _outcomes(file, correct)
    notes = (f"{num_absent} questions without their image",) if num_absent else ()
    return SourceTable(
        name="mmr-bench",
        query_ids=tuple(_unique(instances)),
        questions=tuple(text or "" for text in file.texts("question")),
        images=tuple(images),
        datasets=tuple(_split(instance)[0] for instance in instances),
        groups=(None,) * len(file),
        models=tuple(correct),
        outcomes=outcomes,
        prices=_prices(outcomes, tuple(correct)),
        notes=notes,
    )


def _correct_columns(path: Path, names: list[str]) -> dict[str, str]:
    """Return the column that holds the score of each model."""
    found: dict[str, str] = {}
    for name in names:
        ending = next((ending for ending in _CORRECT if name.endswith(ending)), None)
        if ending:
            found[name.removesuffix(ending)] = name
    if not found:
        raise InvalidInputError(
            f"{path} has no column <model>_correct; it has {', '.join(names[:30])}", path.name
        )
    return dict(sorted(found.items()))


def _split(instance: str) -> tuple[str, str]:
    """Return data set and number of ``MMStar_17``."""
    found = re.fullmatch(r"(.+)_([^_]+)", instance)
    return (found[1], found[2]) if found else (instance, "")


def _unique(instances: list[str]) -> list[str]:
    """Return the names, a repeated one with its row."""
    seen: set[str] = set()
    unique = []
    for row, instance in enumerate(instances):
        unique.append(f"{instance}#{row}" if instance in seen else instance)
        seen.add(instance)
    return unique


def _images(file: ColumnFile, instances: list[str]) -> tuple[list[tuple[Path, ...]], int]:
    """Return each question's images, and how many should have one that is not there."""
    root = file.path.parent
    column = next((name for name in _IMAGE_COLUMNS if name in file), "dataset_idx")
    folder = ImageFolder(root, f"{file.path}: the column {column}")
    if column != "dataset_idx" and any(names := file.texts(column)):
        return [folder.files(name.split("|") if name else None) for name in names], 0
    images = [folder.files(_image_of(root, instance)) for instance in instances]
    if not any(images):
        raise InvalidInputError(
            f"{root} holds none of the images, such as {'/'.join(_split(instances[0]))}.jpg; "
            "unpack images.tar.gz beside the CSV",
            "dataset_idx",
        )
    return images, sum(not paths for paths in images)


def _image_of(root: Path, instance: str) -> str | None:
    """Return the path of an instance's image by its name; None if there is none."""
    dataset, number = _split(instance)
    stem = f"{_FOLDERS.get(dataset, dataset)}/{number}"
    paths = (stem + suffix for suffix in _IMAGE_SUFFIXES)
    return next((path for path in paths if (root / path).is_file()), None)


def _outcomes(file: ColumnFile, correct: dict[str, str]) -> Outcomes:
    """Return the scored answers of all models, model by model."""
    scores = [_scores(file, column) for column in correct.values()]
    tokens = [
        file.numbers(f"{model}_token" if f"{model}_token" in file else f"{model}_tokens")
        for model in correct
    ]
    costs = [file.numbers(f"{model}_cost") for model in correct]
    score_O = np.concatenate(scores)
    unknown_O = np.full(len(score_O), np.nan)
    outcomes = Outcomes(
        query_O=np.tile(np.arange(len(file)), len(correct)),
        model_O=np.repeat(np.arange(len(correct)), len(file)),
        score_O=np.nan_to_num(score_O),
        input_tokens_O=unknown_O,
        output_tokens_O=np.concatenate(tokens),
        cost_usd_O=np.concatenate(costs),
        latency_s_O=unknown_O,
    )
    return outcomes.subset(np.isfinite(score_O))


def _scores(file: ColumnFile, column: str) -> NDArray[np.float64]:
    """Return a column of scores, NaN where empty; truth values count as 1 and 0."""
    texts = file.texts(column)
    try:
        scores = np.array([_score(text) for text in texts], dtype=np.float64)
    except ValueError as error:
        raise file.refusal(column, f"must hold 0, 1, True or False: {error}") from error
    if (wrong := (scores < 0) | (scores > 1)).any():
        raise file.refusal(column, f"must lie in 0 to 1, not {scores[wrong][0]:g}; rescale it")
    return scores


def _score(text: str | None) -> float:
    """Return what a cell says of an answer."""
    if text is None or not text.strip():
        return float("nan")
    word = text.strip().lower()
    return _SCORES[word] if word in _SCORES else float(word)


def _prices(outcomes: Outcomes, models: tuple[str, ...]) -> dict[str, Price]:
    """Return the price of a model's replies by the token, where cost and tokens are recorded."""
    known_O = np.isfinite(outcomes.cost_usd_O) & (outcomes.output_tokens_O > 0)
    prices = {}
    for position, model in enumerate(models):
        rows_O = known_O & (outcomes.model_O == position)
        if rows_O.any():
            per_token = outcomes.cost_usd_O[rows_O].sum() / outcomes.output_tokens_O[rows_O].sum()
            prices[model] = Price(
                input_usd_per_mtok=0.0, output_usd_per_mtok=float(per_token) * 1e6
            )
    return prices
