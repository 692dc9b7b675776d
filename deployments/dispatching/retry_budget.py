"""Step 6, retries: how many calls beyond the first the replica may make now. Pure.

A count for each request would multiply the load just when every candidate fails; a share of the
recent requests bounds it (Finagle's ``RetryBudget``, Envoy's ``retry_budget``).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

EPSILON = 1e-9
"""A fifth five times is a little less than one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRules:
    """How large the budget is."""

    share: float = 0.2
    """Retries that each request adds; 0 or more."""

    min_per_s: float = 1.0
    """Retries that each second adds, so that few requests may be retried too; 0 or more."""

    window_s: float = 10.0
    """For how long an unused retry is kept, on average; above 0."""


class RetryBudget:
    """A balance of retries. One for each ingress replica.

    The balance b falls to its rest by db/dt = min_per_s - b / window_s, and rises by ``share``
    with each request. So there are never more retries than ``share`` of the requests, and
    ``min_per_s`` for each second since ``window_s`` before the start.

    Args:
        rules: Its size.
        now_s: The start, on the clock of the other calls.
    """

    def __init__(self, rules: RetryRules, now_s: float) -> None:
        """Start at rest."""
        self._rules = rules
        self._rest = rules.min_per_s * rules.window_s
        self._balance = self._rest
        self._at_s = now_s

    def note_request(self, now_s: float) -> None:
        """Count a request, when its first call is made."""
        self._settle(now_s)
        self._balance += self._rules.share

    def take(self, now_s: float) -> bool:
        """Take one retry, if there is one; True if it may be made."""
        self._settle(now_s)
        if self._balance < 1.0 - EPSILON:
            return False
        self._balance -= 1.0
        return True

    def balance(self, now_s: float) -> float:
        """Return how many retries are left."""
        self._settle(now_s)
        return self._balance

    def is_scarce(self, now_s: float) -> bool:
        """Return whether less is left than half of what there is at rest."""
        return self.balance(now_s) < max(1.0, self._rest / 2)

    def _settle(self, now_s: float) -> None:
        """Let the balance go towards its rest."""
        passed_s = max(0.0, now_s - self._at_s)
        self._at_s = max(self._at_s, now_s)
        decay = exp(-passed_s / self._rules.window_s)
        self._balance = self._rest + (self._balance - self._rest) * decay
