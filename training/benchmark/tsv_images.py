"""Images that VLMEvalKit packs into a table, one base64 cell a row."""

from __future__ import annotations

import ast
import base64
import binascii
from typing import TYPE_CHECKING, NamedTuple

from router.errors import InvalidInputError
from training.benchmark.columns import column_names, open_csv

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from training.benchmark.generic_form import ImageStore

_LONGEST_REFERENCE = 64
"""A shorter cell holds no picture but the index of the row whose picture is shown again."""

_NAMES = ("index", "id")
"""By which of its columns a row may be asked for."""


class TsvImages(NamedTuple):
    """The stored images of one table."""

    by_row: list[tuple[str, ...]]
    """Paths in the order of the rows."""

    by_name: dict[str, tuple[str, ...]]
    """Paths by index and by id."""


def unpack_tsv(path: Path, store: ImageStore) -> TsvImages:
    """Store the images of a table; a cell holds one image, a list of them, or a reference.

    Raises:
        InvalidInputError: If the table lacks its columns or a cell is no base64.
    """
    present = column_names(path)
    if missing := {"index", "image"} - set(present):
        raise InvalidInputError(f"{path} lacks the column {min(missing)}", min(missing))
    by_row: list[tuple[str, ...]] = []
    by_name: dict[str, tuple[str, ...]] = {}
    references: dict[int, str] = {}
    rows: list[dict[str, str]] = []
    for row in _cells(path, [name for name in (*_NAMES, "image") if name in present]):
        cell = row.pop("image")
        if len(cell) <= _LONGEST_REFERENCE:
            references[len(rows)] = cell
        rows.append(row)
        by_row.append(() if len(rows) - 1 in references else _store(path, row, cell, store))
        by_name.setdefault(row["index"], by_row[-1])
    for position, target in references.items():
        by_row[position] = by_name[rows[position]["index"]] = by_name.get(target, ())
    for row, paths in zip(rows, by_row, strict=True):
        if name := row.get("id"):
            by_name.setdefault(name, paths)
    return TsvImages(by_row, by_name)


def _cells(path: Path, names: list[str]) -> Iterator[dict[str, str]]:
    """Yield the rows, a batch in memory at a time."""
    with open_csv(path, names) as reader:
        for batch in reader:
            for row in batch.to_pylist():
                yield {name: value or "" for name, value in row.items()}


def _store(path: Path, row: dict[str, str], cell: str, store: ImageStore) -> tuple[str, ...]:
    """Store the images of one cell."""
    try:
        listed = ast.literal_eval(cell) if cell.startswith("[") else [cell]
        return tuple(store.add(base64.b64decode(text, validate=True)) for text in listed)
    except (ValueError, SyntaxError, TypeError, binascii.Error) as error:
        raise InvalidInputError(
            f"{path}: the image of index {row['index']} is no base64: {error}", "image"
        ) from error
