"""Promote in MLflow's UI while questions flow: ``python -m infra.evidence.promotion_drill``.

The alias is moved in a real browser: first to a sound version, which must serve without a failed
request; then to four that must be refused, each told on the version itself. Last it goes back to
where it was. The system must run already, with a champion.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, TypeVar

import httpx
import typer
from rich.console import Console
from rich.table import Table

from infra import services
from infra.evidence.registry_copies import (
    FAULTS,
    REFUSED,
    alias_version,
    register_copy,
    tags_of,
)
from infra.evidence.traffic import Answered, traffic
from infra.evidence.ui_promotion import BrowserMissingError, UiPromotion, promote_in_ui
from infra.progress import step

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from infra.evidence.traffic import Traffic

MODEL = "pointsman-router"
ALIAS = "champion"
REQUESTS_PER_S = 10.0
DURATION_S = 30.0
SERVES_WITHIN_S = 60.0
REFUSED_WITHIN_S = 15.0
WATCH_S = 2.0
LOOK_S = 600.0
"""Longer than any promotion in the UI takes."""


PICTURES = services.RUN / "promotion"

Seen = TypeVar("Seen")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Where and how the drill runs."""

    url: str = services.HTTP_URL
    mlflow_uri: str = services.MLFLOW_URI
    requests_per_s: float = REQUESTS_PER_S
    duration_s: float = DURATION_S
    """Of the traffic around the sound promotion; half before, half after."""

    faults: tuple[str, ...] = tuple(FAULTS)
    """Of the bad versions, in turn; names of `FAULTS`."""

    watch_s: float = WATCH_S
    """How long traffic is watched after a refusal."""

    version: str | None = None
    """The sound version to promote; a copy of the champion is registered when None."""

    def promote(self, version: str) -> UiPromotion:
        """Move the alias in the UI."""
        return promote_in_ui(self.mlflow_uri, MODEL, version, ALIAS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """A sound version that was promoted."""

    before: str
    """The version that served."""

    after: str
    in_ui_s: float
    """From asking for the page to the click on "Save aliases"."""

    serves_s: float | None
    """From that click to the first answer of the new version, by receipt; None if none came."""

    last_of_old_s: float
    """From that click to the last answer of the old version; below 0 if none came after it."""

    promotion: UiPromotion


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A bad version that was promoted."""

    fault: str
    version: str
    reason: str
    """What the version's tag says; empty where it was not refused in time."""

    told_s: float | None
    """From the click on "Save aliases" to the tag; None where there was none in time."""

    serving: str | None
    """The version that ``/readyz`` names afterwards."""

    num_requests: int
    """Sent from the click until the watch ended."""

    num_by_others: int
    """Of those, answers whose receipt names another version than the one that should serve."""

    holds: bool
    """Whether it was refused with a reason and the version that served still does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionDrill:
    """What a run came to."""

    requests_per_s: float
    """Aimed at."""

    elapsed_s: float
    num_requests: int
    failures: dict[str, int]
    """Failed requests by status or error."""

    versions: dict[str, int]
    """Answers by the router version of their receipt; empty name where no router decided."""

    swap: Swap
    refusals: tuple[Refusal, ...]
    restored: bool
    """Whether the version that served at first serves again."""

    @property
    def num_failed(self) -> int:
        """Requests that were not answered with 200."""
        return sum(self.failures.values())

    @property
    def holds(self) -> bool:
        """Whether the sound version served, no bad one did, no request failed, all is restored."""
        is_known = self.versions.keys() <= {self.swap.before, self.swap.after}
        return (
            self.num_failed == 0
            and is_known
            and self.restored
            and self.swap.serves_s is not None
            and all(refusal.holds for refusal in self.refusals)
        )


def run_drill(plan: Plan) -> PromotionDrill:
    """Run the drill and leave the alias where it was.

    Raises:
        ServiceError: If no version serves, or the alias names another than the one that does.
        BrowserMissingError: If no Chromium is installed.
    """
    return asyncio.run(_run(plan))


async def _run(plan: Plan) -> PromotionDrill:
    first = _serving_champion(plan)
    sound = plan.version or _copy(plan, first, "drill-sound")
    if sound == first:
        raise services.ServiceError(f"version {sound} serves already; name another one")
    bad = {fault: _copy(plan, first, f"drill {fault}", fault) for fault in plan.faults}
    begun_s = time.monotonic()
    async with traffic(plan.url, requests_per_s=plan.requests_per_s) as sent:
        try:
            swap = await _swap(plan, sent, first, sound)
            refusals = [await _refuse(plan, sent, sound, *one) for one in bad.items()]
        finally:
            restored = await _restore(plan, first)
    return PromotionDrill(
        requests_per_s=plan.requests_per_s,
        elapsed_s=time.monotonic() - begun_s,
        num_requests=len(sent.answers),
        failures=dict(Counter(a.failure for a in sent.answers if a.failure)),
        versions=dict(Counter(a.router_version for a in sent.answers if not a.failure)),
        swap=swap,
        refusals=tuple(refusals),
        restored=restored,
    )


async def _restore(plan: Plan, version: str) -> bool:
    """Promote the version that served at first; return whether it serves again."""
    with step(f"Promote version {version} again", expected_s=10):
        if alias_version(plan.mlflow_uri, MODEL, ALIAS) != version:
            await asyncio.to_thread(plan.promote, version)
        serves = await _until(lambda: _serving(plan) == version or None, SERVES_WITHIN_S)
        return serves is not None


def _serving_champion(plan: Plan) -> str:
    serving, named = _serving(plan), alias_version(plan.mlflow_uri, MODEL, ALIAS)
    if serving is None or serving != named:
        raise services.ServiceError(
            f"version {serving} serves and the alias {ALIAS} names {named}; promote a sound "
            "version first"
        )
    return serving


def _copy(plan: Plan, version: str, name: str, fault: str | None = None) -> str:
    change = None if fault is None else FAULTS[fault]
    return register_copy(plan.mlflow_uri, MODEL, version, name=name, fault=change)


async def _swap(plan: Plan, sent: Traffic, before: str, after: str) -> Swap:
    """Promote the sound version and time it by the receipts."""
    with step(f"Promote version {after}", expected_s=plan.duration_s) as current:
        await asyncio.sleep(plan.duration_s / 2)
        promotion = await asyncio.to_thread(plan.promote, after)
        current.detail = "the alias is moved"
        saved_s = promotion.saved_s
        ends_s = saved_s + plan.duration_s / 2
        first = await _until(lambda: _first_of(sent, after), SERVES_WITHIN_S)
        await asyncio.sleep(max(0.0, ends_s - time.monotonic()))
    last_s = max((a.done_s for a in sent.answers if a.router_version == before), default=saved_s)
    return Swap(
        before=before,
        after=after,
        in_ui_s=saved_s - promotion.opened_s,
        serves_s=None if first is None else first.done_s - saved_s,
        last_of_old_s=last_s - saved_s,
        promotion=promotion,
    )


def _first_of(sent: Traffic, version: str) -> Answered | None:
    return next((a for a in sent.answers if a.router_version == version), None)


async def _refuse(plan: Plan, sent: Traffic, serving: str, fault: str, version: str) -> Refusal:
    """Promote a bad version and watch that it changes nothing."""

    def told() -> tuple[float, str] | None:
        reason = tags_of(plan.mlflow_uri, MODEL, version).get(REFUSED)
        return (time.monotonic(), reason) if reason else None

    with step(f"Promote version {version}: {fault}", expected_s=REFUSED_WITHIN_S):
        # Looked for from the start: the browser is still busy when the tag comes.
        looking = asyncio.create_task(_until(told, LOOK_S))
        promotion = await asyncio.to_thread(plan.promote, version)
        left_s = promotion.saved_s + REFUSED_WITHIN_S - time.monotonic()
        await asyncio.wait({looking}, timeout=max(0.0, left_s))
        told_at = looking.result() if looking.done() else None
        looking.cancel()
        await asyncio.sleep(plan.watch_s)
    watched = sent.since(promotion.saved_s)
    others = sum(a.router_version != serving for a in watched if not a.failure)
    now_serving = await asyncio.to_thread(_serving, plan)
    return Refusal(
        fault=fault,
        version=version,
        reason=told_at[1] if told_at else "",
        told_s=told_at[0] - promotion.saved_s if told_at else None,
        serving=now_serving,
        num_requests=len(watched),
        num_by_others=others,
        holds=told_at is not None and now_serving == serving and others == 0,
    )


def _serving(plan: Plan) -> str | None:
    """Return the router version that serves."""
    reply = httpx.get(f"{plan.url}/readyz", timeout=30, trust_env=False)
    version: str | None = reply.json()["router"].get("router_version")
    return version


async def _until(look: Callable[[], Seen | None], timeout_s: float) -> Seen | None:
    """Return what a look finds, at the latest when the time is up."""
    deadline_s = time.monotonic() + timeout_s
    while (seen := await asyncio.to_thread(look)) is None:
        if time.monotonic() > deadline_s:
            return None
        await asyncio.sleep(0.1)
    return seen


def figures(drill: PromotionDrill) -> list[tuple[str, str]]:
    """Return the run's figures in words."""
    swap = drill.swap
    serves = "never" if swap.serves_s is None else f"{swap.serves_s:.2f} s"
    failures = ", ".join(f"{n} {name}" for name, n in drill.failures.items())
    versions = ", ".join(f"{n} by {name or 'none'}" for name, n in drill.versions.items())
    return [
        ("promoted in the UI", f"version {swap.before} to {swap.after}"),
        ("from opening the page to Save", f"{swap.in_ui_s:.2f} s"),
        ("from Save to the first answer of the new version", serves),
        ("from Save to the last answer of the old version", f"{swap.last_of_old_s:.2f} s"),
        ("requests", f"{drill.num_requests} in {drill.elapsed_s:.0f} s"),
        ("failed requests", f"{drill.num_failed} ({failures})" if failures else "0"),
        ("answers by router version", versions),
        ("the first version serves again", "yes" if drill.restored else "no"),
    ]


def refusal_cells(refusals: Sequence[Refusal]) -> list[tuple[str, ...]]:
    """Return a tuple per bad version: fault, version, told after, who serves, requests, reason."""
    return [
        (
            one.fault,
            one.version,
            "never" if one.told_s is None else f"{one.told_s:.2f} s",
            one.serving or "none",
            f"{one.num_requests}, {one.num_by_others} by others",
            one.reason,
        )
        for one in refusals
    ]


def save_pictures(drill: PromotionDrill, folder: Path) -> None:
    """Write the UI before and after the sound promotion."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "before.png").write_bytes(drill.swap.promotion.before)
    (folder / "after.png").write_bytes(drill.swap.promotion.after)


def main(
    version: Annotated[
        str | None, typer.Option(help="Sound version to promote; default: a copy of the champion.")
    ] = None,
    requests_per_s: Annotated[float, typer.Option(help="Rate of the questions.")] = REQUESTS_PER_S,
    duration_s: Annotated[float, typer.Option(help="Of the traffic around it.")] = DURATION_S,
    pictures: Annotated[Path, typer.Option(help="Folder for pictures of the UI.")] = PICTURES,
) -> None:
    """Drill a promotion on the running system and print what it came to."""
    plan = Plan(version=version, requests_per_s=requests_per_s, duration_s=duration_s)
    try:
        drill = run_drill(plan)
    except (httpx.ConnectError, services.ServiceError, BrowserMissingError) as error:
        print(f"{error}\nThe system must run: `make up`.", file=sys.stderr)
        raise SystemExit(1) from None
    save_pictures(drill, pictures)
    console = Console()
    table = Table(title="A promotion in MLflow's UI", show_header=False)
    for cells in figures(drill):
        table.add_row(*cells)
    console.print(table)
    refused = Table("fault", "version", "told after", "serves", "requests", "reason")
    for row in refusal_cells(drill.refusals):
        refused.add_row(*row)
    console.print(refused)
    if not drill.holds:
        raise SystemExit(1)


if __name__ == "__main__":
    typer.run(main)
