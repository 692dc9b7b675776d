"""Drills of what goes wrong: processes killed, endpoints that fail, a burst, users who leave."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from infra.down import main as stop
from infra.evidence.serving.drill import drill_table, entries, stored
from infra.evidence.serving.drills_load import burst, client_gone
from infra.evidence.serving.drills_processes import REQUESTS_PER_S as PROCESS_REQUESTS_PER_S
from infra.evidence.serving.drills_processes import process_drills, zoo_system
from infra.evidence.serving.drills_upstream import (
    FAULTS,
    REQUESTS_PER_S,
    all_bad,
    nearly_all_bad,
    one_fault,
)
from infra.evidence.serving.light import SETTINGS, VICTIMS, light_system

if TYPE_CHECKING:
    from infra.evidence.entry import Entry
    from infra.evidence.serving.drill import Drill
    from infra.evidence.serving.light import Upstream

LINE = "D4"


def run(requests: int = 3000) -> dict[str, Any]:
    """Drill processes on the zoo, then endpoints, on systems that this brings up."""
    drills = asyncio.run(process_drills(zoo_system()))
    stop()
    with light_system() as upstream:
        drills += asyncio.run(_light(upstream, requests))
    return stored(drills)


async def _light(upstream: Upstream, requests: int) -> list[Drill]:
    """Run what needs no engine: each takes about an eighth of the requests."""
    fault_s = max(4.0, requests / (8 * REQUESTS_PER_S))
    pace = {"fault_s": fault_s, "requests_per_s": REQUESTS_PER_S}
    drills = [
        (await one_fault(upstream, fault, victim, **pace)).tell()
        for fault, victim in zip(FAULTS, VICTIMS, strict=True)
    ]
    drills.append((await burst(upstream, burst_s=fault_s)).tell())
    drills.append((await client_gone(upstream)).tell())
    drills.append((await nearly_all_bad(upstream, **pace)).tell())
    drills += [drill.tell() for drill in await all_bad(upstream, **pace)]
    return drills


def lines(result: dict[str, Any]) -> list[Entry]:
    """Return the lines of D4."""
    return entries(result, LINE)


def section(result: dict[str, Any]) -> str:
    """Return the section."""
    return f"""## Drills

Processes are killed with `kill -9` on the zoo, each choice drawn at random so that every candidate
has load, {PROCESS_REQUESTS_PER_S:g} requests a second with pictures. A candidate is two processes
there, the replica and vLLM's engine core with its worker inside. Endpoints fail on a light system:
the router application as in the local config but for {_settings()}, no router version, and six
candidates of kind `openai` before a small server that behaves as told; {REQUESTS_PER_S:g} requests
a second, every third streamed. A candidate counts as masked when `/readyz` no longer calls it
available, looked at 20 times a second. Clients, system and the server share the cores.

{drill_table(result)}

Not measured: a machine that is lost with all its processes, several nodes, candidates on
accelerators, more than one ingress replica.
"""


def _settings() -> str:
    return ", ".join(f"`{name}: {value:g}`" for name, value in SETTINGS.items())
