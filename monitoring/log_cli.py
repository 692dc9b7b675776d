"""Step 7, command: ``python -m monitoring.log_cli`` keeps the outcome log in order.

Every command takes ``--root`` or POINTSMAN_OUTCOME_LOG, prints one JSON object, and may be killed
and run again.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
import typer

from monitoring import log_check, log_maintenance
from monitoring.log_reader import scan
from monitoring.segment import TABLES, parquet_options
from monitoring.segment_store import SegmentStore, open_store

app = typer.Typer(help="Keep the outcome log in order.", no_args_is_help=True)

Root = Annotated[
    str, typer.Option(envvar="POINTSMAN_OUTCOME_LOG", help="A folder, or s3://bucket/prefix.")
]
_MIB = 1 << 20


@app.command()
def compact(
    root: Root,
    target_mib: Annotated[int, typer.Option(min=1, help="Size of a compacted segment.")] = (
        log_maintenance.TARGET_BYTES // _MIB
    ),
) -> None:
    """Merge the small segments of every day before today, and carry out recorded deletions."""
    today = datetime.now(UTC).date()
    done = log_maintenance.compact(_open(root), today=today, target_bytes=target_mib * _MIB)
    _tell(asdict(done))


@app.command()
def retain(
    root: Root, days: Annotated[int, typer.Option(min=1, help="Days to keep before today.")]
) -> None:
    """Drop days that are older."""
    _tell(asdict(log_maintenance.retain(_open(root), days=days, today=datetime.now(UTC).date())))


@app.command()
def delete(
    root: Root,
    decision_id: Annotated[list[str] | None, typer.Option(help="May be repeated.")] = None,
    tenant: Annotated[str | None, typer.Option(help="All that it has in the log by now.")] = None,
) -> None:
    """Delete outcomes with their labels; without an option, carry out what was recorded before."""
    done = log_maintenance.delete(
        _open(root), now=datetime.now(UTC), decision_ids=decision_id or (), tenant=tenant
    )
    _tell(asdict(done))


@app.command()
def verify(
    root: Root,
    *,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Read every page; look for repeated decisions.")
    ] = False,
) -> None:
    """Check that every segment can be read; exit with 1 if one cannot."""
    found = log_check.check(_open(root), is_thorough=thorough)
    _tell({table: asdict(one) for table, one in found.items()})
    if any(one.faults or one.num_repeated_ids for one in found.values()):
        raise typer.Exit(1)


@app.command()
def export(
    root: Root,
    output: Annotated[Path, typer.Argument(help="A new file: .parquet or .jsonl.")],
    table: Annotated[str, typer.Option(help=", ".join(TABLES))] = "outcomes",
    columns: Annotated[
        str | None, typer.Option(help="With commas between; all if absent.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="First day: YYYY-MM-DD, or 7d for a week.")] = (
        None
    ),
) -> None:
    """Write rows of one table to one file, in constant memory."""
    if table not in TABLES:
        raise typer.BadParameter(f"{table} is none of {', '.join(TABLES)}")
    if output.suffix not in {".parquet", ".jsonl"}:
        raise typer.BadParameter(f"{output} ends neither in .parquet nor in .jsonl")
    names = columns.split(",") if columns else TABLES[table].names
    if unknown := set(names) - set(TABLES[table].names):
        raise typer.BadParameter(f"{table} has no column {', '.join(sorted(unknown))}")
    batches = scan(_check_address(root), table, names, since=_day(since))
    schema = pa.schema([TABLES[table].field(name) for name in names])
    write = _write_parquet if output.suffix == ".parquet" else _write_lines
    _tell({"num_rows": write(output, schema, batches)})


def _write_parquet(output: Path, schema: pa.Schema, batches: Any) -> int:  # noqa: ANN401 - pyarrow ships no types
    num_rows = 0
    with pq.ParquetWriter(output, schema, **parquet_options(schema)) as writer:
        for batch in batches:
            writer.write_batch(batch)
            num_rows += batch.num_rows
    return num_rows


def _write_lines(output: Path, _: pa.Schema, batches: Any) -> int:  # noqa: ANN401 - pyarrow ships no types
    num_rows = 0
    with output.open("w") as sink:
        for batch in batches:
            for row in batch.to_pylist():
                sink.write(json.dumps(row, default=str) + "\n")
            num_rows += batch.num_rows
    return num_rows


def _day(text: str | None) -> date | None:
    if text is None:
        return None
    if text.endswith("d") and text[:-1].isdecimal():
        return datetime.now(UTC).date() - timedelta(days=int(text[:-1]))
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text} is neither YYYY-MM-DD nor like 7d") from None


def _open(root: str) -> SegmentStore:
    return open_store(_check_address(root))


def _check_address(root: str) -> str:
    if "://" not in root and not Path(root).is_dir():
        raise typer.BadParameter(f"{root} is no folder")
    return root


def _tell(found: dict[str, Any]) -> None:
    typer.echo(json.dumps(found, indent=2))


if __name__ == "__main__":
    app()
