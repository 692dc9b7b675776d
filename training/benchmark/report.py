"""Results of the protocol come in, tables with intervals go out.

One rival is the router under test; every other one is held against it on the same queries.

Axis legend: N = entries, one for each test query of each pool and seed; A = policies.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from router.errors import InvalidInputError
from training.benchmark.intervals import (
    Earned,
    Interval,
    Weighting,
    linked_clusters,
    paired_intervals,
    queries_needed,
)
from training.benchmark.metrics import CostKind, CurveFigures, CurvePoint, share_of_gap
from training.benchmark.protocol import PolicyResult, RivalResult, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from training.benchmark.protocol import PoolResult, SeedResult

BEST_SINGLE, ORACLE = "best_single", "oracle"
"""Rows that every table has; a rival of that name takes the place of the protocol's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRow:
    """What one policy came to on one pool, over all seeds."""

    policy: str
    quality: float
    """At cost weight 0, the mean over all test queries of all seeds."""

    gain: Interval | None
    """By how much the router under test is better; None for itself."""

    share_of_gap: float
    """Of the way from the best single candidate to the oracle."""

    by_quality: CurvePoint
    """At cost weight 0; costs are means of the seeds'."""

    chosen: CurvePoint | None
    """At the weights chosen on other rows: their median, else means of the seeds'. None, as what
    follows, for the protocol's own best single and oracle."""

    realised: CurveFigures | None
    """Means of the seeds', the quality-neutral cost their median, which survives an infinity."""

    predicted: CurveFigures | None
    fit_s: float | None
    """Mean of the seeds'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolTable:
    """One pool's rows."""

    pool: str
    num_candidates: int
    num_queries: int
    """Distinct test queries over all seeds."""

    num_seeds: int
    has_costs: bool
    rows: tuple[PolicyRow, ...]

    def row(self, policy: str) -> PolicyRow | None:
        """Return a policy's row; None if it did not run here."""
        return next((row for row in self.rows if row.policy == policy), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class OverallRow:
    """By how much the router under test is better than one policy, over all pools."""

    policy: str
    pools_alike: Interval
    queries_alike: Interval
    queries_needed: float
    """How many more it would take to tell the difference from 0, pools counted alike; 0 if it is
    told already, inf where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All tables."""

    router: str
    """The rival under test."""

    conditions: str
    """Commit, machine, versions, seeds: one line."""

    pools: tuple[PoolTable, ...]
    overall: tuple[OverallRow, ...]
    """Of the policies that ran on every pool."""


def summarise(
    results: Sequence[PoolResult], router: str, *, conditions: str, rng: np.random.Generator
) -> Report:
    """Lay the results out.

    Args:
        results: One for each pool.
        router: Name of the rival under test; it ran on every pool.
        conditions: See `Report`.
        rng: Draws the resamples of the intervals.

    Raises:
        InvalidInputError: If there is no result, or the router did not run on one of the pools.
    """
    names = [list(_policies(result)) for result in results]
    common = [name for name in (names[0] if names else []) if all(name in n for n in names)]
    if router not in common:
        raise InvalidInputError(
            f"router {router!r} is none of the rivals that ran on every pool: {common}", "router"
        )
    tables = tuple(_pool_table(result, router, rng) for result in results)
    earned = earned_of(results, common)
    alike, by_query = (
        paired_intervals(earned, router, rng=rng, weighting=weighting) for weighting in Weighting
    )
    overall = tuple(
        OverallRow(
            policy=name,
            pools_alike=alike[name],
            queries_alike=by_query[name],
            queries_needed=_still_needed(alike[name]),
        )
        for name in common
        if name != router
    )
    return Report(router=router, conditions=conditions, pools=tables, overall=overall)


def earned_of(results: Sequence[PoolResult], policies: Sequence[str]) -> Earned:
    """Gather what policies earned at cost weight 0; queries of one name are one query."""
    quality, pool, group = [], [], []
    ids: list[str] = []
    for number, result in enumerate(results):
        by_name = _policies(result)
        for place, seed in enumerate(result.seeds):
            quality.append(np.column_stack([by_name[name][place].earned_N for name in policies]))
            pool.append(np.full(len(seed.query_ids), number))
            group.append(seed.group_N)
            ids += seed.query_ids
    pool_N = np.concatenate(pool)
    query_N = np.unique(ids, return_inverse=True)[1]
    return Earned(
        policies=tuple(policies),
        quality_NA=np.concatenate(quality),
        pool_N=pool_N,
        query_N=query_N,
        cluster_N=linked_clusters(pool_N, query_N, np.concatenate(group)),
    )


def _policies(result: PoolResult) -> dict[str, list[PolicyResult | RivalResult]]:
    """Return each policy's results by name, in the order of the seeds; the oracle last."""
    found: dict[str, list[PolicyResult | RivalResult]] = {
        BEST_SINGLE: [seed.best_single for seed in result.seeds]
    }
    for place in range(len(result.seeds[0].rivals)):
        rivals = [seed.rivals[place] for seed in result.seeds]
        found[rivals[0].name] = list(rivals)
    found.setdefault(ORACLE, [seed.oracle for seed in result.seeds])
    return found


def _pool_table(result: PoolResult, router: str, rng: np.random.Generator) -> PoolTable:
    by_name = _policies(result)
    earned = earned_of([result], list(by_name))
    gains = paired_intervals(earned, router, rng=rng)
    single = _mean_earned([seed.best_single for seed in result.seeds])
    oracle = _mean_earned([seed.oracle for seed in result.seeds])
    rows = []
    for name, outcomes in by_name.items():
        quality = _mean_earned(outcomes)
        rivals = [outcome for outcome in outcomes if isinstance(outcome, RivalResult)]
        rows.append(
            PolicyRow(
                policy=name,
                quality=quality,
                gain=gains.get(name),
                share_of_gap=share_of_gap(quality, single, oracle),
                by_quality=_mean_point([_at_zero(outcome) for outcome in outcomes]),
                chosen=_mean_point([rival.chosen for rival in rivals]) if rivals else None,
                realised=_mean_figures(rivals, result.seeds, "realised_usd"),
                predicted=_mean_figures(rivals, result.seeds, "predicted_usd"),
                fit_s=float(np.mean([rival.fit_s for rival in rivals])) if rivals else None,
            )
        )
    return PoolTable(
        pool=result.pool,
        num_candidates=len(result.candidate_ids),
        num_queries=len(np.unique(earned.query_N)),
        num_seeds=len(result.seeds),
        has_costs=result.has_costs,
        rows=tuple(rows),
    )


def _mean_earned(outcomes: Sequence[PolicyResult | RivalResult]) -> float:
    return float(np.concatenate([outcome.earned_N for outcome in outcomes]).mean())


def _at_zero(outcome: PolicyResult | RivalResult) -> CurvePoint:
    return outcome.sweep[0] if isinstance(outcome, RivalResult) else outcome.point


def _mean_point(points: Sequence[CurvePoint]) -> CurvePoint:
    return CurvePoint(
        cost_weight=float(np.median([point.cost_weight for point in points])),
        quality=float(np.mean([point.quality for point in points])),
        realised_usd=float(np.mean([point.realised_usd for point in points])),
        predicted_usd=float(np.mean([point.predicted_usd for point in points])),
    )


def _mean_figures(
    rivals: Sequence[RivalResult], seeds: Sequence[SeedResult], kind: CostKind
) -> CurveFigures | None:
    if not rivals:
        return None
    figures = [
        CurveFigures.of(rival.sweep, rival.chosen, seed.best_single.point, seed.bounds, kind)
        for rival, seed in zip(rivals, seeds, strict=True)
    ]
    return CurveFigures(
        nauc=_finite_mean([figure.nauc for figure in figures]),
        peak_quality=_finite_mean([figure.peak_quality for figure in figures]),
        quality_neutral_cost=float(np.median([figure.quality_neutral_cost for figure in figures])),
        rank_score=_finite_mean([figure.rank_score for figure in figures]),
    )


def _finite_mean(values: Sequence[float]) -> float:
    """Return the mean of those that are defined; NaN if none is."""
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else math.nan


def _still_needed(interval: Interval) -> float:
    return 0.0 if interval.is_significant else queries_needed(interval.difference, interval)


def markdown(report: Report) -> str:
    """Return the report as a page: all pools first, then each pool's costs."""
    legend = (
        f"Under test: **{report.router}**. In brackets the points by which it is better, with "
        "their 95 % interval (paired bootstrap over clusters of queries); an asterisk where the "
        "interval leaves 0 out.\n"
    )
    parts = [
        f"# Routers compared\n\n{report.conditions}\n",
        legend,
        "## Quality at cost weight 0, %\n",
        _across_pools(report, lambda row: f"{100 * row.quality:.1f} {_gain(row.gain)}".strip()),
        "## Over all pools\n",
        _overall(report),
        "## Share of the gap between best single candidate and oracle\n",
        _across_pools(report, lambda row: _number(row.share_of_gap, "{:.3f}")),
        *(_pool_part(pool) for pool in report.pools),
    ]
    return "\n".join(parts)


def write_report(report: Report, folder: Path, name: str) -> None:
    """Write a page and, beside it, its figures as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(markdown(report))
    record = json.dumps(plain(report), indent=1, allow_nan=False)
    (folder / f"{name}.json").write_text(record + "\n")


def _across_pools(report: Report, cell: Callable[[PolicyRow], str]) -> str:
    """Return a table of policies by pools; a dash where a policy did not run."""
    policies = dict.fromkeys(row.policy for pool in report.pools for row in pool.rows)
    lines = []
    for policy in policies:
        found = [pool.row(policy) for pool in report.pools]
        name = f"**{policy}**" if policy == report.router else policy
        lines.append([name, *("-" if row is None else cell(row) for row in found)])
    return _table(["policy", *(pool.pool for pool in report.pools)], lines)


def _overall(report: Report) -> str:
    header = ["policy", "pools alike", "queries alike", "further queries to tell it from 0"]
    lines = [
        [
            row.policy,
            _gain(row.pools_alike)[1:-1],
            _gain(row.queries_alike)[1:-1],
            _number(row.queries_needed, "{:,.0f}"),
        ]
        for row in report.overall
    ]
    return _table(header, lines)


def _pool_part(pool: PoolTable) -> str:
    head = (
        f"## {pool.pool}\n\n{pool.num_candidates} candidates, {pool.num_queries} test queries, "
        f"{pool.num_seeds} seeds.\n"
    )
    if not pool.has_costs:
        return f"{head}\nNo cost is known.\n"
    figures = ["nAUC", "Ps", "QNC", "Rank Score"]
    curves = [
        [row.policy, *_figures(row.realised), *_figures(row.predicted)]
        for row in pool.rows
        if row.realised is not None and row.predicted is not None
    ]
    columns = ["weight", "quality", "realised", "predicted"]
    costs = [
        [row.policy, *_point(row.by_quality), *_point(row.chosen), _number(row.fit_s, "{:.1f}")]
        for row in pool.rows
    ]
    header = ["policy", *columns, *(f"{name}, chosen" for name in columns), "fit, s"]
    return (
        f"{head}\nCurves over the cost weight, with realised and with predicted cost:\n\n"
        f"{_table(['policy', *figures, *(f'{name}, predicted' for name in figures)], curves)}\n"
        "Quality in % and USD per 1,000 queries, at cost weight 0 and at the weight that was "
        "chosen on rows left out in turn:\n\n"
        f"{_table(header, costs)}"
    )


def _figures(figures: CurveFigures) -> list[str]:
    return [
        _number(figures.nauc, "{:.4f}"),
        _number(figures.peak_quality, "{:.4f}"),
        _number(figures.quality_neutral_cost, "{:.3f}"),
        _number(figures.rank_score, "{:.4f}"),
    ]


def _point(point: CurvePoint | None) -> list[str]:
    """Return weight, quality and both costs."""
    if point is None:
        return ["-"] * 4
    costs = [f"{1000 * usd:.3g}" for usd in (point.realised_usd, point.predicted_usd)]
    return [f"{point.cost_weight:.3g}", f"{100 * point.quality:.1f}", *costs]


def _gain(gain: Interval | None) -> str:
    if gain is None:
        return ""
    star = "*" if gain.is_significant else ""
    return f"({100 * gain.difference:+.1f}{star}, {100 * gain.low:+.1f} to {100 * gain.high:+.1f})"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None or math.isnan(value) else form.format(value)


def _table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)
