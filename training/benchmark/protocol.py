"""Every rival is fitted, asked and paid alike, seed by seed.

A rival learns from training and validation rows, its cost weight is chosen on those of them that
are left out in turn, test rows judge it. Costs come in two kinds, which are reported apart:
*predicted* from training rows before anybody answers, which is all that a choice may look at, and
*realised*, as recorded afterwards.

Axis legend: N = queries, M = candidates, W = cost weights.
"""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from router.errors import InvalidInputError
from router.features.project import Projection
from training.benchmark.cost_model import CostModel
from training.benchmark.metrics import COST_WEIGHTS, CurvePoint, rank_score
from training.benchmark.rivals.rival import RivalRows
from training.benchmark.rivals.rows import candidate_means, subset

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from training.benchmark.metrics import CostBounds
    from training.benchmark.rivals.rival import FittedRival, Rival
    from training.benchmark.table import OutcomeTable

NUM_COMPONENTS = 128
"""Most components of a feature block in the projection that all rivals share."""

NUM_TURNS = 5
"""Parts of the groups that are left out in turn to choose a cost weight on. On the validation rows
alone, 213 of the smallest priced pool, what was chosen for one router lay between 0.03 and 0.4
under five seeds."""

HELD_OUT = 8
"""One of the other groups in so many decides settings meanwhile: 10 in 80."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PolicyResult:
    """A policy that needs no fitting."""

    earned_N: NDArray[np.float64]
    """Observed quality of its choice, by test query."""

    point: CurvePoint


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RivalResult:
    """What one rival came to under one seed."""

    name: str
    fit_s: float
    """Wall time of its fit, settings included."""

    earned_N: NDArray[np.float64]
    """Observed quality of its choice at cost weight 0, by test query."""

    sweep: tuple[CurvePoint, ...]
    """In the order of `COST_WEIGHTS`."""

    chosen: CurvePoint
    """The point whose weight has the best Rank Score on rows left out, at realised cost."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeedResult:
    """What all rivals came to on one cut of a pool."""

    seed: int
    num_train: int
    num_validation: int
    query_ids: tuple[str, ...]
    """Of the test rows."""

    group_N: NDArray[np.int64]
    """Of the test rows, numbered within the pool."""

    bounds: CostBounds
    """Of the training rows."""

    best_single: PolicyResult
    """In each row the best by training mean of those available."""

    oracle: PolicyResult
    """The best observed score, the cheapest among ties."""

    rivals: tuple[RivalResult, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PoolResult:
    """What all rivals came to on one pool."""

    pool: str
    candidate_ids: tuple[str, ...]
    has_costs: bool
    """Whether any cost is known; else all are 0 and only quality is to be read."""

    seeds: tuple[SeedResult, ...]

    def to_json(self) -> dict[str, Any]:
        """Return a record that `json.dumps` takes; NaN becomes null and infinity "inf"."""
        record: dict[str, Any] = plain(self)
        return record


def plain(value: Any) -> Any:  # noqa: ANN401 - whatever a record holds
    """Return records, arrays and numbers as JSON has them; NaN as None, infinity as "inf"."""
    if dataclasses.is_dataclass(value):
        return {item.name: plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(item) for item in (value.tolist() if hasattr(value, "tolist") else value)]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def choose(
    quality_NM: NDArray[np.float64],
    cost_NM: NDArray[np.float64],
    available_NM: NDArray[np.bool_],
    cost_weight: float,
) -> NDArray[np.intp]:
    """Return argmax over the available of quality - cost_weight * cost; of equals the first.

    Args:
        quality_NM: Predicted quality.
        cost_NM: Predicted cost in units of the dearest candidate's mean.
        available_NM: At least one in each row.
        cost_weight: 0 or more.
    """
    utility_NM = quality_NM - cost_weight * cost_NM
    return np.where(available_NM, utility_NM, -np.inf).argmax(axis=1)


class _Part(NamedTuple):
    """Rows with both kinds of cost."""

    rows: RivalRows
    realised_NM: NDArray[np.float64]

    @classmethod
    def of(cls, table: OutcomeTable, projection: Projection, costs: CostModel) -> _Part:
        rows = RivalRows(
            projected_ND=projection.transform(table.rows.features_NF),
            score_NM=table.rows.score_NM.astype(np.float64),
            available_NM=table.rows.available_NM,
            cost_usd_NM=costs.predicted(table),
            group_N=table.rows.group_N,
            table=table,
        )
        return cls(rows, costs.realised(table))

    def subset(self, is_kept_N: NDArray[np.bool_]) -> _Part:
        return _Part(subset(self.rows, is_kept_N), self.realised_NM[is_kept_N])

    def result(self, chosen_N: NDArray[np.intp], cost_weight: float = 0.0) -> PolicyResult:
        n = np.arange(len(chosen_N))
        earned_N = self.rows.score_NM[n, chosen_N]
        point = CurvePoint(
            cost_weight=cost_weight,
            quality=float(earned_N.mean()),
            realised_usd=float(self.realised_NM[n, chosen_N].mean()),
            predicted_usd=float(self.rows.cost_usd_NM[n, chosen_N].mean()),
        )
        return PolicyResult(earned_N=earned_N, point=point)

    def sweep(self, quality_NM: NDArray[np.float64], unit_usd: float) -> tuple[PolicyResult, ...]:
        cost_NM, available_NM = self.rows.cost_usd_NM / unit_usd, self.rows.available_NM
        return tuple(
            self.result(choose(quality_NM, cost_NM, available_NM, weight), weight)
            for weight in COST_WEIGHTS
        )

    def oracle(self) -> PolicyResult:
        score_NM = np.where(self.rows.available_NM, self.rows.score_NM, -np.inf)
        is_best_NM = score_NM == score_NM.max(axis=1, keepdims=True)
        return self.result(np.where(is_best_NM, self.realised_NM, np.inf).argmin(axis=1))

    def best_single(self, train: RivalRows) -> PolicyResult:
        mean_NM = np.broadcast_to(candidate_means(train.score_NM), self.realised_NM.shape)
        return self.result(choose(mean_NM, self.realised_NM, self.rows.available_NM, 0.0))


def run_protocol(
    table: OutcomeTable,
    rivals: Sequence[Rival],
    *,
    seeds: Sequence[int],
    on_fit: Callable[[str, int, str], None] = lambda _pool, _seed, _rival: None,
    chooses_weight: bool = True,
    clock: Callable[[], float] = time.monotonic,
) -> PoolResult:
    """Fit, ask and pay every rival on each seed's cut of a pool.

    Args:
        table: The pool; rows that nobody answered are left out.
        rivals: With unique names.
        seeds: One or more.
        on_fit: Is told pool, seed and rival as each one's turn begins.
        chooses_weight: Whether a cost weight is chosen, for which each rival is fitted
            `NUM_TURNS` times more; else, and where costs have no range, the chosen weight is 0.
        clock: Monotonic seconds.

    Raises:
        InvalidInputError: If there is no seed or no rival, names repeat, a cut leaves a part
            empty, or a rival's predictions are not finite or not one for each candidate.
    """
    names = [rival.name for rival in rivals]
    if not (names and seeds) or len(set(names)) != len(names):
        raise InvalidInputError(
            f"a run needs seeds and rivals of unique names, got {seeds} and {names}", "rivals"
        )
    answered = table.subset(table.rows.available_NM.any(axis=1))
    results = []
    for seed in seeds:
        cut = _Cut.of(answered, seed)
        fitted = []
        for rival in rivals:
            on_fit(table.name, seed, rival.name)
            weight = cut.choose_weight(rival) if chooses_weight else 0
            fitted.append(cut.judge(rival, weight, clock))
        results.append(cut.result(tuple(fitted)))
    return PoolResult(
        pool=table.name,
        candidate_ids=table.rows.candidate_ids,
        has_costs=bool(np.isfinite(answered.cost_usd_NM).any()),
        seeds=tuple(results),
    )


class _Cut(NamedTuple):
    """One seed's three parts, and what they share."""

    seed: int
    train: _Part
    validation: _Part
    past: _Part
    """Training and validation rows."""

    test: _Part
    best_single: PolicyResult
    bounds: CostBounds
    unit_usd: float

    @classmethod
    def of(cls, table: OutcomeTable, seed: int) -> _Cut:
        split = table.split(seed)
        if not all(map(len, split)):
            raise InvalidInputError(
                f"seed {seed} cuts {table.name!r} into parts of {[*map(len, split)]} rows, and "
                "each needs one; add rows of further groups",
                "table",
            )
        projection = Projection.fit(
            split.train.rows.features_NF, table.schema, num_components=NUM_COMPONENTS
        )
        costs = CostModel(split.train)
        train, validation, test = (_Part.of(part, projection, costs) for part in split)
        is_test_N = np.isin(table.rows.group_N, np.unique(split.test.rows.group_N))
        past = _Part.of(table.subset(~is_test_N), projection, costs)
        dearest_usd = float(train.rows.cost_usd_NM.mean(axis=0).max())
        best_single = test.best_single(train.rows)
        unit_usd = dearest_usd if dearest_usd > 0 else 1.0
        return cls(seed, train, validation, past, test, best_single, costs.bounds, unit_usd)

    def choose_weight(self, rival: Rival) -> int:
        """Return the place in `COST_WEIGHTS` of the best Rank Score on rows left out in turn.

        Rivals may refit on the validation rows, and would then look sure of themselves there. So
        each turn has a fit of its own, whose settings are chosen on others than it leaves out.
        """
        if not self.bounds.low < self.bounds.high:
            return 0
        group_N = self.past.rows.group_N
        groups = np.random.default_rng(self.seed).permutation(np.unique(group_N))
        turns = np.array_split(groups, NUM_TURNS)
        sums_W2 = np.zeros((len(COST_WEIGHTS), 2))
        for turn, out in enumerate(turns):
            rest = np.concatenate([part for other, part in enumerate(turns) if other != turn])
            num_held = max(1, len(rest) // HELD_OUT)
            held, learned, judged = (
                self.past.subset(np.isin(group_N, part))
                for part in (rest[:num_held], rest[num_held:], out)
            )
            fitted = rival.fit(learned.rows, held.rows, seed=self.seed)
            points = [result.point for result in self._sweep(fitted, judged, rival.name)]
            sums_W2 += len(judged.realised_NM) * np.array(
                [(point.quality, point.realised_usd) for point in points]
            )
        mean_W2 = sums_W2 / len(group_N)
        return int(np.argmax([rank_score(q, usd, self.bounds) for q, usd in mean_W2.tolist()]))

    def judge(self, rival: Rival, weight: int, clock: Callable[[], float]) -> RivalResult:
        began_s = clock()
        fitted = rival.fit(self.train.rows, self.validation.rows, seed=self.seed)
        fit_s = clock() - began_s
        results = self._sweep(fitted, self.test, rival.name)
        return RivalResult(
            name=rival.name,
            fit_s=fit_s,
            earned_N=results[0].earned_N,
            sweep=tuple(result.point for result in results),
            chosen=results[weight].point,
        )

    def _sweep(self, fitted: FittedRival, part: _Part, name: str) -> tuple[PolicyResult, ...]:
        quality_NM, shape = fitted.quality(part.rows), part.realised_NM.shape
        if quality_NM.shape != shape or not np.isfinite(quality_NM).all():
            raise InvalidInputError(
                f"rival {name!r} must predict finite qualities of shape {shape}, got shape "
                f"{quality_NM.shape} with {int((~np.isfinite(quality_NM)).sum())} not finite",
                "quality",
            )
        return part.sweep(quality_NM, self.unit_usd)

    def result(self, rivals: tuple[RivalResult, ...]) -> SeedResult:
        return SeedResult(
            seed=self.seed,
            num_train=len(self.train.realised_NM),
            num_validation=len(self.validation.realised_NM),
            query_ids=self.test.rows.table.query_ids,
            group_N=self.test.rows.group_N,
            bounds=self.bounds,
            best_single=self.best_single,
            oracle=self.test.oracle(),
            rivals=rivals,
        )
