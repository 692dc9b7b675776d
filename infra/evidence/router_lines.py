"""The router's acceptance lines, each with its figure, from the runs that measured them."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from infra.evidence.entry import Entry
from infra.evidence.router_runs import PRICED
from infra.provenance import commit
from training.benchmark.pool_changes import regret_shares
from training.benchmark.reliability import (
    MANY_OUTCOMES,
    MIN_OUTCOMES,
    calibration_error,
    chance_error,
)
from training.benchmark.rivals.torch_fit import TorchConfig

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from infra.evidence.router_runs import Cost, Proof, Speed
    from training.benchmark.pool_changes import Addition
    from training.benchmark.reliability import FloorCheck
    from training.benchmark.report import Report

    Found = Mapping[tuple[str, str], Any]

COMMAND = "make bench-router"
RIVALS = ("best_single", "knn", "ridge", "mlp_mf", "latent_router")
GAP_BARS = {"blindtest": 0.35, "B_img_5": 0.18, "dynamath": 0.12}
MAX_REGRET_SHARE = 0.2
MAX_LOST_POINTS = 3.0
MAX_PERMUTATION_ERROR = 1e-6
MIN_SPEED_UP = 5.0
MAX_P50_MS = 0.5
MAX_BATCH_MS = 0.06
MAX_LARGE_MS = 10.0
MAX_LARGE_MB = 500.0
MAX_CALIBRATION_ERROR = 0.05
FLOOR_TOLERANCE = 0.02
MAX_TRAINING_SHARE = 0.25


class Coverage(NamedTuple):
    """How often one floor was kept, over pools and seeds."""

    max_quality_drop: float
    confidence: float
    kept: float
    worst: float
    """On the pool where it was kept least."""

    saved: float


def entry(line: str, figure: float, unit: str, bar: str, *, holds: bool) -> Entry:
    """Return one line's figure."""
    return Entry(
        line=line,
        figure=round(float(figure), 4),
        unit=unit,
        bar=bar,
        holds=bool(holds),
        command=COMMAND,
        commit=commit(),
    )


def lines(report: Report, found: Found) -> list[Entry]:
    """Return every line's entries in order."""
    proofs = [result for (kind, _), result in found.items() if kind == "proof"]
    return [
        *_quality_lines(report),
        *_pool_lines(proofs, found["speed", "dynamath"]),
        *_speed_lines(found["speed", "dynamath"]),
        *_reliability_lines(proofs),
        *_training_lines(found["train_router", "all"], found["train_published", "all"]),
    ]


def _quality_lines(report: Report) -> list[Entry]:
    entries = [
        entry(
            "B1",
            100 * row.pools_alike.difference,
            f"points over {row.policy}, pooled (95 % from {100 * row.pools_alike.low:.2f})",
            "interval above 0",
            holds=row.pools_alike.low > 0,
        )
        for row in report.overall
        if row.policy in RIVALS
    ]
    worse = [
        (pool.pool, row.policy)
        for pool in report.pools
        for row in pool.rows
        if row.policy in RIVALS and row.gain is not None and row.gain.high < 0
    ]
    entries.append(
        entry("B1", len(worse), "pools and rivals significantly better", "0", holds=not worse)
    )
    for pool, bar in GAP_BARS.items():
        share = _gap_share(report, pool)
        entries.append(
            entry(
                "B1",
                100 * share,
                f"% of the gap to the oracle closed on {pool}",
                f"{100 * bar:.0f} or more",
                holds=share >= bar,
            )
        )
    return entries + _cost_lines(report)


def _gap_share(report: Report, pool: str) -> float:
    table = next(table for table in report.pools if table.pool == pool)
    row = table.row(report.router)
    return row.share_of_gap if row is not None else math.nan


def _cost_lines(report: Report) -> list[Entry]:
    """Compare curves by their means over pools; best single has no curve.

    A Rank Score is read where a cost weight was chosen: that of weight 0 ignores the cost.
    """
    entries = []
    every = tuple(pool.pool for pool in report.pools)
    for name, reads, pools in (("nauc", "nAUC", every), ("rank_score", "Rank Score", PRICED)):
        means = {
            rival: np.nanmean([_figure(report, pool, rival, name) for pool in pools])
            for rival in (report.router, *RIVALS[1:])
        }
        ours = means.pop(report.router)
        best = max(means, key=lambda rival: means[rival])
        margin = float(100 * (ours - means[best]))
        entries.append(
            entry(
                "B1",
                margin,
                f"points of mean {reads} over the best rival ({best}), {', '.join(pools)}",
                "above 0",
                holds=margin > 0,
            )
        )
    return entries


def _figure(report: Report, pool: str, rival: str, name: str) -> float:
    table = next(table for table in report.pools if table.pool == pool)
    row = table.row(rival)
    if row is None or row.realised is None:
        return math.nan
    return float(getattr(row.realised, name))


def all_additions(proofs: Sequence[Proof]) -> list[Addition]:
    """Return the left-out candidates of every pool."""
    return list(itertools.chain.from_iterable(proof.additions for proof in proofs))


