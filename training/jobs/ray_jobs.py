"""Step 8, jobs: retraining and profiling as Ray jobs, seen through Ray's job API."""

from __future__ import annotations

import signal
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ray.job_submission import JobStatus, JobSubmissionClient

from training.jobs.runs import MARK, RETRAIN_SCRIPT, Job, JobState, Purpose

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SHELL_SIGNAL = 128
"""A shell reports a child that died of a signal as this plus the signal's number."""

PROGRAM_ERROR = "JOB_ENTRYPOINT_COMMAND_ERROR"
"""Ray's word for a driver that ended with a non-zero code; all others never came so far."""

ID_TAKEN = "already exists"


class RayJobs:
    """Lists and submits jobs.

    Args:
        address: Of Ray's dashboard; the variable RAY_ADDRESS goes before it.
        working_dir: Folder whose files the jobs get.
        num_cpus: Booked for each job's driver; with 0 it runs on the head node.
    """

    def __init__(self, address: str, working_dir: Path, *, num_cpus: float = 0.0) -> None:
        """Connect to nothing yet."""
        self._num_cpus = num_cpus
        self._address = address
        self._working_dir = str(working_dir.resolve())

    def list(self) -> list[Job]:
        """Return the jobs that retrain or profile, whoever submitted them.

        Raises:
            ConnectionError: If Ray does not answer.
        """
        found = (job_of(details) for details in self._client().list_jobs())
        return [job for job in found if job is not None]

    def submit(self, job_id: str, entrypoint: str, metadata: Mapping[str, str]) -> bool:
        """Submit a job; return False if that id was taken before.

        Raises:
            ConnectionError: If Ray does not answer.
            RuntimeError: If it refuses for another reason.
        """
        try:
            self._client().submit_job(
                entrypoint=entrypoint,
                submission_id=job_id,
                metadata=dict(metadata),
                runtime_env={"working_dir": self._working_dir},
                entrypoint_num_cpus=self._num_cpus,
            )
        except RuntimeError as error:
            if ID_TAKEN in str(error):
                return False
            raise
        return True

    def _client(self) -> JobSubmissionClient:
        # A new one each time: the head node may be another than at the last look.
        return JobSubmissionClient(self._address)


def job_of(details: Any) -> Job | None:  # noqa: ANN401 - Ray's JobDetails is untyped here
    """Return a job of ours from Ray's description; None for any other."""
    metadata: dict[str, str] = details.metadata or {}
    purpose = metadata.get(MARK, "")
    if not purpose and RETRAIN_SCRIPT in (details.entrypoint or ""):
        purpose = Purpose.RETRAIN
    if details.submission_id is None or purpose not in set(Purpose):
        return None
    started = details.start_time
    return Job(
        id=details.submission_id,
        purpose=Purpose(purpose),
        state=job_state(details.status, details.error_type, details.driver_exit_code),
        started=None if started is None else datetime.fromtimestamp(started / 1000, UTC),
        metadata=metadata,
    )


def job_state(status: JobStatus, error_type: str | None, exit_code: int | None) -> JobState:
    """Return how a job stands.

    A driver that was killed, be it for want of memory, did not fail: its program was never asked.
    """
    if not status.is_terminal():
        return JobState.ACTIVE
    if status is JobStatus.SUCCEEDED:
        return JobState.SUCCEEDED
    if status is JobStatus.STOPPED:
        return JobState.STOPPED
    if exit_code is None:
        is_dead = error_type != PROGRAM_ERROR
    else:
        signums = {int(signum) for signum in signal.Signals}
        is_dead = exit_code < 0 or exit_code - SHELL_SIGNAL in signums
    return JobState.DIED if is_dead else JobState.FAILED
