"""Evidence of the judge, in made-up worlds whose truth is known: intervals, gates, poison."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from infra.evidence.parts import figure, table
from training.proof.coverage import (
    BETTER_BLUR,
    CHAMPION_BLUR,
    WORSE_BLUR,
    coverage_study,
    gate_study,
    poison_studies,
)
from training.proof.simulation import LogShape, Poison, World

if TYPE_CHECKING:
    from infra.evidence.entry import Entry

NUM_WORLDS = 5
NUM_GATE_LOGS = 20
MIN_BETTER_PASSED = 18
MIN_COVERAGE, MAX_COVERAGE = 0.93, 0.97
DR, IPS = "dr", "ips"


def run(*, logs: int = 500) -> dict[str, Any]:
    """Study coverage and gates in several worlds, and poison in that of seed 0."""
    shape = LogShape()
    worlds = []
    for seed in range(NUM_WORLDS):
        world = World.make(seed=seed)
        coverage = coverage_study(logs, world_seed=seed)
        worlds.append(
            {
                "seed": seed,
                "coverage": coverage.coverage,
                "rmse": coverage.rmse,
                "num_rows": coverage.num_rows,
                "values": {
                    name: world.true_value(blur, shape)
                    for name, blur in (
                        ("champion", CHAMPION_BLUR),
                        ("better", BETTER_BLUR),
                        ("worse", WORSE_BLUR),
                    )
                },
                "better": dataclasses.asdict(
                    gate_study(BETTER_BLUR, NUM_GATE_LOGS, world_seed=seed)
                ),
                "worse": dataclasses.asdict(
                    gate_study(WORSE_BLUR, NUM_GATE_LOGS, world_seed=seed)
                ),
            }
        )
    harmful = poison_studies(NUM_GATE_LOGS)
    return {
        "num_logs": logs,
        "gate_rows": shape.num_rows,
        "gate_calibration": shape.num_calibration,
        "explore_share": shape.explore_share,
        "poison_share": shape.poison_share,
        "worlds": worlds,
        "poison": {name: dataclasses.asdict(study) for name, study in harmful.items()},
        "better_poisoned": {
            poison.value: dataclasses.asdict(
                gate_study(BETTER_BLUR, NUM_GATE_LOGS, shape=LogShape(poison=poison))
            )
            for poison in (Poison.RANDOM, Poison.TARGETED)
        },
    }


def _pooled(result: dict[str, Any], name: str) -> float:
    """Return a coverage over the logs of all worlds, each of which has as many."""
    return sum(world["coverage"][name] for world in result["worlds"]) / len(result["worlds"])


def _ratio(world: dict[str, Any]) -> float:
    return float(world["rmse"][DR] / world["rmse"][IPS])


def lines(result: dict[str, Any]) -> list[Entry]:
    """Return the lines on intervals, gates and poison."""
    worlds, first = result["worlds"], result["worlds"][0]
    logs, num_gate_logs = result["num_logs"], first["better"]["num_logs"]
    bar = "93 to 97"
    told = []
    for name, what in ((DR, "value"), (f"{DR}_difference", "difference")):
        shares = [world["coverage"][name] for world in worlds]
        pooled = _pooled(result, name)
        for share, unit in (
            (shares[0], f"% of {logs} logs whose DR interval holds the true {what}, world 0"),
            (pooled, f"% of {logs * len(worlds)} logs, {what}, {len(worlds)} worlds pooled"),
            (min(shares), f"% of {logs} logs, {what}, the world where it holds least"),
            (max(shares), f"% of {logs} logs, {what}, the world where it holds most"),
        ):
            told.append(
                figure("C3", share * 100, unit, bar, holds=MIN_COVERAGE <= share <= MAX_COVERAGE)
            )
    worst = max(_ratio(world) for world in worlds)
    refused = num_gate_logs - first["worse"]["num_passed"]
    passed = first["better"]["num_passed"]
    at = f"of {num_gate_logs} logs of {result['gate_rows']:,} rows, world 0"
    told += [
        figure("C3", worst, "RMSE of DR over IPS, worst world", "below 1", holds=worst < 1),
        figure(
            "C3", refused, f"worse challengers refused {at}", str(num_gate_logs),
            holds=refused == num_gate_logs,
        ),
        figure(
            "C3", passed, f"better challengers passed {at}", f"{MIN_BETTER_PASSED} or more",
            holds=passed >= MIN_BETTER_PASSED,
        ),
    ]  # fmt: skip
    share = result["poison_share"]
    told += [
        figure(
            "C7",
            study["num_passed"],
            f"harmful challengers passed with {share:.0%} of labels poisoned ({name}), "
            f"of {study['num_logs']} logs",
            "0",
            holds=study["num_passed"] == 0,
        )
        for name, study in result["poison"].items()
    ]
    return told


def _coverage_table(result: dict[str, Any]) -> str:
    return table(
        ("world", "DR, value", "DR, difference", "SNIPS, value", "IPS, value", "RMSE DR / IPS"),
        (
            (
                str(world["seed"]),
                f"{world['coverage'][DR]:.1%}",
                f"{world['coverage']['dr_difference']:.1%}",
                f"{world['coverage'].get('snips', float('nan')):.1%}",
                f"{world['coverage'][IPS]:.1%}",
                f"{world['rmse'][DR]:.4f} / {world['rmse'][IPS]:.4f}",
            )
            for world in result["worlds"]
        ),
    )


def section(result: dict[str, Any]) -> str:
    """Tell what was simulated, and what came of it in each world."""
    gates = table(
        ("world", "champion", "better", "passed", "worse", "passed"),
        (_gate_row(world) for world in result["worlds"]),
    )
    poison = table(
        ("poison", "harmful challenger passed", "better challenger passed"),
        (
            (
                name,
                f"{study['num_passed']} of {study['num_logs']}",
                f"{result['better_poisoned'][name]['num_passed']} of {study['num_logs']}",
            )
            for name, study in result["poison"].items()
        ),
    )
    first = result["worlds"][0]
    return f"""## Intervals and gates where the truth is known

Logs of made-up worlds
([training/proof/simulation.py](../../training/proof/simulation.py)): a champion logs,
{result["explore_share"]:.0%} of its requests draw uniformly. {result["num_logs"]} logs of
{first["num_rows"]:,} rows for each world; how often the 95 % interval holds the better
challenger's true value, and its true difference from the champion.

{_coverage_table(result)}

{NUM_GATE_LOGS} logs of {result["gate_rows"]:,} rows and {result["gate_calibration"]} calibration
queries for each world stand before the gates as they are configured by default. World 0 is the one
that the challengers were made for; in another world the same blur makes challengers that differ
from the champion by more or by less, as the true values show.

{gates}

An attacker flips {result["poison_share"]:.0%} of all labels, at random or where a label counts
most for the challenger that harms, in world 0.

{poison}
"""


def _gate_row(world: dict[str, Any]) -> tuple[str, ...]:
    def passed(study: dict[str, Any]) -> str:
        why = ", ".join(f"{name} {count}" for name, count in study["failed"].items())
        return f"{study['num_passed']} of {study['num_logs']}" + (
            f" (failed: {why})" if why else ""
        )

    values = world["values"]
    return (
        str(world["seed"]),
        f"{values['champion']:.3f}",
        f"{values['better']:.3f}",
        passed(world["better"]),
        f"{values['worse']:.3f}",
        passed(world["worse"]),
    )