def _pool_lines(proofs: Sequence[Proof], speed: Speed) -> list[Entry]:
    shares = regret_shares(all_additions(proofs), np.random.default_rng(0))
    share, low, high = shares[64]
    num_below = sum(removal.num_below for proof in proofs for removal in proof.removals)
    num_subsets = sum(removal.num_subsets for proof in proofs for removal in proof.removals)
    lost = [
        100 * (full - one)
        for proof in proofs
        for full, one in zip(proof.full, proof.one_outcome, strict=True)
    ]
    return [
        entry(
            "B2",
            100 * share,
            f"% of the regret left with 64 examples (95 % {100 * low:.0f} to {100 * high:.0f})",
            "at most 20",
            holds=share <= MAX_REGRET_SHARE,
        ),
        entry(
            "B2",
            num_below,
            f"of {num_subsets} remaining pools below their best single candidate beyond noise",
            "at most 2.5 % of them, which is what noise alone gives",
            holds=num_below <= 0.025 * num_subsets,
        ),
        entry(
            "B3",
            speed.permutation_error,
            "largest change of a score when 2 to 1,000 candidates change places",
            "at most 1e-6",
            holds=speed.permutation_error <= MAX_PERMUTATION_ERROR,
        ),
        entry(
            "B3",
            float(np.mean(lost)),
            "points lost by one outcome per query against full information, mean over pools",
            "at most 3",
            holds=float(np.mean(lost)) <= MAX_LOST_POINTS,
        ),
    ]


def _speed_lines(speed: Speed) -> list[Entry]:
    one, many = speed.small[0], speed.small[1]
    first, last = speed.large[0], speed.large[-1]
    growth = (last.router_ms / first.router_ms) / (last.num_candidates / first.num_candidates)
    speed_up, batch_ms = one.published_ms / one.router_ms, many.router_ms / many.batch
    return [
        entry(
            "B4",
            speed_up,
            "times as fast as the published network, batch 1, K = 11",
            "5 or more",
            holds=speed_up >= MIN_SPEED_UP,
        ),
        entry("B4", one.router_ms, "ms, p50", "at most 0.5", holds=one.router_ms <= MAX_P50_MS),
        entry(
            "B4",
            batch_ms,
            "ms a query, batch 64",
            "at most 0.06",
            holds=batch_ms <= MAX_BATCH_MS,
        ),
        entry(
            "B4",
            growth,
            "of linear growth from K = 100 to 1,000",
            "at most 1",
            holds=growth <= 1.0,
        ),
        entry(
            "B4",
            last.router_ms,
            "ms, p50, K = 1,000",
            "at most 10",
            holds=last.router_ms <= MAX_LARGE_MS,
        ),
        entry(
            "B4",
            speed.large_mb,
            "MB more at the peak, K = 1,000",
            "at most 500",
            holds=speed.large_mb <= MAX_LARGE_MB,
        ),
    ]


class Calibration(NamedTuple):
    """One candidate's expected calibration error."""

    error: float
    chance: float
    """What a perfectly calibrated forecast stays under on these rows in 95 % of draws."""


def calibration_by_candidate(proof: Proof, min_outcomes: int) -> list[Calibration]:
    """Return the error of each candidate with so many test outcomes."""
    found, rng = [], np.random.default_rng(0)
    for candidate in np.unique(proof.candidate_A):
        of_it = proof.candidate_A == candidate
        if of_it.sum() >= min_outcomes:
            predicted_N, score_N = proof.predicted_A[of_it], proof.score_A[of_it].astype(float)
            chance = chance_error(predicted_N, score_N, proof.group_A[of_it], rng)
            found.append(Calibration(calibration_error(predicted_N, score_N), chance))
    return found


def coverages(proofs: Sequence[Proof]) -> list[Coverage]:
    """Return each floor's coverage, pools alike."""
    by_floor: dict[tuple[float, float], dict[str, list[FloorCheck]]] = {}
    for proof in proofs:
        for checks in proof.floors:
            for check in checks:
                key = (check.max_quality_drop, check.confidence)
                by_floor.setdefault(key, {}).setdefault(proof.pool, []).append(check)
    found = []
    for (drop, confidence), pools in by_floor.items():
        kept = [float(np.mean([c.kept for c in checks])) for checks in pools.values()]
        saved = [float(np.mean([c.saved for c in checks])) for checks in pools.values()]
        found.append(
            Coverage(drop, confidence, float(np.mean(kept)), min(kept), float(np.mean(saved)))
        )
    return found


def _reliability_lines(proofs: Sequence[Proof]) -> list[Entry]:
    calibrated = []
    for number in (MANY_OUTCOMES, MIN_OUTCOMES):
        known = [c for proof in proofs for c in calibration_by_candidate(proof, number)]
        over = [c for c in known if c.error > MAX_CALIBRATION_ERROR]
        beyond = sum(c.error > c.chance for c in over)
        calibrated.append(
            entry(
                "B5",
                max(c.error for c in known),
                f"largest calibration error of {len(known)} candidates with {number:,} test "
                f"outcomes or more ({len(over)} above the bar, {beyond} of them more than a "
                "perfectly calibrated forecast may show by chance)",
                "at most 0.05",
                holds=not over,
            )
        )
    least = min(c.worst - c.confidence for c in coverages(proofs))
    return [
        *calibrated,
        entry(
            "B5",
            100 * least,
            "points between a floor's coverage and its confidence, on its worst pool",
            "-2 or more",
            holds=least >= -FLOOR_TOLERANCE,
        ),
    ]


def _training_lines(router: Cost, published: Cost) -> list[Entry]:
    wall, memory = router.wall_s / published.epoch_s, router.memory_mb / published.memory_mb
    shortest = wall / (TorchConfig().patience + 1)
    return [
        entry(
            "B6",
            shortest,
            "of the published network's shortest training (its patience and a pass), whole",
            "at most 0.25",
            holds=shortest <= MAX_TRAINING_SHARE,
        ),
        entry(
            "B6",
            wall,
            "of the published network's time for one pass, for the whole training, which has none",
            "at most 0.25",
            holds=wall <= MAX_TRAINING_SHARE,
        ),
        entry(
            "B6",
            memory,
            "of the published network's memory",
            "at most 0.25",
            holds=memory <= MAX_TRAINING_SHARE,
        ),
    ]
