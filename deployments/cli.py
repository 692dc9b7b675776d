"""The operator's command, ``pointsman``: look at the running system and steer it, over HTTP alone.

Exit codes: 0 done, 1 the system says no, 2 wrong usage, 3 no sensible answer from the system.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import httpx
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deployments.live_config import redeployable, with_draining
from deployments.pool.pool import read_pool
from router.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from router.records import Standing

app = typer.Typer(help="Look at a running Pointsman and steer it.", no_args_is_help=True)

SAYS_NO = 1
NO_ANSWER = 3
TIMEOUT_S = 10.0
SERVE_PATH = "/api/serve/applications/"
UNTIL = "It holds until the next `serve deploy`: to keep it, write it into the YAML too."

CandidateId = Annotated[str, typer.Argument(help="The candidate's id.", show_default=False)]
Force = Annotated[bool, typer.Option("--force", help="Even if nobody is left to answer.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """Where the system is and how to tell of it."""

    url: str
    serve_api: str
    is_json: bool


@app.callback()
def main(
    context: typer.Context,
    url: Annotated[
        str, typer.Option(envvar="POINTSMAN_URL", help="Where questions are asked.")
    ] = "http://127.0.0.1:8000",
    serve_api: Annotated[
        str, typer.Option(envvar="POINTSMAN_SERVE_API", help="Ray's dashboard.")
    ] = "http://127.0.0.1:8265",
    *,
    is_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look at a running Pointsman and steer it."""
    context.obj = _Target(url=url.rstrip("/"), serve_api=serve_api.rstrip("/"), is_json=is_json)


@app.command()
def status(context: typer.Context) -> None:
    """Tell whether questions are answered and which router decides; exit with 1 if none are."""
    target: _Target = context.obj
    ready = _ask(target.url, "/readyz", accepted=(200, 503))
    if target.is_json:
        _print_json(ready)
    else:
        table = Table("", "", show_header=False)
        for name, value in _flat(ready):
            table.add_row(Text(name), Text(value))
        Console().print(table)
    if not ready.get("ready"):
        raise typer.Exit(SAYS_NO)


@app.command()
def candidates(context: typer.Context) -> None:
    """List the candidates: who may answer now and, if not, why; replicas, prices, limits."""
    target: _Target = context.obj
    pool, faults = read_pool(_ask(target.serve_api, SERVE_PATH), seen_at_s=0.0)
    seen = _ask(target.url, "/readyz", accepted=(200, 503)).get("candidates", {})
    rows = [_candidate_row(standing, seen) for standing in pool.standings]
    rows += [{"id": name, "state": f"left out: {fault}"} for name, fault in faults.items()]
    if target.is_json:
        _print_json(rows)
        return
    _print_table(
        rows,
        ("id", "state", "replicas", "modalities", "max_images", "context_window"),
        ("input_usd_per_mtok", "output_usd_per_mtok"),
    )


@app.command()
def explain(
    context: typer.Context,
    decision_id: Annotated[str, typer.Argument(help="From an answer.", show_default=False)],
) -> None:
    """Show the receipt of a decision: what was predicted of each candidate, and who was chosen."""
    target: _Target = context.obj
    receipt = _ask(target.url, f"/v1/decisions/{quote(decision_id, safe='')}")
    if target.is_json:
        _print_json(receipt)
        return
    _print_table(
        _receipt_rows(receipt),
        ("", "candidate"),
        ("quality", "± std", "cost, USD", "latency, s", "utility", "propensity"),
        ("refusal",),
    )
    facts = ("policy", "router_version", "answered_by", "status", "latency_s", "cost_usd", "time")
    table = Table("", "", show_header=False)
    for name in facts:
        if receipt.get(name) is not None:
            table.add_row(name, Text(_text(receipt[name])))
    for attempt in receipt.get("attempts") or []:
        told = attempt.get("error") or "answered"
        table.add_row(Text(f"attempt: {attempt['candidate_id']}"), Text(told))
    Console().print(table)


@app.command()
def drain(context: typer.Context, candidate: CandidateId, *, force: Force = False) -> None:
    """Send a candidate no new questions; its replicas finish what they have and stay."""
    _steer(context.obj, lambda _: {candidate: True}, force=force)


@app.command()
def undrain(context: typer.Context, candidate: CandidateId) -> None:
    """Send a drained candidate questions again."""
    _steer(context.obj, lambda _: {candidate: False}, force=True)


@app.command()
def pin(context: typer.Context, candidate: CandidateId, *, force: Force = False) -> None:
    """Send all questions to one candidate: every other is drained, so nobody stands in for it."""
    _steer(context.obj, lambda ids: {**dict.fromkeys(ids, True), candidate: False}, force=force)


@app.command()
def unpin(context: typer.Context) -> None:
    """Let the router choose again: no candidate is drained any more."""
    _steer(context.obj, lambda ids: dict.fromkeys(ids, False), force=True)


