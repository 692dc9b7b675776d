"""Step 7, rate: how many outcome rows one writer takes to the log with one core, measured."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from monitoring.outcome import Attempt, Outcome, Status, Timing, Usage
from monitoring.outcome_log import SegmentWriter
from router.records import Decision, QueryShape, Routing

if TYPE_CHECKING:
    from pathlib import Path

_CANDIDATES = ("reader", "charter", "scene", "generalist")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRate:
    """What a measurement found. Seconds are of the processor, of all threads of this process."""

    num_rows: int
    append_s: float
    """On the request path: to pack the rows and hand them to the writer."""

    spool_s: float
    """To write the rows to the spool."""

    commit_s: float
    """To read the spool, lay the rows out, write Parquet, and put it into the store."""

    elapsed_s: float
    """All of it, by the wall clock."""

    num_segment_bytes: int
    num_dropped: int

    @property
    def rows_per_core_s(self) -> float:
        """Rows that one core takes in a second."""
        return self.num_rows / (self.append_s + self.spool_s + self.commit_s)


def measure_rate(
    root: str | Path,
    *,
    spool: Path,
    num_features: int,
    num_rows: int = 40_000,
    rows_per_turn: int = 4_000,
    seed: int = 0,
) -> LogRate:
    """Write outcomes of four candidates and measure what it takes.

    The rows are made before the clock runs. Features are normal float32, which no encoder packs
    well; real ones are no larger.

    Args:
        root: An empty log.
        spool: Local folder.
        num_features: F of the feature schema.
        num_rows: In all.
        rows_per_turn: Rows between two flushes.
        seed: Of the features.
    """
    rng = np.random.default_rng(seed)
    rows = [made_up_outcome(n, rng.standard_normal(num_features, np.float32)) for n in range(512)]
    writer = SegmentWriter(root, "outcomes", writer="rate", spool=spool)
    append_s = spool_s = commit_s = 0.0
    started_s = time.perf_counter()
    for start in range(0, num_rows, rows_per_turn):
        begun_s = time.process_time()
        for number in range(start, min(start + rows_per_turn, num_rows)):
            writer.append(rows[number % len(rows)])
        appended_s = time.process_time()
        writer.spool_now()
        spooled_s = time.process_time()
        writer.flush()
        append_s += appended_s - begun_s
        spool_s += spooled_s - appended_s
        commit_s += time.process_time() - spooled_s
    elapsed_s = time.perf_counter() - started_s
    writer.close()
    return LogRate(
        num_rows=writer.num_written,
        append_s=append_s,
        spool_s=spool_s,
        commit_s=commit_s,
        elapsed_s=elapsed_s,
        num_segment_bytes=writer.num_bytes,
        num_dropped=writer.num_dropped,
    )


def made_up_outcome(number: int, features_F: np.ndarray) -> Outcome:
    """Return the outcome of a routed request, one of its own for each number."""
    count = len(_CANDIDATES)
    decision = Decision(
        decision_id=f"dec_{number:024x}",
        router_version="12",
        feature_schema_hash="f" * 64,
        candidate_ids=_CANDIDATES,
        refusals=(None,) * count,
        quality_means=(0.25, 0.5, 0.75, 0.5),
        quality_stds=(0.125,) * count,
        costs_usd=(0.001,) * count,
        latencies_s=(0.5,) * count,
        utilities=(0.25, 0.5, 0.75, 0.5),
        choice="scene",
        propensity=0.95,
        seed=number,
        features_F=features_F,
    )
    return Outcome(
        time=datetime(2026, 3, 1, 12, tzinfo=UTC),
        decision=decision,
        shape=QueryShape(num_chars=80, num_images=1),
        routing=Routing(),
        query_sha256=f"{number:064x}",
        requested_model="auto",
        pool_age_s=0.25,
        attempts=(Attempt(candidate_id="scene", started_s=0.01, duration_s=0.5),),
        answered_by="scene",
        status=Status.OK,
        timing=Timing(latency_s=0.5, decide_s=0.005, time_to_first_token_s=0.1),
        usage=Usage(input_tokens=120, output_tokens=8, cost_usd=0.0003),
    )
