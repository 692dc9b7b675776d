"""Write a folder in the generic form that ``parquet_source`` reads."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from router.candidate import Price

NOTES = "notes.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryRow:
    """One row of ``queries.parquet``."""

    query_id: str
    question: str
    image_path: tuple[str, ...]
    dataset: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeRow:
    """One row of ``outcomes.parquet``."""

    query_id: str
    model: str
    score: float
    input_tokens: float | None = None
    output_tokens: float | None = None
    cost_usd: float | None = None


@dataclass(slots=True)
class GenericForm:
    """What a converter gathers."""

    queries: dict[str, QueryRow] = field(default_factory=dict)
    """By id."""

    outcomes: list[OutcomeRow] = field(default_factory=list)

    notes: list[str] = field(default_factory=list)
    """What a reader of the results should know."""

    def write(self, folder: Path, prices: Mapping[str, Price]) -> None:
        """Write all files but the images; the folder exists."""
        _write(
            [asdict(row) for row in self.queries.values()], _QUERIES, folder / "queries.parquet"
        )
        _write([asdict(row) for row in self.outcomes], _OUTCOMES, folder / "outcomes.parquet")
        priced = [{"model": model, **asdict(price)} for model, price in prices.items()]
        _write(priced, _PRICES, folder / "models.parquet")
        (folder / NOTES).write_text("".join(f"{note}\n" for note in self.notes))


class ImageStore:
    """Images of a folder in the generic form, by content: the same picture is kept once.

    Args:
        folder: The generic form's folder.
    """

    def __init__(self, folder: Path) -> None:
        """Make ``images/``."""
        self._folder = folder
        (folder / "images").mkdir(parents=True, exist_ok=True)

    def add(self, data: bytes) -> str:
        """Keep the bytes and return the path for ``image_path``."""
        name = f"images/{hashlib.sha256(data).hexdigest()[:32]}.img"
        path = self._folder / name
        if not path.exists():
            path.write_bytes(data)
        return name


def _write(rows: list[dict[str, object]], schema: pa.Schema, path: Path) -> None:
    """Write rows as Parquet."""
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


_QUERIES = pa.schema(
    [
        ("query_id", pa.string()),
        ("question", pa.string()),
        ("image_path", pa.list_(pa.string())),
        ("dataset", pa.string()),
    ]
)
_OUTCOMES = pa.schema(
    [
        ("query_id", pa.string()),
        ("model", pa.string()),
        ("score", pa.float64()),
        ("input_tokens", pa.float64()),
        ("output_tokens", pa.float64()),
        ("cost_usd", pa.float64()),
    ]
)
_PRICES = pa.schema(
    [
        ("model", pa.string()),
        ("input_usd_per_mtok", pa.float64()),
        ("output_usd_per_mtok", pa.float64()),
    ]
)
