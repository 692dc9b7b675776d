"""Evidence of what kills cost: the log's writer, a training's worker, and its driver."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from infra import services
from infra.evidence.learning.kill_training import (
    MAX_DIFFERENCE,
    kill_drivers,
    kill_workers,
    own_ray,
)
from infra.evidence.learning.kill_writer import kill_writers
from infra.evidence.parts import figure, table

if TYPE_CHECKING:
    from infra.evidence.entry import Entry

FOLDER = services.RUN / "evidence" / "kills"
NUM_KILLS = 20
WRITER_LIFE_S = 0.5
TRAININGS = ("worker", "driver")


def run(*, kills: int = NUM_KILLS) -> dict[str, Any]:
    """Kill each kind of process so many times."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=FOLDER) as name:
        folder = Path(name)
        began_s = time.monotonic()

        def told(kind: str, result: Any) -> None:  # noqa: ANN401 - one of two records
            found[kind] = dataclasses.asdict(result)
            typer.echo(f"{kind}, {time.monotonic() - began_s:.0f} s: {found[kind]}")

        root = str(folder / "log")
        told("writer", kill_writers(root, folder, num_kills=kills, life_s=WRITER_LIFE_S))
        with own_ray() as address:
            for kind in TRAININGS:
                (folder / kind).mkdir()
            told("worker", kill_workers(folder / "worker", num_kills=kills))
            told("driver", kill_drivers(folder / "driver", address, num_kills=kills))
    return found


def lines(result: dict[str, Any]) -> list[Entry]:
    """Return the lines on the log and on trainings."""
    writer = result["writer"]
    harm = {name: writer[f"num_{name}"] for name in ("lost", "doubled", "faults", "left")}
    told = [
        figure(
            "C5",
            harm["lost"] + harm["doubled"],
            f"acknowledged labels lost or any doubled, of {writer['num_acknowledged']:,}, "
            f"{writer['num_kills']} kills of the log's writer",
            f"0, with {NUM_KILLS} kills or more",
            holds=not any(harm.values()) and writer["num_kills"] >= NUM_KILLS,
        )
    ]
    for kind in TRAININGS:
        one = result[kind]
        told.append(
            figure(
                "C5",
                one["num_runs"] - one["num_whole"],
                f"of {one['num_runs']} trainings ended with another router than undisturbed, "
                f"{one['num_kills']} kills of the {kind}",
                f"0, with {NUM_KILLS} kills or more",
                holds=one["num_runs"] == one["num_whole"] and one["num_kills"] >= NUM_KILLS,
            )
        )
    return told


def section(result: dict[str, Any]) -> str:
    """Tell what was killed, and what was left."""
    writer = result["writer"]
    trainings = table(
        ("killed", "kills", "after a checkpoint", "runs", "whole", "largest difference"),
        (
            (
                kind,
                str(one["num_kills"]),
                str(one["num_with_checkpoint"]),
                str(one["num_runs"]),
                str(one["num_whole"]),
                f"{one['largest_difference']:.1e}",
            )
            for kind, one in ((kind, result[kind]) for kind in TRAININGS)
        ),
    )
    return f"""## Kills

All are `kill -9` at a random moment of the process's life.

**The log's writer**, {writer["num_kills"]} times, each successor on the spool of the dead one, a
local log: {writer["num_acknowledged"]:,} labels were acknowledged, {writer["num_lost"]} of them
are missing from the log, {writer["num_doubled"]} labels stand in it twice; a thorough check finds
{writer["num_faults"]} faults and {writer["num_left"]} files are left in the spool.

**A training on Ray**, on a Ray of its own: the worker while the driver stays, at most three times
a run, which is what a run survives; and the driver, which is started again under the same name
until it ends. A run is whole if every capability token is within {MAX_DIFFERENCE:g} of those of a
training that nobody disturbed, without Ray. A kill before the first checkpoint starts the fit
from its beginning.

{trainings}
"""
