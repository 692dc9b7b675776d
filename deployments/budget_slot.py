"""Step 5, exploring: a replica's part of the day's budget, kept where its successor finds it.

There are as many slots as router replicas, each a file that its holder locks. The operating system
frees the lock when the holder dies, and whoever starts next takes the slot with what is spent of
it. A replica without a slot, as the extra one of a rolling update, does not explore.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from router.errors import InvalidInputError
from router.exploration import UNLIMITED, ExplorationBudget, Regret

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

logger = logging.getLogger("pointsman.router")

RETRY = timedelta(seconds=10)
"""Between tries to take a slot."""

RECORD_BYTES = 256
"""Fixed, so that one write replaces the record and a kill leaves the old one or the new one."""


class BudgetSlot:
    """One of the slots of a folder, held while the process lives.

    Slots are of one machine: replicas on several share a budget by sharing the folder. If the
    number of slots changes, what was spent from slots that are gone counts no more that day.

    Args:
        folder: Where the slots lie; made if missing.
        daily: The budget of all replicas together.
        num_slots: How many replicas share it.
    """

    def __init__(self, folder: Path, daily: Regret, *, num_slots: int) -> None:
        """Take a free slot, if there is one."""
        self._folder = folder
        self._num_slots = num_slots
        self._budget = ExplorationBudget(daily, num_replicas=num_slots)
        self._is_unlimited = daily == UNLIMITED
        self._file: int | None = None
        self._next_try: datetime | None = None
        self._claim()

    def left(self, now: datetime) -> Regret:
        """Return what may still be spent today; nothing without a slot."""
        if self._is_unlimited:
            return UNLIMITED
        if self._file is None and (self._next_try is None or now >= self._next_try):
            self._next_try = now + RETRY
            self._claim()
        return Regret() if self._file is None else self._budget.left(now)

    def charge(self, regret: Regret, now: datetime) -> None:
        """Spend, and write it down before anybody is called.

        Raises:
            ValueError: If it is more than what is left.
        """
        if self._is_unlimited or self._file is None or regret == Regret():
            return
        self._budget.charge(regret, now)
        record = json.dumps(self._budget.to_json()).encode()
        os.pwrite(self._file, record.ljust(RECORD_BYTES), 0)

    def status(self, now: datetime) -> dict[str, Any]:
        """Return what is spent and left of this replica's part; null where there is no limit."""
        left, spent = self.left(now), self._budget.spent
        return {
            "has_slot": self._is_unlimited or self._file is not None,
            "spent_usd": spent.usd,
            "spent_quality": spent.quality,
            "left_usd": None if left.usd == UNLIMITED.usd else left.usd,
            "left_quality": None if left.quality == UNLIMITED.quality else left.quality,
        }

    def close(self) -> None:
        """Give the slot back; the end of the process does the same."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _claim(self) -> bool:
        if self._is_unlimited:
            return True
        self._folder.mkdir(parents=True, exist_ok=True)
        for number in range(self._num_slots):
            path = self._folder / f"slot-{number}.json"
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            if self._takes_over(file, path):
                self._file = file
                return True
            os.close(file)
        return False

    def _takes_over(self, file: int, path: Path) -> bool:
        """Return whether the slot is free and its record, if any, could be read."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        content = os.pread(file, RECORD_BYTES, 0).strip()
        if not content:
            return True
        try:
            self._budget.restore(json.loads(content))
        except (InvalidInputError, ValueError) as error:
            logger.error("%s: %s; nothing is explored by it", path, error)  # noqa: TRY400 - the path says where
            return False
        return True
