"""Step 7, recorded: hand outcome rows and labels to the log, off the request path."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import socket
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import orjson
import pyarrow.compute as pc

from deployments.json_text import read_json, write_json
from deployments.recording.late_features import SHARE, LateFeatures
from monitoring.outcome import OUTCOME_SCHEMA
from monitoring.outcome_log import SegmentWriter, SpoolLimits, read_table
from router.records import Policy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from deployments.exchange import Exchange
    from deployments.question import Question
    from monitoring.outcome import Label, Status
    from router.records import Decision

logger = logging.getLogger("pointsman.outcomes")

NUM_RECENT = 20_000
"""Receipts kept at hand, as JSON of 1 kB each, which no garbage collection walks through; older
ones are looked up in the log."""

_FEATURES_S = 10.0
"""Longest wait for features that a decision was made without; labels of it wait too."""

_MAX_PAUSE_S = 60.0
"""Between tries to reach a store that is away."""


class OutcomeRecorder:
    """Keeps recent receipts and writes the log in the background.

    Args:
        root: The outcome log: a folder, or ``s3://bucket/prefix``.
        flush_s: Seconds between segments.
        features: Computes the features of a question whose decision was made without them.
        features_share: Of one encoder's time, for that.
        spool: Local folder of rows that are not in the log yet; ``<root>/.spool`` if None.
        max_spool_bytes: Most that may lie there of outcomes, and of labels. Beyond it the oldest
            outcomes are dropped; labels, which were acknowledged, never are: new ones are refused.
        on_counts: Shown ``log_counts`` after each try to commit.
    """

    def __init__(  # noqa: PLR0913 - one for each setting of the log
        self,
        root: str | Path,
        *,
        flush_s: float,
        features: Callable[[Question], Awaitable[tuple[str, NDArray[np.float32]]]],
        features_share: float = SHARE,
        spool: Path | None = None,
        max_spool_bytes: int = 1 << 30,
        on_counts: Callable[[dict[str, dict[str, int]]], None] = lambda _: None,
    ) -> None:
        """Open nothing yet."""
        self._on_counts = on_counts
        writer = f"{socket.gethostname()}-{os.getpid()}"
        self._root = root
        self._flush_s = flush_s
        self._late = LateFeatures(features, share=features_share)
        self._outcomes, self._labels = (
            SegmentWriter(
                root,
                table,
                writer=writer,
                spool=spool,
                limits=SpoolLimits(max_spool_bytes=max_spool_bytes, drops_oldest=drops_oldest),
            )
            for table, drops_oldest in (("outcomes", True), ("labels", False))
        )
        # Threads of their own: a store that is away must not keep labels, nor other work of the
        # process, waiting.
        self._shipper = ThreadPoolExecutor(1, thread_name_prefix="pointsman-ship")
        self._syncer = ThreadPoolExecutor(1, thread_name_prefix="pointsman-sync")
        self._recent: OrderedDict[str, bytes] = OrderedDict()
        self._pending: dict[str, asyncio.Task[None]] = {}
        self._num_without_features = 0

    def add_outcome(self, exchange: Exchange, status: Status, decision: Decision) -> None:
        """Take the outcome of a finished request."""
        outcome = exchange.outcome(status, decision)
        row = outcome.row()
        row.pop("features")
        self._recent[decision.decision_id] = _receipt(row)
        while len(self._recent) > NUM_RECENT:
            self._recent.popitem(last=False)
        if decision.features_F is not None:
            self._outcomes.append(outcome)
            return

        if not self._late.has_room():
            self._num_without_features += 1
            self._outcomes.append(outcome)
            return

        async def append_with_features() -> None:
            """Pinned and fallback decisions read no features, but learning needs them."""
            known = outcome
            if (features := await self._features(exchange)) is not None:
                schema_hash, features_F = features
                read = dataclasses.replace(
                    decision, feature_schema_hash=schema_hash, features_F=features_F
                )
                known = dataclasses.replace(outcome, decision=read)
            self._outcomes.append(known)

        task = asyncio.get_running_loop().create_task(append_with_features())
        self._pending[decision.decision_id] = task
        task.add_done_callback(lambda _: self._pending.pop(decision.decision_id, None))

    async def _features(self, exchange: Exchange) -> tuple[str, NDArray[np.float32]] | None:
        """Return a request's features; None, counted, if they are not to be had in time."""
        features = None
        try:
            async with asyncio.timeout(_FEATURES_S):
                features = await self._late.of(exchange)
        except Exception:
            logger.exception("an outcome is logged without its features")
        self._num_without_features += features is None
        return features

    async def add_labels(self, labels: Sequence[Label]) -> None:
        """Take labels; on return they would survive a power cut. Calls that wait share one sync.

        No label outlives the outcome that it is about: outcomes in memory are spooled first.

        Raises:
            InvalidInputError: If a label fits the log's columns not; none is kept.
            OSError: If the disk is full or broken, or holds too many labels that the store does
                not take; the caller may try again.
        """
        loop = asyncio.get_running_loop()
        if tasks := [
            task for label in labels if (task := self._pending.get(label.decision_id)) is not None
        ]:
            await asyncio.wait(tasks)
        await loop.run_in_executor(self._syncer, self._outcomes.spool_now)
        offer = self._labels.offer_durably(labels)
        await loop.run_in_executor(self._syncer, self._labels.settle, offer)

    def knows(self, decision_id: str) -> bool:
        """Return whether a decision was made here or stands in the log."""
        return self.find(decision_id) is not None

    def find(self, decision_id: str) -> dict[str, Any] | None:
        """Return the outcome row of a decision, without its features."""
        if (recent := self._recent.get(decision_id)) is not None:
            return cast("dict[str, Any]", read_json(recent))
        columns = [name for name in OUTCOME_SCHEMA.names if name != "features"]
        rows = read_table(
            self._root,
            "outcomes",
            columns=columns,
            filters=pc.field("decision_id") == decision_id,
        ).to_pylist()
        return _plain(rows[0]) if rows else None

    def latest(self, limit: int) -> bytes:
        """Return the receipts of this process's latest requests as a JSON list, the last first."""
        return b"[%s]" % b",".join(islice(reversed(self._recent.values()), limit))

    @staticmethod
    def describe(decision: Decision) -> dict[str, Any]:
        """Return a decision as JSON, a row per candidate."""
        predictions = zip(
            decision.quality_means,
            decision.quality_stds,
            decision.costs_usd,
            decision.latencies_s,
            decision.waits_s or (0.0,) * len(decision.latencies_s),
            decision.utilities,
            strict=True,
        )
        columns = ("quality", "quality_std", "cost_usd", "latency_s", "wait_s", "utility")
        rows = [dict(zip(columns, row, strict=True)) for row in predictions]
        rows = rows or [{} for _ in decision.candidate_ids]
        return {
            "decision_id": decision.decision_id,
            "router_version": decision.router_version,
            "choice": decision.choice,
            "policy": Policy(decision.policy).value,
            "propensity": decision.propensity,
            "wanted": decision.wanted or None,
            "candidates": [
                {"id": name, "refusal": refusal, **_plain(row)}
                for name, refusal, row in zip(
                    decision.candidate_ids, decision.refusals, rows, strict=True
                )
            ],
        }

    def counts(self) -> dict[str, int]:
        """Return what was written and what was lost."""
        return {
            "written": self._outcomes.num_written,
            "labels_written": self._labels.num_written,
            "dropped": self._outcomes.num_dropped + self._labels.num_dropped,
            "without_features": self._num_without_features,
        }

    def log_counts(self) -> dict[str, dict[str, int]]:
        """Return what became of the rows of each table, in rows and bytes since the start."""
        return {
            "outcomes": self._outcomes.counts() | {"without_features": self._num_without_features},
            "labels": self._labels.counts(),
        }

    async def run(self) -> None:
        """Bring rows to disk as they come, and commit segments forever. Cancel the task to stop.

        What is not committed by then stays in the spool for the next recorder.
        """
        self._outcomes.start()
        pause_s = self._flush_s
        try:
            while True:
                await asyncio.sleep(pause_s)
                is_committed = await asyncio.get_running_loop().run_in_executor(
                    self._shipper, self._flush
                )
                self._on_counts(self.log_counts())
                pause_s = self._flush_s if is_committed else min(2 * pause_s, _MAX_PAUSE_S)
        finally:
            for writer in (self._outcomes, self._labels):
                writer.close()
            for executor in (self._shipper, self._syncer):
                executor.shutdown(wait=False)

    def _flush(self) -> bool:
        """Commit what was taken; return whether the store took all of it."""
        is_committed = True
        for writer in (self._outcomes, self._labels):
            try:
                writer.flush()
            except OSError:
                is_committed = False
                logger.exception("the outcome log cannot be written; rows are kept")
        return is_committed


def _receipt(row: dict[str, Any]) -> bytes:
    """Return a row as JSON, whatever an endpoint has put into its texts and numbers.

    A copy, because what orjson returns keeps the buffer that it was written into: 16 kB, by
    tracemalloc, instead of 1.8 for a receipt of four candidates.
    """
    try:
        return bytes(memoryview(orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY)))
    except TypeError:
        return write_json(_plain(row))


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row that JSON can say: times as text, NaN as null."""

    def plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
        if isinstance(value, float) and value != value:  # noqa: PLR0124 - NaN
            return None
        if hasattr(value, "isoformat"):
            return value.isoformat()
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return value

    return {key: plain(value) for key, value in row.items()}
