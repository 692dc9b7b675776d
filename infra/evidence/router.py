"""Write the evidence of the router: ``python -m infra.evidence.router --data DIR``.

Takes about forty minutes on two cores. Needs the published outcomes; without them there is nothing
to measure, and the command says so.
"""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from infra.evidence.entry import FOLDER, by_line, write_page
from infra.evidence.router_lines import lines
from infra.evidence.router_page import page
from infra.evidence.router_runs import ABLATED_POOLS, POOLS, Run, carry_out, table
from training.benchmark.plots import write_frontiers
from training.benchmark.report import summarise

NUM_PROCESSES = 2


def everything(data: Path) -> tuple[list[Run], list[Run]]:
    """Return the runs that may share the machine, longest first, and those that want it alone."""
    shared = [Run("protocol", pool, data) for pool in reversed(POOLS)]
    shared += [Run("proof", pool, data) for pool in reversed(POOLS)]
    shared += [Run("ablation", pool, data) for pool in ABLATED_POOLS]
    alone = [
        Run("train_router", "all", data),
        Run("train_published", "all", data),
        Run("speed", "dynamath", data),
    ]
    return shared, alone


def carry_out_all(runs: list[Run], num_processes: int) -> dict[tuple[str, str], Any]:
    """Carry runs out, each in a fresh process, and say as each one ends."""
    began = time.monotonic()
    found = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_processes, context, max_tasks_per_child=1) as executor:
        futures = {executor.submit(carry_out, run): run for run in runs}
        for future in as_completed(futures):
            run = futures[future]
            found[run.kind, run.pool] = future.result()
            minutes = (time.monotonic() - began) / 60
            typer.echo(f"{minutes:5.1f} min: {run.kind} {run.pool}, {len(found)}/{len(runs)}")
    return found


def main(
    data: Annotated[Path, typer.Option(help="Folder of the published outcomes.")] = Path(
        "../shared/data/routing"
    ),
) -> None:
    """Measure everything and write docs/evidence/router.md and .json."""
    if not (data / "outcomes.parquet").is_file():
        typer.echo(f"{data} holds no outcomes.parquet; give the folder with --data")
        raise SystemExit(2)
    typer.echo("features of every query: up to six minutes, at once where they are cached")
    table(data, "all")
    typer.echo("runs on two processes: about forty minutes")
    shared, alone = everything(data)
    found = carry_out_all(shared, NUM_PROCESSES)
    found |= carry_out_all(alone, 1)
    results = [found["protocol", pool] for pool in POOLS]
    rng = np.random.default_rng(0)
    report = summarise(results, "pointsman", conditions="", rng=rng)
    ablation = summarise(
        [found["ablation", pool] for pool in ABLATED_POOLS], "pointsman", conditions="", rng=rng
    )
    entries = by_line(lines(report, found))
    write_page("router", page(report, ablation, found, entries), entries)
    write_frontiers(results, "pointsman", FOLDER)
    for entry in entries:
        mark = "✓" if entry.holds else "✗"
        typer.echo(f"{mark} {entry.line}  {entry.figure:g} {entry.unit}  ({entry.bar})")


if __name__ == "__main__":
    typer.run(main)
