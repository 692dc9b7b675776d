"""Step 8, retrain: a challenger's artifact and held-out rows come in, its certificate goes out.

Deterministic but for the decision times: the clock and the timer are given.

Axis legend: N = rows, F = features, M = candidates, P = inputs.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from router.certificate import Dataset, Evidence, Parity, Versions
from router.errors import InvalidInputError
from router.records import Routing
from training.fitting.policy_value import greedy
from training.proof.challengers import (
    Forecasts,
    neighbours_quality,
    projected,
    single_means,
    timed_decisions,
)
from training.proof.contest import Contest, calibration_by_candidate
from training.proof.gates import certified
from training.proof.off_policy import LoggedRows, evaluable
from training.proof.outcome_model import cross_fitted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from numpy.typing import NDArray

    from router.artifact import RouterArtifact
    from router.candidate import Candidate
    from router.certificate import Certificate
    from router.records import Decision
    from training.data.dataset import TrainingSet
    from training.data.held_out import LabelledRows
    from training.proof.gates import GateConfig

NUM_INPUTS = 16
"""Leading components of the projection that the outcome model looks at."""

NUM_TIMED = 200
"""Decisions that are timed."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trial:
    """A challenger and all that it is judged on."""

    challenger: RouterArtifact
    manifest_sha256: str
    """Of the challenger, as `router.artifact.save_artifact` returns it."""

    champion: RouterArtifact | None
    """The version that serves, if any."""

    train: TrainingSet
    """What the challenger learned from; the baselines learn from it too."""

    held_out: LabelledRows
    """Rows of other groups than ``train``, same columns."""

    candidates: tuple[Candidate, ...]
    """The columns, in order, with today's prices."""

    served_schema_hash: str
    """Of the features that serving extracts."""

    golden: tuple[NDArray[np.floating], NDArray[np.floating]] | None = None
    """Features of the golden inputs, stored and as extracted now, (N, F) each."""

    slices: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    """Further slices of the held-out rows, such as tenants, by name."""

    first_time: datetime | None = None
    """Of the earliest held-out outcome."""

    last_time: datetime | None = None
    routing: Routing = field(default_factory=Routing)
    """Weights of cost and latency to judge by; other wishes are left at their defaults."""

    def __post_init__(self) -> None:
        """Refuse columns that do not match, and wishes that batches do not honour."""
        ids = tuple(candidate.id for candidate in self.candidates)
        if not ids == self.train.candidate_ids == self.held_out.rows.candidate_ids:
            raise InvalidInputError(
                f"train and held_out must have the columns {ids} in order", "candidates"
            )
        weights = Routing(
            cost_weight=self.routing.cost_weight, latency_weight=self.routing.latency_weight
        )
        if self.routing != weights:
            raise InvalidInputError(
                "a trial is judged by cost_weight and latency_weight alone", "routing"
            )


def certify(
    trial: Trial,
    config: GateConfig,
    *,
    now: datetime,
    timer: Callable[[], float] = time.perf_counter,
) -> Certificate:
    """Examine a challenger.

    Args:
        trial: Whom, on what.
        config: Limits of the gates.
        now: When; aware of its time zone.
        timer: Seconds of a monotonic clock.

    Raises:
        InvalidInputError: If no held-out row can tell policies apart.
    """
    bench = _Bench.of(trial)
    rows = bench.held_out.rows
    quality_NM = bench.forecasts["challenger"].quality_NM
    timed = np.linspace(0, len(rows) - 1, min(NUM_TIMED, len(rows))).astype(int)
    decision_time, decisions = timed_decisions(
        trial.challenger.router(),
        trial.champion.router() if trial.champion else None,
        rows.subset(timed),
        trial.candidates,
        routing=trial.routing,
        timer=timer,
    )
    contest = bench.contest
    evidence = Evidence(
        manifest_sha256=trial.manifest_sha256,
        created_at=now.isoformat(),
        versions=bench.versions,
        dataset=bench.dataset(trial),
        cost_weight=trial.routing.cost_weight,
        latency_weight=trial.routing.latency_weight,
        calibration=calibration_by_candidate(quality_NM, contest.rows, rows.candidate_ids),
        decision_time=decision_time,
        parity=_parity(trial, contest, timed, decisions),
        **contest.figures(),
    )
    return certified(evidence, config)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Bench:
    """The rows that can prove something, and what everybody chooses on them."""

    held_out: LabelledRows
    left_out: dict[str, int]
    forecasts: dict[str, Forecasts]
    contest: Contest
    versions: Versions

    @classmethod
    def of(cls, trial: Trial) -> _Bench:
        kept_N, left_out = evaluable(trial.held_out.rows)
        artifacts = {"challenger": trial.challenger}
        if trial.champion is not None:
            artifacts["champion"] = trial.champion
        # A router without a profile of anybody available would not have decided.
        for artifact in artifacts.values():
            known_M = np.array([c.id in artifact.profiles for c in trial.candidates])
            kept_N = kept_N & (trial.held_out.rows.available_NM & known_M).any(axis=1)
        left_out["no_profile"] = int((~kept_N).sum()) - sum(left_out.values())
        if not kept_N.any():
            raise InvalidInputError(
                "no held-out row has a label, a choice and a chance of another candidate; turn "
                f"exploration on or calibrate ({left_out})",
                "held_out",
            )
        held_out = trial.held_out.subset(kept_N)
        forecasts = {
            name: Forecasts.of(artifact, held_out.rows, trial.candidates, trial.routing)
            for name, artifact in artifacts.items()
        }
        slices = {name: np.asarray(inside_N)[kept_N] for name, inside_N in trial.slices.items()}
        return cls(
            held_out=held_out,
            left_out=left_out,
            forecasts=forecasts,
            contest=_contest(trial, held_out, forecasts, slices),
            versions=Versions(
                challenger=trial.challenger.version,
                champion=None if trial.champion is None else trial.champion.version,
                best_single=trial.candidates[int(single_means(trial.train).argmax())].id,
            ),
        )

    def dataset(self, trial: Trial) -> Dataset:
        times = (trial.first_time, trial.last_time)
        first, last = (None if t is None else t.isoformat() for t in times)
        return Dataset(
            first_time=first,
            last_time=last,
            num_rows=len(trial.held_out),
            num_evaluated=len(self.held_out),
            left_out=self.left_out,
            num_labels=int(self.held_out.rows.observed().sum()),
            num_trusted=self.contest.num_trusted(),
        )


