"""Drills of processes that are killed, on the zoo."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from infra.evidence.serving.drill import LINE, drill_table, entries, stored
from infra.evidence.serving.drills_processes import REQUESTS_PER_S, process_drills, zoo_system

if TYPE_CHECKING:
    from infra.evidence.entry import Entry


def run() -> dict[str, Any]:
    """Kill processes of the zoo, which this brings up."""
    return stored(asyncio.run(process_drills(zoo_system())))


def lines(result: dict[str, Any]) -> list[Entry]:
    """Return the lines of D4 on processes."""
    return entries(result, LINE)


def section(result: dict[str, Any]) -> str:
    """Return the section."""
    return f"""## Processes that are killed

With `kill -9` on the zoo, each choice drawn at random so that every candidate has load,
{REQUESTS_PER_S:g} requests a second with pictures. A candidate is two processes there, the replica
and vLLM's engine core with its worker inside. A candidate counts as masked when `/readyz` no
longer calls it available, looked at 20 times a second. Clients and system share the cores.

{drill_table(result)}

Not measured: a machine that is lost with all its processes, several nodes, candidates on
accelerators, more than one ingress replica.
"""
