"""The page of the router's evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from infra.evidence.parts import table, verdicts
from infra.evidence.router_lines import (
    COMMAND,
    all_additions,
    calibration_by_candidate,
    coverages,
)
from infra.evidence.router_runs import (
    ABLATED_POOLS,
    LARGE_MAX_STEPS,
    MAX_STEPS,
    NUM_SEEDS,
    POOLS,
    PRICED,
)
from infra.provenance import commit, conditions
from training.benchmark.pool_changes import regret_shares
from training.benchmark.protocol import NUM_TURNS
from training.benchmark.reliability import MANY_OUTCOMES, MIN_OUTCOMES
from training.benchmark.report import markdown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from infra.evidence.entry import Entry
    from training.benchmark.report import Report


def page(
    report: Report,
    ablation: Report,
    found: Mapping[tuple[str, str], Any],
    entries: Sequence[Entry],
) -> str:
    """Return the page in Markdown."""
    proofs = [found["proof", pool] for pool in POOLS]
    return f"""# The router

Measured at commit `{commit()}` on {conditions()}, with `{COMMAND}`. {NUM_SEEDS} seeds,
70/10/20 by whole groups, the same projected features and predicted costs for everyone. A rival
that is trained step by step has at most {MAX_STEPS} steps, {LARGE_MAX_STEPS} on `all`, and stops
early on validation rows. A cost weight is chosen on {", ".join(PRICED)} alone, for each rival on
{NUM_TURNS} parts of the training and validation rows that are left out in turn; elsewhere the
Rank Score is that of weight 0.

{verdicts(entries)}

{_nested(markdown(report))}
{_frontiers()}
## What each part is worth

Pools {", ".join(f"{pool} ({n} seeds)" for pool, n in ABLATED_POOLS.items())}. Rows named
`without`, `256 anchors`, `64 components`, `one penalty for both` and `blend` change the router
that serves;
rows that begin with `latent_router` are the published network, with a part taken away, or started
from the router's own prediction. In brackets how much better the whole router is.

{_ablation(ablation)}

{_additions(proofs)}
{_one_outcome(proofs)}
{_speed(found)}
{_reliability(proofs)}
{_training(found)}"""


def _nested(text: str) -> str:
    """Move a report's headings below the page's, and leave its title out."""
    kept = [line for line in text.splitlines() if not line.startswith("# ")]
    return "\n".join(f"#{line}" if line.startswith("#") else line for line in kept) + "\n"


def _frontiers() -> str:
    return "\n".join(f"![Quality over cost on {p}](frontier-{p}.png)" for p in POOLS) + "\n"


def _ablation(report: Report) -> str:
    names = [row.policy for row in report.pools[0].rows]
    rows = []
    for name in names:
        cells = [name]
        for pool in report.pools:
            row = pool.row(name)
            if row is None:
                cells.append("-")
            elif row.gain is None:
                cells.append(f"{100 * row.quality:.1f}")
            else:
                gain = row.gain
                cells.append(
                    f"{100 * row.quality:.1f} ({100 * gain.difference:+.1f}, "
                    f"{100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
                )
        rows.append(cells)
    return table(("policy", *(pool.pool for pool in report.pools)), rows)


def _additions(proofs: Sequence[Any]) -> str:
    shares = regret_shares(all_additions(proofs), np.random.default_rng(0))
    whole = table(
        ("examples", "regret left", "95 %"),
        (
            (str(n), f"{share:.0%}", f"{low:.0%} to {high:.0%}")
            for n, (share, low, high) in shares.items()
        ),
    )
    rows = []
    for proof in proofs:
        for name in dict.fromkeys(a.candidate for a in proof.additions):
            of_it = [a for a in proof.additions if a.candidate == name]
            full, without = (
                float(np.mean(np.concatenate([getattr(a, column) for a in of_it])))
                for column in ("full_N", "without_N")
            )
            added = [float(np.mean(np.concatenate([a.added[n] for a in of_it]))) for n in shares]
            cells = (f"{100 * value:.1f}" for value in (without, *added, full))
            rows.append((proof.pool, name, *cells))
    header = ("pool", "left out", "without it", *(f"n = {n}" for n in shares), "all outcomes")
    removals = [removal for proof in proofs for removal in proof.removals]
    return f"""## Candidates that come and go

