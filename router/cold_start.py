"""Step 5 before any router: explore among the available, so that there is something to learn from.

Axis legend: M = candidates, in the order of the pool.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from router.errors import NoCandidateError
from router.exploration import Regret
from router.mask import reasons, refuse
from router.query_model import reference_cost_usd
from router.records import Decision, Policy

if TYPE_CHECKING:
    from numpy.typing import NDArray

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

    The propensity is exact, so that the first training learns from these rows. Arguments are
    those of `router.route.route`; besides, ``left`` is what is left of the day's budget, and
    ``preferred`` the default candidate, the dearest available one where it is not. None where
    the request or the budget forbids to explore.

    Raises:
        NoCandidateError: If every candidate is masked.
    """
    names = tuple(candidate.id for candidate in pool.candidates)
    refusals = tuple(refuse(s, shape, routing, None) for s in pool.standings)
    if all(refusals):
        raise NoCandidateError(reasons(names, refusals))
    open_M = np.array([refusal is None for refusal in refusals])
    cost_M = np.array([reference_cost_usd(candidate.price) for candidate in pool.candidates])
    default = _default(names, open_M, cost_M, preferred)
    chance_M = open_M * routing.explore_share / open_M.sum()
    chance_M[default] += 1.0 - routing.explore_share
    regret = _regret(chance_M, cost_M, default)
    if not routing.explore_share or regret.usd > left.usd or regret.quality > left.quality:
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
        regret_usd=regret.usd,
        regret_quality=regret.quality,
        seed=seed,
        features_F=features_F,
    )


def _default(
    names: tuple[str, ...],
    open_M: NDArray[np.bool_],
    cost_M: NDArray[np.float64],
    preferred: str | None,
) -> int:
    if preferred in names and open_M[(index := names.index(preferred))]:
        return index
    return int(np.where(open_M, cost_M, -1.0).argmax())


def _regret(chance_M: NDArray[np.float64], cost_M: NDArray[np.float64], default: int) -> Regret:
    dearer_M = np.maximum(cost_M - cost_M[default], 0.0)
    return Regret(
        usd=float((chance_M * dearer_M).sum()),
        quality=UNKNOWN_REGRET * float(chance_M.sum() - chance_M[default]),
    )
