"""Step 8, runs: which retraining was the last, and whether it runs, is over or was cut off.

Two places know of a run, and either suffices: a tag of the registered model in MLflow, which
outlives Ray, and the metadata of its Ray job, which is there even if the scheduler died before it
wrote the tag. Ray forgets its jobs with its head node, so that a run without a job and without a
registered version was cut off with the cluster.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MARK = "pointsman"
"""Key of a job's metadata: what the job is for, a `Purpose`."""

RETRAIN_SCRIPT = "training/retrain.py"
BY_HAND = "by hand"
NO_TIME = datetime.min.replace(tzinfo=UTC)


class Purpose(StrEnum):
    """What a job of ours does; of both together one runs at a time."""

    RETRAIN = "retrain"
    PROFILE = "profile"


class JobState(StrEnum):
    """How a job stands."""

    ACTIVE = "active"
    SUCCEEDED = "succeeded"
    STOPPED = "stopped"
    """Somebody stopped it."""

    FAILED = "failed"
    """Its program ended with an error, as it would again."""

    DIED = "died"
    """Its driver was killed, or never started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A Ray job that retrains or profiles."""

    id: str
    """Submission id."""

    purpose: Purpose
    state: JobState
    started: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One retraining, over all its attempts."""

    number: int
    """Counts runs; two schedulers that saw the same last run give the next the same number."""

    attempt: int = 0
    """Counts from 0; a later one goes on where the one before was cut off."""

    name: str
    """Of the router version that comes out."""

    begun: datetime
    """When the first attempt was submitted; labels and drift count from here."""

    reason: str
    newcomers: tuple[str, ...] = ()
    """Candidates that had a profile of their own by then."""

    is_over: bool = False
    """Whether nothing is left to be done for it."""

    @property
    def submission_id(self) -> str:
        """Id of the attempt's job.

        Ray takes an id once: of two schedulers that submit the same attempt, one is refused.
        """
        return f"pointsman-retrain-{self.number:06d}-{self.attempt}"

    @property
    def order(self) -> tuple[int, int]:
        """By which a later run or attempt is greater."""
        return self.number, self.attempt

    def resumed(self) -> Run:
        """Return the next attempt."""
        return dataclasses.replace(self, attempt=self.attempt + 1)

    def to_json(self) -> str:
        """Return the text of the tag."""
        return json.dumps(dataclasses.asdict(self) | {"begun": self.begun.isoformat()})

    @classmethod
    def from_json(cls, text: str) -> Run:
        """Read what `to_json` wrote."""
        found = json.loads(text)
        begun = datetime.fromisoformat(found["begun"])
        return cls(**found | {"begun": begun, "newcomers": tuple(found["newcomers"])})

    def metadata(self) -> dict[str, str]:
        """Return the metadata of the attempt's job; values are texts."""
        return {MARK: Purpose.RETRAIN, "run": self.name, "state": self.to_json()}


def run_of(job: Job) -> Run | None:
    """Return the run that a job is an attempt of; None if no scheduler submitted it."""
    text = job.metadata.get("state")
    return None if text is None else Run.from_json(text)


def latest_run(saved: Run | None, jobs: Iterable[Job]) -> Run | None:
    """Return the last run that either place knows of.

    A run that succeeded without a scheduler counts too: it has seen the labels up to its start.
    """
    runs = [] if saved is None else [saved]
    by_hand = NO_TIME
    for job in jobs:
        if job.purpose is not Purpose.RETRAIN:
            continue
        if (run := run_of(job)) is not None:
            runs.append(run)
        elif job.state is JobState.SUCCEEDED and job.started is not None:
            by_hand = max(by_hand, job.started)
    # `max` takes the first of equals, which is the saved one: it alone knows that it is over.
    last = max(runs, key=lambda run: run.order, default=None)
    if last is not None:
        return dataclasses.replace(last, begun=max(last.begun, by_hand))
    if by_hand > NO_TIME:
        return Run(number=0, name=BY_HAND, begun=by_hand, reason=BY_HAND, is_over=True)
    return None


def active_job(jobs: Iterable[Job]) -> Job | None:
    """Return a job that runs or waits to; None if there is none."""
    return next((job for job in jobs if job.state is JobState.ACTIVE), None)


def is_cut_off(run: Run, jobs: Iterable[Job]) -> bool:
    """Return whether a run's last attempt did not come to an end.

    Args:
        run: Has no version in the registry, and no job that is active.
        jobs: All that Ray knows of.
    """
    state = next((job.state for job in jobs if job.id == run.submission_id), None)
    return state in (None, JobState.DIED)


def next_run(last: Run | None, *, now: datetime, reason: str, newcomers: tuple[str, ...]) -> Run:
    """Return the run that follows."""
    return Run(
        number=1 if last is None else last.number + 1,
        name=f"router-{now:%Y%m%d-%H%M%S}",
        begun=now,
        reason=reason,
        newcomers=newcomers,
    )


def profile_job_id(candidate: str, jobs: Iterable[Job], *, max_attempts: int) -> str | None:
    """Return the id of a candidate's next profiling; None after so many that did not help."""
    attempts = sum(
        job.purpose is Purpose.PROFILE and job.metadata.get("candidate") == candidate
        for job in jobs
    )
    return f"pointsman-profile-{candidate}-{attempts}" if attempts < max_attempts else None