def _contest(
    trial: Trial,
    held_out: LabelledRows,
    forecasts: dict[str, Forecasts],
    slices: dict[str, NDArray[np.bool_]],
) -> Contest:
    rows, challenger = held_out.rows, forecasts["challenger"]
    projected_ND = projected(trial.challenger, rows)
    has_image_N = rows.num_images_N > 0
    kind_N = trial.challenger.kinds.assign(projected_ND).argmax(axis=1)
    slices = slices | {"with image": has_image_N, "without image": ~has_image_N}
    slices |= {f"kind {k:02d}": kind_N == k for k in np.unique(kind_N)}
    logged = LoggedRows.of(
        rows,
        cross_fitted(
            rows,
            np.column_stack([projected_ND[:, :NUM_INPUTS], has_image_N]),
            prior_NM=np.nan_to_num(challenger.quality_NM, nan=0.5),
        ),
        penalty_NM=challenger.penalty_NM,
    )
    baselines = {
        "best_single": np.broadcast_to(single_means(trial.train), rows.score_NM.shape),
        "neighbours": neighbours_quality(trial.challenger, trial.train, rows),
    }
    policies = {name: found.policy(rows.available_NM) for name, found in forecasts.items()}
    for name, quality_NM in baselines.items():
        policies[name] = greedy(quality_NM - challenger.penalty_NM, rows.available_NM)
    return Contest(
        rows=logged,
        candidate_ids=rows.candidate_ids,
        policies=policies,
        trusted_NM=held_out.trusted_NM,
        untrusted_NM=held_out.untrusted_NM,
        slices=slices,
    )


def _parity(
    trial: Trial, contest: Contest, timed: NDArray[np.int64], decisions: list[Decision | None]
) -> Parity:
    """Compare what was evaluated with what would be served.

    Decisions are comparable where today's mask is that of the log: a candidate that reads fewer
    images now than it did says nothing of the router.
    """
    known_M = np.array([c.id in trial.challenger.profiles for c in trial.candidates])
    same = []
    for n, decision in zip(timed, decisions, strict=True):
        available_M = contest.rows.available_NM[n] & known_M
        if decision is not None and decision.is_available == tuple(available_M):
            choice = contest.policies["challenger"][n].argmax()
            same.append(decision.choice == contest.candidate_ids[choice])
    num_golden, apart = 0, None
    if trial.golden is not None:
        stored_NF, extracted_NF = trial.golden
        if stored_NF.shape != extracted_NF.shape:
            raise InvalidInputError(
                f"golden features have shapes {stored_NF.shape} and {extracted_NF.shape}", "golden"
            )
        num_golden = len(stored_NF)
        apart = float(np.abs(stored_NF - extracted_NF).max(initial=0.0))
    return Parity(
        feature_schema_hash=trial.challenger.schema.hash,
        served_schema_hash=trial.served_schema_hash,
        num_golden=num_golden,
        golden_difference=apart,
        num_decisions=len(same),
        same_choice_share=float(np.mean(same)) if same else 0.0,
    )