Each candidate was left out of training and brought back with n labelled examples. Regret is what
the router that had all its outcomes earns more; the table shows what is left of the regret
without the candidate, summed over pools, candidates and seeds.

{whole}

{table(header, rows)}

Of {sum(r.num_subsets for r in removals)} remaining pools, masked without retraining,
{sum(r.num_below for r in removals)} fell below their best single candidate beyond noise; the worst
differed by {min(r.worst_points for r in removals):.1f} points.
"""


def _one_outcome(proofs: Sequence[Any]) -> str:
    rows = [
        (p.pool, f"{100 * np.mean(p.full):.1f}", f"{100 * np.mean(p.one_outcome):.1f}")
        for p in proofs
        if p.full
    ]
    return f"""## One outcome per query

Candidates drawn with known, unequal chances; equal rows.

{table(("pool", "all outcomes", "one per query"), rows)}
"""


def _speed(found: Mapping[tuple[str, str], Any]) -> str:
    speed = found["speed", "dynamath"]
    timings = table(
        ("candidates", "batch", "router, ms", "published, ms", "ratio"),
        (
            (
                str(t.num_candidates),
                str(t.batch),
                f"{t.router_ms:.3f}",
                "-" if np.isnan(t.published_ms) else f"{t.published_ms:.3f}",
                "-" if np.isnan(t.published_ms) else f"{t.published_ms / t.router_ms:.1f}",
            )
            for t in (*speed.small, *speed.large)
        ),
    )
    return f"""## Speed

One thread, medians, both in turns in one process, from raw features.

{timings}

The encoders, apart: {speed.encoders_ms[0]:.1f} ms for a question and a 640 x 480 picture first
seen, {speed.encoders_ms[1]:.2f} ms where both were seen before (cached by hash).
"""


def _reliability(proofs: Sequence[Any]) -> str:
    errors = table(
        ("pool", "test outcomes or more", "candidates", "mean error", "largest", "chance, mean"),
        (
            (
                p.pool,
                f"{number:,}",
                str(len(e)),
                f"{np.mean([c.error for c in e]):.3f}",
                f"{max(c.error for c in e):.3f}",
                f"{np.mean([c.chance for c in e]):.3f}",
            )
            for p in proofs
            for number in (MANY_OUTCOMES, MIN_OUTCOMES)
            if (e := calibration_by_candidate(p, number))
        ),
    )
    floors = table(
        ("max_quality_drop", "confidence", "kept", "worst pool", "cost saved"),
        (
            (
                f"{c.max_quality_drop:g}",
                f"{c.confidence:g}",
                f"{c.kept:.1%}",
                f"{c.worst:.1%}",
                f"{c.saved:.0%}",
            )
            for c in coverages(proofs)
        ),
    )
    return f"""## Calibration and the floor

Expected calibration error on the test rows of all seeds, by candidate, ten bins. Chance is what a
perfectly calibrated forecast stays under on the same rows in 95 % of draws (signs of deviations
drawn by group of questions); where it is above 0.05, these rows cannot tell. It falls with the
square root of the groups.

{errors}

The cheapest candidate within the floor's slack, against the best prediction; kept is the share of
test queries that lost no more than the drop, pools alike.

{floors}
"""


def _training(found: Mapping[tuple[str, str], Any]) -> str:
    rows = [
        (name, f"{cost.wall_s:.1f}", f"{cost.memory_mb:.0f}")
        for name, cost in (
            ("router, whole training", found["train_router", "all"]),
            ("published network, one pass", found["train_published", "all"]),
        )
    ]
    return f"""## Training

9,000 queries, 22 candidates, one thread, each in a process of its own. The router has no passes:
it searches penalties on folds and solves. A pass of the published network is one of many: it
stops after 15 without improvement at the earliest.

{table(("", "s", "MB more"), rows)}
"""
