"""Drills of what goes wrong around endpoints: they fail, a burst comes, users leave."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from infra.down import main as stop
from infra.evidence.serving.drill import LINE, drill_table, entries, stored
from infra.evidence.serving.drills_load import burst, client_gone
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


def run(requests: int = 3000) -> dict[str, Any]:
    """Drill endpoints, on a light system that this brings up in place of any other."""
    stop()
    with light_system() as upstream:
        return stored(asyncio.run(_drills(upstream, requests)))


async def _drills(upstream: Upstream, requests: int) -> list[Drill]:
    """Run one drill after the other: each takes about an eighth of the requests."""
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
    """Return the lines of D4 on endpoints."""
    return entries(result, LINE)


def section(result: dict[str, Any]) -> str:
    """Return the section."""
    settings = ", ".join(f"`{name}: {value:g}`" for name, value in SETTINGS.items())
    return f"""## Endpoints that fail

The router application is as in the local config but for {settings}; there is no router version,
and there are six candidates of kind `openai` before a small server that behaves as told;
{REQUESTS_PER_S:g} requests a second, every third streamed. Clients, system and the server share
the cores.

{drill_table(result)}
"""
