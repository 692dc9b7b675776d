"""Step 5, in the shadow: whom the challenger would have chosen, without calling anybody.

It is asked after the decision is made and within the same call, which is what lets the outcome row
hold its choice. A decision takes 0.1 ms; the shadow takes at most a stated part of the time, and
decisions beyond it go unasked and are counted.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from router.errors import PointsmanError
from router.route import route

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from deployments.metrics import DecisionMetrics
    from router.records import Decision, Pool, QueryShape, Routing
    from router.route import Router

logger = logging.getLogger("pointsman.router")

NUM_LABEL_REQUESTS = 1000
"""Decisions kept for which a label would tell the two versions apart; older ones are forgotten."""


class Shadow:
    """Scores the challenger on live traffic.

    Args:
        metrics: Counts agreement and gain.
        max_load: Share of the time that may go into it; above 0, at most 1.
        clock: Monotonic, in seconds.
    """

    def __init__(
        self,
        metrics: DecisionMetrics,
        *,
        max_load: float = 0.1,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Start without a challenger."""
        self._metrics = metrics
        self._pause_per_s = 1.0 / max_load - 1.0
        self._clock = clock
        self._next_s = 0.0
        self._label_requests: deque[str] = deque(maxlen=NUM_LABEL_REQUESTS)
        self._start("")

    def look(
        self,
        challenger: Router | None,
        decision: Decision,
        features_F: NDArray[np.float32],
        shape: QueryShape,
        *,
        pool: Pool,
        routing: Routing,
    ) -> Decision:
        """Return the decision with the challenger's choice beside it, if there was time to ask.

        The challenger decides without exploring; it is held against the champion's greedy choice.
        """
        if challenger is None:
            return decision
        if challenger.version != self._version:
            self._start(challenger.version)
        started_s = self._clock()
        if started_s < self._next_s:
            self._metrics.shadowed("dropped")
            return decision
        try:
            other = route(
                challenger,
                features_F,
                shape,
                pool=pool,
                routing=dataclasses.replace(routing, explore_share=0.0),
                decision_id=decision.decision_id,
                seed=decision.seed,
            )
        except (PointsmanError, ValueError, ArithmeticError) as error:
            self._metrics.shadowed("failed")
            logger.warning("the challenger did not decide: %s: %s", type(error).__name__, error)
            return decision
        finally:
            now_s = self._clock()
            self._next_s = now_s + (now_s - started_s) * self._pause_per_s
        self._note(decision, other)
        return dataclasses.replace(
            decision, shadow_choice=other.choice, shadow_version=challenger.version
        )

    def label_requests(self) -> list[str]:
        """Return the latest decisions in which the two versions disagree, oldest first."""
        return list(self._label_requests)

    def status(self) -> dict[str, Any]:
        """Return what the shadow saw of the challenger since it began."""
        num = max(self._num_scored, 1)
        return {
            "version": self._version or None,
            "num_scored": self._num_scored,
            "disagreement": self._num_differing / num,
            "predicted_gain": self._gain / num,
        }

    def _start(self, version: str) -> None:
        self._version = version
        self._num_scored = self._num_differing = 0
        self._gain = 0.0

    def _note(self, decision: Decision, other: Decision) -> None:
        """Count one comparison; the gain is in the challenger's own utility."""
        self._num_scored += 1
        differs = other.choice != decision.greedy
        if differs:
            utility = dict(zip(other.candidate_ids, other.utilities, strict=True))
            gain = utility[other.choice] - utility[decision.greedy]
            # A candidate that the challenger has no profile of gives it no opinion.
            self._gain += gain if gain == gain else 0.0  # noqa: PLR0124 - NaN
            self._num_differing += 1
            self._label_requests.append(decision.decision_id)
        self._metrics.shadowed("differs" if differs else "agrees")
        status = self.status()
        self._metrics.challenger(status["disagreement"], status["predicted_gain"])
