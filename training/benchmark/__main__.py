"""``python -m training.benchmark --data DIR`` measures on recorded outcomes.

Writes a report (JSON, Markdown, one frontier plot for each pool) to ``--out``.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from router.features.weights import DEFAULT_FOLDER
from training.benchmark.dump import dump_features
from training.benchmark.plots import write_frontiers
from training.benchmark.protocol import run_protocol
from training.benchmark.report import markdown, summarise, write_report
from training.benchmark.rivals.all_rivals import all_rivals
from training.benchmark.rivals.torch_fit import TorchConfig
from training.benchmark.sources import SourceSpec, load_table

UNDER_TEST = "pointsman"
CACHE = Path(".cache/benchmark")


def main(  # noqa: PLR0913 - each is an option of the command line
    *,
    data: Annotated[Path | None, typer.Option(help="Folder of your own outcomes.")] = None,
    published: Annotated[Path | None, typer.Option(help="Folder of published outcomes.")] = None,
    mmr_bench: Annotated[Path | None, typer.Option(help="MMR-Bench's CSV.")] = None,
    vl_router_bench: Annotated[Path | None, typer.Option(help="VL-RouterBench's files.")] = None,
    pool: Annotated[list[str] | None, typer.Option(help="Published pools; repeatable.")] = None,
    rival: Annotated[list[str] | None, typer.Option(help="Rivals; all when absent.")] = None,
    seeds: Annotated[int, typer.Option(help="Cuts into training and test rows.", min=1)] = 5,
    max_steps: Annotated[int, typer.Option(help="Most steps of a trained rival.", min=1)] = 3000,
    encoders: Annotated[Path, typer.Option(help="Encoders.")] = DEFAULT_FOLDER,
    out: Annotated[Path, typer.Option(help="Where the report goes.")] = Path("benchmark-report"),
    dump: Annotated[
        Path | None,
        typer.Option("--dump-features", help="Write the inputs to this .npz and stop."),
    ] = None,
) -> None:
    """Hold Pointsman's router against every rival on the same queries."""
    source = SourceSpec(
        data=data, published=published, mmr_bench=mmr_bench, vl_router_bench=vl_router_bench
    )
    tables = [
        load_table(spec, report=typer.echo, cache_folder=CACHE, encoder_folder=encoders)
        for spec in (dataclasses.replace(source, pool=name) for name in pool or ["all"])
    ]
    if dump is not None:
        dump_features(tables[0], dump)
        typer.echo(f"wrote {dump}")
        return
    names = None if rival is None else {*rival, UNDER_TEST}
    rivals = all_rivals(names, training=TorchConfig(max_steps=max_steps))
    results = [
        run_protocol(
            table,
            rivals,
            seeds=range(seeds),
            on_fit=lambda name, seed, who: typer.echo(f"{name}, seed {seed}: {who}"),
        )
        for table in tables
    ]
    conditions = f"{seeds} seeds, at most {max_steps} steps of a trained rival"
    report = summarise(results, UNDER_TEST, conditions=conditions, rng=np.random.default_rng(0))
    write_report(report, out, "report")
    write_frontiers(results, UNDER_TEST, out)
    (out / "results.json").write_text(json.dumps([result.to_json() for result in results]))
    typer.echo(markdown(report))
    typer.echo(f"wrote {out}")


if __name__ == "__main__":
    typer.run(main)