def _steer(
    target: _Target, change: Callable[[list[str]], dict[str, bool]], *, force: bool
) -> None:
    """Change who drains, in the config that Serve runs."""
    details = _ask(target.serve_api, SERVE_PATH)
    before, _ = read_pool(details, seen_at_s=0.0)
    ids = [candidate.id for candidate in before.candidates]
    try:
        draining = change(ids)
        config = with_draining(redeployable(details), draining)
    except InvalidInputError as error:
        raise _end(str(error), SAYS_NO) from None
    left = [s.candidate.id for s in before.standings if _would_serve(s, draining)]
    if not left and not force:
        raise _end("nobody would be left to answer; --force does it all the same", SAYS_NO)
    _ask(target.serve_api, SERVE_PATH, method="PUT", body=config)
    if target.is_json:
        _print_json({"draining": draining, "left": left})
        return
    for name, is_draining in draining.items():
        typer.echo(f"{name}: {'drains' if is_draining else 'takes questions'}")
    typer.echo(UNTIL)


def _would_serve(standing: Standing, draining: Mapping[str, bool]) -> bool:
    """Tell whether a candidate would answer once the change is made."""
    is_draining = draining.get(standing.candidate.id)
    if is_draining is False:
        return standing.num_running > 0
    return not is_draining and standing.refusal is None


def _ask(
    base: str,
    path: str,
    *,
    method: str = "GET",
    body: object = None,
    accepted: tuple[int, ...] = (200,),
) -> dict[str, Any]:
    """Return the JSON object of an answer; an empty one where the body is empty."""
    try:
        response = httpx.request(
            method, f"{base}{path}", json=body, timeout=TIMEOUT_S, trust_env=False
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        message = f"{base} does not answer ({type(error).__name__}); is it running there?"
        raise _end(message, NO_ANSWER) from None
    answer = _object(response)
    if response.status_code in accepted and answer is not None:
        return answer
    told = (answer or {}).get("error")
    reason = told.get("message") if isinstance(told, dict) else response.text
    is_refusal = 400 <= response.status_code < 500  # noqa: PLR2004 - HTTP's client errors
    raise _end(
        f"{base}{path}: {response.status_code}: {str(reason)[:500]}",
        SAYS_NO if is_refusal else NO_ANSWER,
    )


def _object(response: httpx.Response) -> dict[str, Any] | None:
    """Return the JSON object that a body holds, or None if it holds something else."""
    try:
        value = response.json() if response.content.strip() else {}
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _candidate_row(standing: Standing, seen: Mapping[str, str]) -> dict[str, Any]:
    """Return what there is to say of one candidate.

    The ingress knows more than Serve: who said that it is full, and who failed too often.
    """
    candidate = standing.candidate
    of_serve = standing.refusal.value if standing.refusal else "available"
    return {
        "id": candidate.id,
        "state": seen.get(candidate.id, of_serve),
        "replicas": standing.num_running,
        "modalities": sorted(candidate.modalities),
        "max_images": candidate.max_images,
        "context_window": candidate.context_window,
        "input_usd_per_mtok": candidate.price.input_usd_per_mtok,
        "output_usd_per_mtok": candidate.price.output_usd_per_mtok,
    }


def _receipt_rows(receipt: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row per candidate, the best first and the masked last."""
    columns = {
        "quality": "quality_means",
        "± std": "quality_stds",
        "cost, USD": "costs_usd",
        "latency, s": "latencies_s",
        "utility": "utilities",
        "propensity": "propensities",
        "refusal": "refusals",
    }
    rows = []
    for i, name in enumerate(receipt["candidate_ids"]):
        row = {title: _at(receipt.get(key), i) for title, key in columns.items()}
        if row["propensity"] is None and name == receipt["choice"]:
            row["propensity"] = receipt.get("propensity")
        mark = "→" if name == receipt["choice"] else ""
        rows.append({"": mark, "candidate": name, **row})
    rows.sort(key=lambda row: (row["refusal"] is not None, -(row["utility"] or 0.0)))
    return rows


def _at(values: Any, i: int) -> Any:  # noqa: ANN401 - a column of a receipt
    """Return a candidate's value; receipts of decisions without a router have empty columns."""
    return values[i] if values else None


def _print_table(rows: Iterable[Mapping[str, Any]], *columns: tuple[str, ...]) -> None:
    names = [name for group in columns for name in group]
    table = Table(*(name.replace("_", " ") for name in names))
    for row in rows:
        table.add_row(*(Text(_text(row.get(name))) for name in names))
    Console().print(table)


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Yield the leaves of an answer with their paths."""
    for name, part in value.items():
        if isinstance(part, dict) and part:
            yield from _flat(part, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _text(part)


def _text(value: Any) -> str:  # noqa: ANN401 - any JSON value
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2))


def _end(message: str, code: int) -> typer.Exit:
    """Say what went wrong; the caller raises what is returned."""
    typer.echo(message, err=True)
    return typer.Exit(code)


if __name__ == "__main__":
    app()
