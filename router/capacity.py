"""Steps 4 and 5, capacity: how long a query would wait for a candidate, and what that costs.

Axis legend: M = candidates, in the order of the pool.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from router.records import CAPACITY_REFUSALS, Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from router.records import Standing


def wait_s(standing: Standing, service_s: float) -> float:
    """Return the seconds until a replica works on one more query.

    Where no replica runs yet it is the expected start. Else it is the longer of two estimates:
    the queue's by `queue_wait_s`, and how much later than usual the latest first tokens came,
    which also tells of load that comes from elsewhere.

    Args:
        standing: The candidate and the state of its replicas.
        service_s: Predicted seconds to the whole answer without waiting.
    """
    capacity = standing.capacity
    if not standing.num_running:
        return capacity.start_s or 0.0
    queue_s = 0.0
    if capacity.num_slots:
        num_slots = capacity.num_slots * standing.num_running
        queue_s = queue_wait_s(capacity.num_in_flight, num_slots, service_s)
    return max(queue_s, capacity.slow_start_s)


def queue_wait_s(num_in_flight: int, num_slots: int, service_s: float) -> float:
    """Return the expected wait of a query that finds others before it, first come first served.

    With ``n`` queries in the system and ``c`` slots, the newcomer starts after ``n - c + 1`` of
    them are done. While all slots are busy one is done every ``S / c`` seconds, if service times
    are exponential with mean ``S`` (M/M/c; Gross and Harris, Fundamentals of Queueing Theory,
    section 2.3): ``wait = max(0, n - c + 1) * S / c``. What waits is taken to be like the query
    itself. That more queries slow each other down within the slots is not modelled.

    Args:
        num_in_flight: Queries under way, waiting ones included.
        num_slots: Queries that all replicas together work on at once; at least 1.
        service_s: Mean seconds of service.
    """
    return max(0, num_in_flight - num_slots + 1) * service_s / num_slots


def is_full(standing: Standing) -> bool:
    """Return whether Serve would let no further query into any running replica."""
    capacity = standing.capacity
    if capacity.max_ongoing is None or not standing.num_running:
        return False
    return capacity.num_in_flight >= capacity.max_ongoing * standing.num_running


class Shortfall(NamedTuple):
    """Whom a query would have gone to if nobody lacked replicas, and what it loses by that."""

    at: int
    """Index of the wanted candidate."""

    utility: float
    """Above 0."""

    quality: float
    usd: float
    """Negative where the wanted candidate is the worse or the dearer one."""


def may_be_wanted(refusals: Sequence[Refusal | None]) -> NDArray[np.bool_]:
    """Return who could answer if there were replicas enough, shape (M,)."""
    return np.array([r is None or r in CAPACITY_REFUSALS for r in refusals], dtype=bool)


def shortfall(  # noqa: PLR0913 - each is a column
    ready_utility_M: NDArray[np.float64],
    utility_M: NDArray[np.float64],
    wantable_M: NDArray[np.bool_],
    greedy: int,
    *,
    quality_M: NDArray[np.float64],
    cost_usd_M: NDArray[np.float64],
    cap_M: NDArray[np.float64],
) -> Shortfall | None:
    """Return whom a query wanted in vain, and the regret.

    Args:
        ready_utility_M: Utilities as they would be without any wait; NaN where not known.
        utility_M: Utilities with the wait.
        wantable_M: Who may answer the query if it has a free replica.
        greedy: Index of the greedy choice, which is available.
        quality_M: Predicted quality.
        cost_usd_M: Predicted cost.
        cap_M: Share of the queries for which each is eligible; its regret counts as often.

    Returns:
        The candidate of greatest regret: ``cap * (ready utility - utility of the greedy
        choice)``; None where nothing is lost. It may be the greedy choice itself, where that keeps
        the query waiting.
    """
    regret_M = np.where(wantable_M, cap_M * (ready_utility_M - utility_M[greedy]), -np.inf)
    regret_M[np.isnan(regret_M)] = -np.inf
    wanted = int(regret_M.argmax())
    if not regret_M[wanted] > 0.0:
        return None
    cap = float(cap_M[wanted])
    return Shortfall(
        wanted,
        float(regret_M[wanted]),
        cap * float(quality_M[wanted] - quality_M[greedy]),
        cap * float(cost_usd_M[greedy] - cost_usd_M[wanted]),
    )
