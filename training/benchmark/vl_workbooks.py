"""VL-RouterBench as it is published, workbooks of VLMEvalKit and tables of images.

``VLMEvalKit_evaluation/<model>/<model>_<data set>*.xlsx`` holds a row a sample with ``index``,
``question``, options ``A`` to ``H``, ``prediction`` and ``is_correct`` (where that is missing,
``score`` or ``hit``); ``TSV_images/<data set>.tsv`` the images. Token counts are not published,
but made by the benchmark's own tools: text by a tokenizer, 256 tokens an image. Here a token of
text is four characters, so costs are estimates, and no count is passed on as recorded.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from router.errors import InvalidInputError
from training.benchmark.generic_form import GenericForm, OutcomeRow, QueryRow
from training.benchmark.tsv_images import TsvImages, unpack_tsv
from training.benchmark.workbook import read_rows

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from router.candidate import Price
    from training.benchmark.generic_form import ImageStore
    from training.benchmark.source_table import Report
    from training.benchmark.workbook import Cell

EVALUATION = "VLMEvalKit_evaluation"
IMAGES = "TSV_images"

TOKENS_PER_IMAGE = 256
CHARS_PER_TOKEN = 4

_SCORES = ("is_correct", "score", "hit")
_NAMES = ("index", "id", "sample_id")
_OPTIONS = "ABCDEFGH"
_JUDGE = re.compile(
    r"_(openai_results?|exact_matching_result|auxmatch|results?|gpt-4o-mini(_score)?|score|acc)$"
)
"""What follows the data set in a workbook's name, by the kind of its judge."""

_TRUTH = {"true": 1.0, "yes": 1.0, "correct": 1.0, "false": 0.0, "no": 0.0, "incorrect": 0.0}


def convert_workbooks(
    root: Path, store: ImageStore, prices: Mapping[str, Price], report: Report
) -> GenericForm:
    """Gather every scored sample of every model.

    Args:
        root: The folder ``vlm_router_data``.
        store: Takes the images.
        prices: By model folder; without one a model's costs stay unknown.
        report: Told how it goes.

    Raises:
        InvalidInputError: If a workbook or a table is broken, or none holds a score.
    """
    form = GenericForm(notes=["costs are estimated: four characters a token, 256 tokens an image"])
    images: dict[str, TsvImages] = {}
    for table in sorted((root / IMAGES).glob("*.tsv")):
        images[table.stem] = unpack_tsv(table, store)
        report(f"vl-router-bench: images of {table.stem}")
    for folder in sorted(path for path in (root / EVALUATION).iterdir() if path.is_dir()):
        for book in sorted(folder.rglob("*.xlsx")):
            dataset = dataset_of(folder.name, book.stem, images)
            stored = images.get(dataset, TsvImages([], {}))
            _add_book(form, book, (folder.name, dataset), stored, prices.get(folder.name))
        report(f"vl-router-bench: answers of {folder.name}")
    if not form.outcomes:
        raise InvalidInputError(
            f"{root / EVALUATION} holds no workbook with a column {' or '.join(_SCORES)}",
            EVALUATION,
        )
    if blind := sum(not row.image_path for row in form.queries.values()):
        form.notes.append(f"{blind} questions without their image")
    return form


def dataset_of(model: str, stem: str, known: Mapping[str, object]) -> str:
    """Return the data set of a workbook: of those with images, the longest that fits."""
    rest = stem.removeprefix(f"{model}_")
    fitting = [name for name in known if rest == name or rest.startswith(f"{name}_")]
    return max(fitting, key=len) if fitting else _JUDGE.sub("", rest)


def _add_book(
    form: GenericForm,
    book: Path,
    model_dataset: tuple[str, str],
    images: TsvImages,
    price: Price | None,
) -> None:
    """Add the scored rows of one workbook; one without scores holds predictions only."""
    model, dataset = model_dataset
    for position, row in enumerate(read_rows(book)):
        score = _score(row, book)
        if math.isnan(score):
            continue
        name = next(
            (_plain(row[key]) for key in _NAMES if row.get(key) is not None), str(position)
        )
        query_id = f"{dataset}/{name}"
        if query_id not in form.queries:
            form.queries[query_id] = QueryRow(
                query_id=query_id,
                question=_question(row),
                image_path=images.by_name.get(name, ()),
                dataset=dataset,
            )
        query = form.queries[query_id]
        cost_usd = None if price is None else _cost_usd(query, row, price)
        form.outcomes.append(
            OutcomeRow(query_id=query_id, model=model, score=score, cost_usd=cost_usd)
        )


def _score(row: Mapping[str, Cell], book: Path) -> float:
    """Return the score of a row, NaN if it has none."""
    value = next((row[name] for name in _SCORES if row.get(name) is not None), None)
    if isinstance(value, str):
        value = _TRUTH.get(value.strip().lower(), value)
    try:
        score = math.nan if value is None else float(value)
    except ValueError:
        score = math.inf
    if score < 0 or score > 1:
        raise InvalidInputError(f"{book}: {value!r} is no score of 0 to 1", "score")
    return score


def _plain(value: Cell) -> str:
    """Return a name as text; workbooks store 7 as 7.0."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _question(row: Mapping[str, Cell]) -> str:
    """Return question, hint and options as one text."""
    parts = [_plain(row[name]) for name in ("question",) if row.get(name) is not None]
    if row.get("hint") is not None:
        parts.append(f"Hint: {_plain(row['hint'])}")
    options = [f"({key}) {_plain(row[key])}" for key in _OPTIONS if row.get(key) is not None]
    if options:
        parts.append("Options: " + "; ".join(options))
    return "\n".join(parts)


def _cost_usd(query: QueryRow, row: Mapping[str, Cell], price: Price) -> float | None:
    """Return what an answer is estimated to cost; None where the prediction is not kept."""
    if row.get("prediction") is None:
        return None
    num_input = len(query.question) / CHARS_PER_TOKEN + TOKENS_PER_IMAGE * len(query.image_path)
    return price.cost_usd(num_input, len(str(row["prediction"])) / CHARS_PER_TOKEN)
