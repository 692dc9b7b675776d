"""Step 8, retrain: how often intervals hold the truth and gates decide right, in a made-up world.

Axis legend: N = rows, M = candidates.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from router.certificate import Dataset, DecisionTime, Evidence, Parity, Versions
from training.fitting.fit import inverse_propensity
from training.fitting.policy_value import greedy
from training.proof.contest import Contest, calibration_by_candidate
from training.proof.gates import GateConfig, judge
from training.proof.off_policy import Estimator, LoggedRows, difference
from training.proof.off_policy import value as value_of
from training.proof.outcome_model import cross_fitted
from training.proof.simulation import LogShape, Poison, World

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.proof.gates import Verdict
    from training.proof.simulation import SimulatedLog

CHAMPION_BLUR, BETTER_BLUR, WORSE_BLUR = 0.4, 0.2, 0.5
"""In the world of seed 0 their true values are 0.716, 0.779 and 0.639."""

HARMFUL_BLUR = WORSE_BLUR
"""Whom an attacker favours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageStudy:
    """What `coverage_study` found."""

    num_logs: int
    num_rows: int
    coverage: dict[str, float]
    """Share of the logs whose interval holds the truth; by estimator, of the value of the better
    challenger and, with ``_difference``, of its gain over the champion."""

    rmse: dict[str, float]
    """Root mean squared error, by the same names."""

    @property
    def dr_over_ips(self) -> float:
        """Return the RMSE of DR over that of IPS, of the value."""
        return self.rmse["dr"] / self.rmse["ips"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateStudy:
    """How gates judged one kind of challenger on many logs."""

    num_logs: int
    num_passed: int
    failed: dict[str, int] = field(default_factory=dict)
    """How often each gate failed."""


def coverage_study(
    num_logs: int = 500, *, shape: LogShape | None = None, world_seed: int = 0
) -> CoverageStudy:
    """Estimate a known value and a known difference on many logs.

    500 logs of 4,000 rows take about 20 s on one core. Users do not err here, so that the truth
    is the world's own, and nothing but logged rows is there to lean on.

    Args:
        num_logs: Logs to draw.
        shape: Of each log; 4,000 rows, a fifth explored, when None.
        world_seed: Of the world.
    """
    shape = shape or LogShape(user_error=0.0, num_calibration=0)
    world = World.make(seed=world_seed)
    best = world.true_value(BETTER_BLUR, shape)
    gain = best - world.true_value(CHAMPION_BLUR, shape)
    holds: dict[str, list[bool]] = {}
    misses: dict[str, list[float]] = {}
    for seed in range(num_logs):
        log = world.log(shape, champion_blur=CHAMPION_BLUR, bad_blur=HARMFUL_BLUR, seed=seed)
        rows, inputs_NP = _logged(log, seed)
        better_NM, champion_NM = (
            world.policy(inputs_NP, rows.available_NM, blur)
            for blur in (BETTER_BLUR, CHAMPION_BLUR)
        )
        for estimator in Estimator:
            pairs = (
                (estimator.value, value_of(rows, better_NM, estimator), best),
                (
                    f"{estimator.value}_difference",
                    difference(rows, better_NM, champion_NM, estimator),
                    gain,
                ),
            )
            for name, found, truth in pairs:
                holds.setdefault(name, []).append(found.low <= truth <= found.high)
                misses.setdefault(name, []).append(found.value - truth)
    return CoverageStudy(
        num_logs=num_logs,
        num_rows=shape.num_rows,
        coverage={name: float(np.mean(held)) for name, held in holds.items()},
        rmse={name: float(np.sqrt(np.mean(np.square(miss)))) for name, miss in misses.items()},
    )


def gate_study(
    blur: float,
    num_logs: int = 20,
    *,
    shape: LogShape | None = None,
    config: GateConfig | None = None,
    world_seed: int = 0,
) -> GateStudy:
    """Let a challenger of a given blur stand before the gates on many logs.

    Args:
        blur: Of the challenger; `BETTER_BLUR` and `WORSE_BLUR` bracket the champion's.
        num_logs: Logs to draw.
        shape: Of each log, poison included.
        config: Limits; the defaults when None.
        world_seed: Of the world.
    """
    shape, config = shape or LogShape(), config or GateConfig()
    world = World.make(seed=world_seed)
    failed: dict[str, int] = {}
    num_passed = 0
    for seed in range(num_logs):
        log = world.log(shape, champion_blur=CHAMPION_BLUR, bad_blur=HARMFUL_BLUR, seed=seed)
        verdict = simulated_verdict(world, log, blur, config, seed=seed)
        num_passed += verdict.passed
        for gate in verdict.gates:
            if not gate.passed:
                failed[gate.name] = failed.get(gate.name, 0) + 1
    return GateStudy(num_logs=num_logs, num_passed=num_passed, failed=failed)


def poison_studies(num_logs: int = 20) -> dict[str, GateStudy]:
    """Let a harmful challenger stand before the gates on logs with a twentieth poisoned."""
    return {
        poison.value: gate_study(HARMFUL_BLUR, num_logs, shape=LogShape(poison=poison))
        for poison in (Poison.RANDOM, Poison.TARGETED)
    }


def simulated_verdict(
    world: World, log: SimulatedLog, blur: float, config: GateConfig, *, seed: int
) -> Verdict:
    """Judge one challenger on one log; time, parity and calibration are taken to be in order."""
    rows, inputs_NP = _logged(log, seed)
    policies = {
        name: world.policy(inputs_NP, rows.available_NM, b)
        for name, b in (("challenger", blur), ("champion", CHAMPION_BLUR))
    }
    best_M = _means(log)
    policies["best_single"] = greedy(
        np.broadcast_to(best_M, rows.score_NM.shape), rows.available_NM
    )
    has_image_N = log.rows.num_images_N > 0
    contest = Contest(
        rows=rows,
        candidate_ids=log.rows.candidate_ids,
        policies=policies,
        trusted_NM=log.trusted_NM,
        untrusted_NM=log.untrusted_NM,
        slices={"with image": has_image_N, "without image": ~has_image_N},
    )
    best_single = log.rows.candidate_ids[int(best_M.argmax())]
    return judge(_evidence(contest, best_single), config)


def _evidence(contest: Contest, best_single: str) -> Evidence:
    rows, seconds = contest.rows, 1e-3
    return Evidence(
        manifest_sha256="0" * 64,
        created_at="2026-01-01T00:00:00+00:00",
        versions=Versions(challenger="challenger", champion="champion", best_single=best_single),
        dataset=Dataset(
            num_rows=len(rows),
            num_evaluated=len(rows),
            left_out={},
            num_labels=len(rows),
            num_trusted=contest.num_trusted(),
        ),
        calibration=calibration_by_candidate(rows.predicted_NM, rows, contest.candidate_ids),
        decision_time=DecisionTime(
            challenger_p50_s=seconds,
            challenger_p95_s=seconds,
            champion_p50_s=seconds,
            champion_p95_s=seconds,
            num_decisions=1,
        ),
        parity=Parity(
            feature_schema_hash="",
            served_schema_hash="",
            num_golden=0,
            num_decisions=0,
            same_choice_share=1.0,
        ),
        **contest.figures(),
    )


def _logged(log: SimulatedLog, seed: int) -> tuple[LoggedRows, NDArray[np.float64]]:
    """Return the log's rows for the estimators, and what the policies look at."""
    inputs_NP = log.rows.features_NF.astype(np.float64)
    return LoggedRows.of(log.rows, cross_fitted(log.rows, inputs_NP, seed=seed)), inputs_NP


def _means(log: SimulatedLog) -> NDArray[np.float64]:
    """Return each candidate's mean score on the log, by inverse propensity."""
    weight_NM = inverse_propensity(log.rows, np.inf)
    score_NM = np.where(weight_NM > 0, log.rows.score_NM, 0.0)
    mean_M: NDArray[np.float64] = (weight_NM * score_NM).sum(axis=0) / np.maximum(
        weight_NM.sum(axis=0), 1e-9
    )
    return mean_M
