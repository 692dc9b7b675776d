"""Step 5, when the router fails: tell why, and tell a decision that cannot be one. Pure."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from router.errors import PointsmanError

if TYPE_CHECKING:
    from router.records import Decision


class UnsoundDecisionError(PointsmanError):
    """A decision holds a value that no sound scorer gives."""


class RouterGoneError(PointsmanError):
    """No router replica runs; Serve starts another."""


class RouterRestsError(PointsmanError):
    """The router hung too often and is not asked for a while."""


def check_decision(decision: Decision) -> Decision:
    """Return a router's decision as it is. One made before any version serves predicts nothing.

    Raises:
        UnsoundDecisionError: If the choice is not available, or a prediction or the utility of
            whoever is available is no finite number: comparisons with it mean nothing.
    """
    available = [at for at, ok in enumerate(decision.is_available) if ok]
    names = [decision.candidate_ids[at] for at in available]
    if decision.choice not in names:
        raise UnsoundDecisionError(f"the choice {decision.choice!r} is not available")
    for column in ("quality_means", "utilities"):
        values = getattr(decision, column)
        for at in available if values else ():
            if not isfinite(values[at]):
                name = decision.candidate_ids[at]
                raise UnsoundDecisionError(f"{column} of {name} is {values[at]}")
    if not 0 < decision.propensity <= 1 + 1e-9:
        raise UnsoundDecisionError(f"the propensity is {decision.propensity}")
    return decision


def reason_of(error: Exception) -> str:
    """Return in a word why the router made no decision."""
    if isinstance(error, UnsoundDecisionError):
        return "unsound"
    if isinstance(error, RouterRestsError):
        return "rests"
    if isinstance(error, RouterGoneError):
        return "gone"
    if isinstance(error, TimeoutError):
        return "hung"
    return "no_version" if "NoRouterError" in type(error).__name__ else "raised"
