"""Step 5 before any router: explore among the available, so that there is something to learn from.

Axis legend: M = candidates, in the order of the pool.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from router.errors import NoCandidateError
from router.mask import reasons, refuse
from router.query_model import reference_cost_usd
from router.records import Decision, Policy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from router.exploration import Regret
    from router.records import Pool, QueryShape, Routing

UNKNOWN_REGRET = 0.5
"""Quality that a draw is charged with while nothing is known of anybody: between a right answer
where the default is wrong, and the reverse, half of what can be lost."""


def explore_cold(  # noqa: PLR0913 - each argument is one of the steps' inputs
    pool: Pool,
    shape: QueryShape,
    *,
    features_F: NDArray[np.float32],
    feature_schema_hash: str,
    routing: Routing,
    left: Regret,
    preferred: str | None,
    decision_id: str,
    seed: int,
) -> Decision | None:
    """Return the default candidate or, with the exploring share, a uniform draw.

    The propensity is exact, so that the first training learns from these rows.

    Args:
        pool: The candidates and the state of their replicas.
        shape: Size and modalities of the query.
        features_F: The query's raw features; kept for learning.
        feature_schema_hash: Of the features.
        routing: The request's own wishes.
        left: Of the day's budget.
        preferred: The default candidate; the dearest available one where it is not.
        decision_id: The id under which receipt and outcome are kept.
        seed: Of the draw.

    Returns:
        None where the request or the budget forbids to explore.

    Raises:
        NoCandidateError: If every candidate is masked.
    """
    candidates = pool.candidates
    names = tuple(candidate.id for candidate in candidates)
    refusals = tuple(refuse(s, shape, routing, None) for s in pool.standings)
    open_M = np.array([refusal is None for refusal in refusals])
    if not open_M.any():
        raise NoCandidateError(reasons(names, refusals))
    cost_M = np.array([reference_cost_usd(candidate.price) for candidate in candidates])
    default = names.index(preferred) if preferred in names else -1
    if default < 0 or not open_M[default]:
        default = int(np.where(open_M, cost_M, -1.0).argmax())
    share = routing.explore_share
    chance_M = open_M * share / open_M.sum()
    chance_M[default] += 1.0 - share
    others_M = np.arange(len(names)) != default
    usd = float((chance_M * np.maximum(cost_M - cost_M[default], 0.0))[others_M].sum())
    quality = UNKNOWN_REGRET * float(chance_M[others_M].sum())
    if not share or usd > left.usd or quality > left.quality:
        return None
    drawn = int(np.random.default_rng(seed).choice(len(names), p=chance_M))
    return Decision(
        decision_id=decision_id,
        router_version="",
        feature_schema_hash=feature_schema_hash,
        candidate_ids=names,
        refusals=refusals,
        choice=names[drawn],
        propensity=float(chance_M[drawn]),
        propensities=tuple(chance_M.tolist()),
        policy=Policy.GREEDY if drawn == default else Policy.EXPLORE,
        regret_usd=usd,
        regret_quality=quality,
        seed=seed,
        features_F=features_F,
    )
