"""Step 5, afterwards: let a session stay with who answered it, where that costs little. Pure.

A candidate that has the session's earlier turns in its cache answers sooner, and a user who talks
to one model does not meet another in the middle.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from typing import TYPE_CHECKING

from router.records import Policy

if TYPE_CHECKING:
    from router.records import Decision


DRAWN = frozenset({Policy.GREEDY, Policy.EXPLORE})
"""Policies that draw by propensities."""


def stay(decision: Decision, last: str | None, *, max_loss: float) -> Decision:
    """Return the decision, or the same with the session's last candidate as the choice.

    A fixed map of the draw, whatever was drawn: candidates that are better than ``last`` by no
    more than ``max_loss`` become ``last``, all others stay. ``last`` is known before the draw. So
    its propensity is the sum of theirs and its own, and theirs are 0. A newcomer's probation holds
    for the first request of a session.

    Args:
        decision: A router's decision.
        last: Who answered the session before; None if nobody did.
        max_loss: Most utility given up; 0 or more.
    """
    if decision.policy not in DRAWN or not decision.propensities or not decision.utilities:
        return decision
    if last is None or last not in decision.candidate_ids:
        return decision
    at = decision.candidate_ids.index(last)
    if not decision.is_available[at]:
        return decision
    least = decision.utilities[at]
    moves = [least <= utility <= least + max_loss for utility in decision.utilities]
    total = sum(p for p, m in zip(decision.propensities, moves, strict=True) if m)
    propensities = [0.0 if m else p for p, m in zip(decision.propensities, moves, strict=True)]
    propensities[at] = total
    refusals = list(decision.refusals)
    chosen_at = decision.candidate_ids.index(decision.choice)
    if moves[chosen_at]:
        chosen_at, refusals[at] = at, None
    return dataclasses.replace(
        decision,
        refusals=tuple(refusals),
        choice=decision.candidate_ids[chosen_at],
        propensities=tuple(propensities),
        propensity=propensities[chosen_at],
    )


class Sessions:
    """Who answered each session last, for the most recent ones. One for each ingress replica.

    Args:
        max_sessions: How many are remembered.
    """

    def __init__(self, max_sessions: int = 10_000) -> None:
        """Start without any."""
        self._max_sessions = max_sessions
        self._last: OrderedDict[str, str] = OrderedDict()

    def last(self, session: str | None) -> str | None:
        """Return who answered a session last, if that is remembered."""
        return None if session is None else self._last.get(session)

    def note(self, session: str | None, candidate_id: str) -> None:
        """Remember who answers a session."""
        if session is None:
            return
        self._last[session] = candidate_id
        self._last.move_to_end(session)
        if len(self._last) > self._max_sessions:
            self._last.popitem(last=False)
