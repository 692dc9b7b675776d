"""From what the command line names to a table with features.

spec = SourceSpec(data=Path("my-outcomes"))
table = load_table(spec, cache_folder=Path(".cache/benchmark"), report=print)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from router.errors import InvalidInputError
from router.features.weights import DEFAULT_FOLDER
from training.benchmark.features import extract_features
from training.benchmark.mmr_bench import read_mmr_bench
from training.benchmark.parquet_source import read_parquet_source
from training.benchmark.pivot import Selection, to_outcome_table, unpriced
from training.benchmark.published_outcomes import pool_selection, read_published
from training.benchmark.vl_router_bench import read_vl_router_bench

if TYPE_CHECKING:
    from training.benchmark.source_table import Report, SourceTable
    from training.benchmark.table import OutcomeTable

CACHE_FOLDER = Path(".cache/benchmark")
"""From the working directory."""

PATH_NAMES = ("data", "published", "mmr_bench", "vl_router_bench")
"""The fields of a ``SourceSpec`` of which one is given."""

_NAMES_SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpec:
    """Where outcomes come from; exactly one of the four paths is given."""

    data: Path | None = None
    """A folder in the generic form: anybody's own data."""

    published: Path | None = None
    """A folder of published outcomes; ``pool`` says which part."""

    mmr_bench: Path | None = None
    """MMR-Bench's merged CSV."""

    vl_router_bench: Path | None = None
    """VL-RouterBench's archive or folder."""

    pool: str = "all"
    """A named pool of the published outcomes; the other sources are taken whole."""

    selection: Selection | None = None
    """What to keep; the pool's own, or every row with two observed candidates, if None."""

    def __post_init__(self) -> None:
        """Refuse none or several sources."""
        paths = [getattr(self, name) for name in PATH_NAMES]
        if sum(path is not None for path in paths) != 1:
            raise InvalidInputError(
                f"name one source: --{', --'.join(PATH_NAMES).replace('_', '-')}", "source"
            )


def load_table(
    spec: SourceSpec,
    *,
    report: Report,
    cache_folder: Path = CACHE_FOLDER,
    encoder_folder: Path = DEFAULT_FOLDER,
    num_processes: int = 2,
) -> OutcomeTable:
    """Read a source, extract its features or fetch them from the cache, and lay it out.

    Args:
        spec: The source.
        report: Told the progress and what a reader of the results should know.
        cache_folder: Keeps features and converted archives; may be emptied at any time.
        encoder_folder: Holds the encoders, or will.
        num_processes: How many extract features at the same time.

    Raises:
        InvalidInputError: If the source is not of its form; the message names file, column and
            remedy.
    """
    source = read_source(spec, cache_folder=cache_folder, report=report)
    selection = spec.selection
    if selection is None:
        selection = Selection() if spec.published is None else pool_selection(spec.pool)
    features_NF, schema = extract_features(
        source,
        encoder_folder=encoder_folder,
        cache_folder=cache_folder,
        report=report,
        num_processes=num_processes,
    )
    name = source.name if spec.published is None else spec.pool
    table = to_outcome_table(source, features_NF, schema, selection, name=name)
    for note in (*source.notes, *_notes(source, table)):
        report(f"{name}: {note}")
    return table


def read_source(spec: SourceSpec, *, cache_folder: Path, report: Report) -> SourceTable:
    """Return the queries and answers of a source.

    Raises:
        InvalidInputError: If the source is not of its form.
    """
    if spec.data is not None:
        return read_parquet_source(spec.data)
    if spec.published is not None:
        return read_published(spec.published, spec.pool)
    if spec.mmr_bench is not None:
        return read_mmr_bench(spec.mmr_bench)
    path = spec.vl_router_bench or Path()
    return read_vl_router_bench(path, cache_folder=cache_folder, report=report)


def _notes(source: SourceTable, table: OutcomeTable) -> list[str]:
    """Return how large a table is and whose price is not known."""
    num_observed = int(table.rows.observed().sum())
    notes = [f"{len(table)} queries, {len(table.candidates)} candidates, {num_observed} outcomes"]
    ids = table.rows.candidate_ids
    nameless = unpriced(source, ids)
    if nameless:
        stand_in = "0" if len(nameless) == len(ids) else "the median of the pool"
        shown = ", ".join(nameless[:_NAMES_SHOWN]) + (
            "" if len(nameless) <= _NAMES_SHOWN else " ..."
        )
        notes.append(f"{len(nameless)} candidates without a price get {stand_in}: {shown}")
    return notes
