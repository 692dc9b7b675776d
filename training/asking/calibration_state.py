"""Step 8, before learning: which question was put to which candidate, kept over interruptions.

A SQLite file with one row a reply: its label, its cost, and whether the label was posted. A reply
is written down before its label is posted, so that an interruption between the two loses neither.
A question that was changed in the set is asked again. The file holds no question and no reply.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from training.asking.question_sets import CalibrationQuestion

_CREATE = """
create table if not exists replies (
    question_id text not null,
    fingerprint text not null,
    candidate_id text not null,
    decision_id text not null unique,
    label text not null,
    cost_usd real not null,
    is_posted integer not null default 0,
    primary key (question_id, fingerprint, candidate_id)
)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class GradedReply:
    """One candidate's reply to one question, after grading."""

    decision_id: str
    label: dict[str, Any]
    """As ``POST /v1/outcomes`` takes it."""

    cost_usd: float
    """What the candidate and the judge cost."""


class CalibrationState:
    """What was asked so far. Used from one event loop; each change is on disk when it returns.

    Use as a context manager, which closes the file.

    Args:
        path: The file, made if missing; kept in memory alone when None.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Open the file."""
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._database = sqlite3.connect(path or ":memory:", isolation_level=None)
        self._database.execute("pragma journal_mode = wal")
        self._database.execute(_CREATE)

    def __enter__(self) -> Self:
        """Return the state itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._database.close()

    def is_done(self, question: CalibrationQuestion, candidate_id: str) -> bool:
        """Return whether the candidate has answered this question, as it stands now."""
        found = self._database.execute(
            "select 1 from replies where question_id = ? and fingerprint = ? and candidate_id = ?",
            (question.question_id, question.fingerprint(), candidate_id),
        )
        return found.fetchone() is not None

    def add(self, question: CalibrationQuestion, candidate_id: str, reply: GradedReply) -> None:
        """Write a reply down."""
        self._database.execute(
            "insert into replies values (?, ?, ?, ?, ?, ?, 0)",
            (
                question.question_id,
                question.fingerprint(),
                candidate_id,
                reply.decision_id,
                json.dumps(reply.label),
                reply.cost_usd,
            ),
        )

    def unposted(self, limit: int) -> list[dict[str, Any]]:
        """Return labels that wait to be posted, the oldest first."""
        found = self._database.execute(
            "select label from replies where not is_posted order by rowid limit ?", (limit,)
        )
        return [json.loads(label) for (label,) in found]

    def num_unposted(self) -> int:
        """Return how many labels wait to be posted."""
        found = self._database.execute("select count(*) from replies where not is_posted")
        return int(found.fetchone()[0])

    def mark_posted(self, decision_ids: Iterable[str]) -> None:
        """Note that the labels of some decisions were taken."""
        with self._database:
            self._database.executemany(
                "update replies set is_posted = 1 where decision_id = ?",
                [(decision_id,) for decision_id in decision_ids],
            )

    def forget(self, decision_id: str) -> None:
        """Drop a reply whose outcome was lost, so that its question is asked again."""
        self._database.execute("delete from replies where decision_id = ?", (decision_id,))

    def spent_usd(self, candidate_ids: Iterable[str]) -> float:
        """Return what the replies of some candidates have cost so far."""
        found = self._database.execute(
            "select candidate_id, sum(cost_usd) from replies group by candidate_id"
        )
        cost_usd = dict(found.fetchall())
        return float(sum(cost_usd.get(candidate_id, 0.0) for candidate_id in candidate_ids))

    def dearest_usd(self) -> dict[str, float]:
        """Return what the dearest reply of each candidate has cost."""
        found = self._database.execute(
            "select candidate_id, max(cost_usd) from replies group by candidate_id"
        )
        return dict(found.fetchall())

    def last_posted(self) -> str | None:
        """Return the decision whose label was taken last; None where none was."""
        found = self._database.execute(
            "select decision_id from replies where is_posted order by rowid desc limit 1"
        ).fetchone()
        return None if found is None else str(found[0])
