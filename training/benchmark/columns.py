"""Read the columns of a Parquet or CSV file, and say what is wrong with them.

Axis legend: R = rows of the file.
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from router.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_CSV_BLOCK_BYTES = 64_000_000
"""No row may be longer; a photo in base64 has a few million characters."""


class ColumnFile:
    """Columns of one file; every error names the file, the column and a remedy.

    Args:
        path: Ends in ``.parquet``, ``.csv`` or ``.tsv``.
        required: Columns without which the file is refused.
        optional: Columns that are read if they are there; every other is left out.
    """

    def __init__(self, path: Path, required: Sequence[str], optional: Sequence[str] = ()) -> None:
        """Read the columns.

        Raises:
            InvalidInputError: If the file is missing or broken or lacks a column.
        """
        self.path = path
        names = column_names(path)
        if missing := [name for name in required if name not in names]:
            raise InvalidInputError(
                f"{path} lacks the column {missing[0]}; it has {', '.join(names[:30])}", missing[0]
            )
        wanted = [name for name in (*required, *optional) if name in names]
        self._table = _read(path, wanted)

    def __len__(self) -> int:
        """Return the number of rows, R."""
        return int(self._table.num_rows)

    def __contains__(self, name: str) -> bool:
        """Return whether the file has the column."""
        return name in self._table.column_names

    def values(self, name: str) -> list[Any]:
        """Return a column as Python values, None where null."""
        return list(self._table.column(name).to_pylist())

    def texts(self, name: str) -> list[str | None]:
        """Return a column as text, None where null, all None if there is no such column."""
        if name not in self:
            return [None] * len(self)
        try:
            return list(self._table.column(name).cast(pa.large_string()).to_pylist())
        except pa.ArrowException as error:
            raise self.refusal(name, f"must hold text: {error}") from error

    def names(self, name: str) -> list[str]:
        """Return a column of identifiers: text that is never null or empty."""
        texts = self.texts(name)
        if empty := [position for position, text in enumerate(texts) if not text]:
            raise self.refusal(name, f"is empty in row {empty[0]}; give every row a value")
        return [str(text) for text in texts]

    def numbers(self, name: str, *, low: float = 0.0, high: float = np.inf) -> NDArray[np.float64]:
        """Return a column as numbers, NaN where null, all NaN if there is no such column."""
        if name not in self:
            return np.full(len(self), np.nan)
        column = self._table.column(name)
        try:
            numbers_R = np.array(column.cast(pa.float64()).to_numpy(), dtype=np.float64)
        except pa.ArrowException as error:
            raise self.refusal(name, f"must hold numbers: {error}") from error
        outside_R = (numbers_R < low) | (numbers_R > high)
        if outside_R.any():
            raise self.refusal(
                name,
                f"must lie in {low:g} to {high:g}, row {int(outside_R.argmax())} holds "
                f"{numbers_R[outside_R][0]:g}; rescale it",
            )
        return numbers_R

    def refusal(self, name: str, message: str) -> InvalidInputError:
        """Return the error that a column deserves."""
        return InvalidInputError(f"{self.path}: the column {name} {message}", name)


def column_names(path: Path) -> list[str]:
    """Return the names of a file's columns without reading them.

    Raises:
        InvalidInputError: If the file is missing or broken.
    """
    if not path.is_file():
        raise InvalidInputError(f"{path} does not exist; check the folder", path.name)
    try:
        if path.suffix == ".parquet":
            return list(pq.ParquetFile(path).schema_arrow.names)
        with path.open(encoding="utf-8-sig", newline="") as file:
            return next(csv.reader(file, delimiter=_delimiter(path)), [])
    except (pa.ArrowException, OSError, ValueError, csv.Error) as error:
        raise InvalidInputError(f"{path} cannot be read: {error}", path.name) from error


def open_csv(path: Path, names: Sequence[str]) -> Any:  # noqa: ANN401 - pyarrow ships no types
    """Return a reader of record batches; every cell is text or null, and may hold line breaks.

    Args:
        path: Separated by tabs if it ends in ``.tsv``, else by commas.
        names: Columns to read.
    """
    return pa_csv.open_csv(
        path,
        read_options=pa_csv.ReadOptions(block_size=_CSV_BLOCK_BYTES, use_threads=False),
        parse_options=pa_csv.ParseOptions(delimiter=_delimiter(path), newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(
            # A guessed type would change from block to block, and turn the index 007 into 7.
            column_types=dict.fromkeys(names, pa.large_string()),
            include_columns=list(names),
            strings_can_be_null=True,
            null_values=["", "nan", "NaN"],
        ),
    )


def _delimiter(path: Path) -> str:
    """Return what separates the cells of a file."""
    return "\t" if path.suffix == ".tsv" else ","


def _read(path: Path, names: list[str]) -> Any:  # noqa: ANN401 - pyarrow ships no types
    """Return the table of these columns."""
    try:
        if path.suffix == ".parquet":
            return pq.ParquetFile(path).read(columns=names)
        with open_csv(path, names) as reader:
            return reader.read_all()
    except (pa.ArrowException, OSError) as error:
        raise InvalidInputError(f"{path} cannot be read: {error}", path.name) from error
