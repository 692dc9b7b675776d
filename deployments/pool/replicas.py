"""Step 4, seen live: what Serve's status tells of one deployment's replicas. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVING_STATES = frozenset({"RUNNING", "RECOVERING", "PENDING_MIGRATION"})
"""States in which a replica answers. A controller that was restarted has not asked the second yet;
the third serve on until others run on a node that stays."""


def states(deployment: Mapping[str, Any]) -> list[str]:
    """Return the state of each replica."""
    return [str(replica.get("state")) for replica in deployment.get("replicas") or []]


def num_serving(deployment: Mapping[str, Any]) -> int:
    """Return how many replicas answer."""
    return sum(state in SERVING_STATES for state in states(deployment))
