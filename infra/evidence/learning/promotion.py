"""Promotion in MLflow's UI, by a browser, under traffic, on the system of ``make demo``."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from infra.evidence.parts import figure, table
from infra.evidence.promotion_drill import Plan, run_drill

if TYPE_CHECKING:
    from infra.evidence.entry import Entry

MAX_SWAP_S = 10.0
NUM_VERSIONS = 2


def run() -> dict[str, Any]:
    """Run the drill."""
    drill = run_drill(Plan())
    swap = dataclasses.asdict(drill.swap)
    swap.pop("promotion")  # pictures
    return {
        "num_requests": drill.num_requests,
        "num_failed": drill.num_failed,
        "elapsed_s": drill.elapsed_s,
        "versions": drill.versions,
        "swap": swap,
        "refusals": [dataclasses.asdict(refusal) for refusal in drill.refusals],
    }


def lines(result: dict[str, Any]) -> list[Entry]:
    """Return the lines of C4."""
    swap, refusals = result["swap"], result["refusals"]
    serves_s = swap["serves_s"]
    refused = sum(refusal["holds"] for refusal in refusals)
    return [
        figure(
            "C4",
            result["num_failed"],
            f"failed of {result['num_requests']} requests, 10 a second",
            "0",
            holds=result["num_failed"] == 0,
        ),
        figure(
            "C4",
            float("inf") if serves_s is None else serves_s,
            "s from the alias to the first answer by the new version",
            "at most 10",
            holds=serves_s is not None and serves_s <= MAX_SWAP_S,
        ),
        figure(
            "C4",
            len(result["versions"]),
            "versions named in receipts",
            "2, the old and the new",
            holds=len(result["versions"]) == NUM_VERSIONS,
        ),
        figure(
            "C4",
            refused,
            f"of {len(refusals)} bad versions refused, the champion serving on",
            "all",
            holds=refused == len(refusals),
        ),
    ]


def section(result: dict[str, Any]) -> str:
    """Return the section."""
    rows = [
        (r["fault"], r["reason"] or "-", "-" if r["told_s"] is None else f"{r['told_s']:.1f}")
        for r in result["refusals"]
    ]
    swap = result["swap"]
    return f"""## Promotion in MLflow's UI

A browser opened the version's page and moved the alias, {swap["in_ui_s"]:.1f} s from opening to
the registry's own word. Receipts by version: {result["versions"]}. Then four bad versions got
the alias:

{table(("version", "refused, on its own tag, because", "after s"), rows)}
"""
