"""Which run was the last, from what the registry and Ray's job list say of it."""

import dataclasses
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.job_submission import JobStatus

from training.jobs.ray_jobs import job_of, job_state
from training.jobs.runs import (
    Job,
    JobState,
    Purpose,
    Run,
    active_job,
    is_cut_off,
    latest_run,
    next_run,
    profile_job_id,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
RUN = Run(number=3, name="router-a", begun=NOON, reason="cron: due", newcomers=("aster",))


def job_for(run, state=JobState.ACTIVE):
    """Return the job that a scheduler submits for a run."""
    return Job(
        id=run.submission_id,
        purpose=Purpose.RETRAIN,
        state=state,
        started=run.begun,
        metadata=run.metadata(),
    )


@given(
    number=st.integers(0, 10**6),
    begun=st.datetimes(timezones=st.just(UTC)),
    reason=st.text(max_size=40),
    newcomers=st.lists(st.text(max_size=8), max_size=3).map(tuple),
    is_over=st.booleans(),
)
def test_a_run_survives_its_tag_and_its_metadata(number, begun, reason, newcomers, is_over):
    """What is read is what was written, through either place."""
    run = Run(
        number=number,
        name="a",
        begun=begun,
        reason=reason,
        newcomers=newcomers,
        is_over=is_over,
    )
    assert Run.from_json(run.to_json()) == run
    assert latest_run(None, [job_for(run)]) == run
    assert all(isinstance(value, str) for value in run.metadata().values())


def test_either_place_suffices_and_the_later_counts():
    """A tag that was not written in time, or a job list that was lost, changes nothing."""
    later = next_run(RUN, now=NOON + timedelta(days=1), reason="x", newcomers=())
    assert latest_run(RUN, [job_for(later), job_for(RUN)]) == later
    assert latest_run(later, [job_for(RUN)]) == later
    assert latest_run(RUN, [job_for(RUN.resumed())]) == RUN.resumed()
    assert latest_run(RUN, []) == RUN
    assert latest_run(None, []) is None


def test_the_tag_alone_knows_that_a_run_is_over():
    """Its job's metadata were written when it began."""
    over = dataclasses.replace(RUN, is_over=True)
    assert latest_run(over, [job_for(RUN, JobState.DIED)]) == over


def test_a_run_by_hand_moves_the_time_from_which_labels_count():
    """If it succeeded; with none of ours before it, it is the last run itself."""
    job = Job(
        id="raysubmit_x",
        purpose=Purpose.RETRAIN,
        state=JobState.SUCCEEDED,
        started=NOON + timedelta(hours=3),
    )
    failed = dataclasses.replace(job, state=JobState.FAILED, started=NOON + timedelta(hours=9))
    assert latest_run(RUN, [job, failed]).begun == job.started
    alone = latest_run(None, [job, failed])
    assert (alone.begun, alone.is_over, alone.number) == (job.started, True, 0)
    assert next_run(alone, now=NOON, reason="x", newcomers=()).number == 1


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (JobState.DIED, True),
        (JobState.FAILED, False),
        (JobState.STOPPED, False),
        (JobState.SUCCEEDED, False),
    ],
)
def test_only_a_run_without_an_end_was_cut_off(state, expected):
    """One that failed by itself would again, and one that was stopped was meant to be."""
    assert is_cut_off(RUN, [job_for(RUN, state)]) is expected


def test_a_run_whose_job_ray_forgot_was_cut_off():
    """Its cluster died with it; jobs of other attempts do not count."""
    assert is_cut_off(RUN, [])
    assert is_cut_off(RUN.resumed(), [job_for(RUN, JobState.FAILED)])


def test_two_schedulers_give_the_next_run_one_id():
    """The names differ, the id that Ray takes once does not."""
    mine = next_run(RUN, now=NOON, reason="cron", newcomers=())
    theirs = next_run(RUN, now=NOON + timedelta(seconds=2), reason="labels", newcomers=())
    assert mine.name != theirs.name
    assert mine.submission_id == theirs.submission_id == "pointsman-retrain-000004-0"


def test_a_resumed_run_keeps_its_name_and_its_beginning():
    """So that the job goes on, and no label is passed over."""
    again = RUN.resumed()
    assert (again.name, again.begun, again.number) == (RUN.name, RUN.begun, RUN.number)
    assert again.submission_id != RUN.submission_id


def test_profilings_are_counted_by_candidate():
    """Each has its own attempts, up to a limit."""
    jobs = [
        Job(id=str(i), purpose=Purpose.PROFILE, state=JobState.FAILED, metadata={"candidate": c})
        for i, c in enumerate(["aster", "aster", "birch"])
    ]
    assert profile_job_id("aster", jobs, max_attempts=3) == "pointsman-profile-aster-2"
    assert profile_job_id("aster", jobs, max_attempts=2) is None
    assert profile_job_id("cedar", jobs, max_attempts=2) == "pointsman-profile-cedar-0"


def test_any_job_of_ours_that_waits_or_runs_is_active():
    """Whatever it does."""
    done = job_for(RUN, JobState.SUCCEEDED)
    profiling = Job(id="p", purpose=Purpose.PROFILE, state=JobState.ACTIVE)
    assert active_job([done]) is None
    assert active_job([done, profiling]) is profiling


@pytest.mark.parametrize(
    ("status", "error_type", "exit_code", "expected"),
    [
        (JobStatus.PENDING, None, None, JobState.ACTIVE),
        (JobStatus.RUNNING, None, None, JobState.ACTIVE),
        (JobStatus.SUCCEEDED, None, 0, JobState.SUCCEEDED),
        (JobStatus.STOPPED, None, None, JobState.STOPPED),
        (JobStatus.FAILED, "JOB_ENTRYPOINT_COMMAND_ERROR", 1, JobState.FAILED),
        (JobStatus.FAILED, "JOB_ENTRYPOINT_COMMAND_ERROR", 2, JobState.FAILED),
        (JobStatus.FAILED, "JOB_ENTRYPOINT_COMMAND_ERROR", 255, JobState.FAILED),
        (JobStatus.FAILED, "JOB_ENTRYPOINT_COMMAND_ERROR", None, JobState.FAILED),
        (JobStatus.FAILED, "JOB_ENTRYPOINT_COMMAND_ERROR", -9, JobState.DIED),
        (JobStatus.FAILED, "JOB_ENTRYPOINT_COMMAND_ERROR", 137, JobState.DIED),
        (JobStatus.FAILED, "JOB_SUPERVISOR_ACTOR_DIED", None, JobState.DIED),
        (JobStatus.FAILED, "RUNTIME_ENV_SETUP_FAILURE", None, JobState.DIED),
    ],
)
def test_a_killed_driver_is_told_from_one_that_failed(status, error_type, exit_code, expected):
    """By its exit code, as Python or a shell reports it, or by Ray's word."""
    assert job_state(status, error_type, exit_code) is expected


def described(**changes):
    """Return a job as Ray describes it."""
    plain = {
        "submission_id": "raysubmit_x",
        "metadata": None,
        "entrypoint": "python other.py",
        "status": JobStatus.RUNNING,
        "error_type": None,
        "driver_exit_code": None,
        "start_time": 1_772_366_400_000,
    }
    return SimpleNamespace(**plain | changes)


def test_jobs_of_ours_are_known_by_their_mark_or_their_script():
    """A retraining by hand counts; others' jobs, and drivers without a job, do not."""
    assert job_of(described()) is None
    assert job_of(described(metadata={"pointsman": "else"})) is None
    assert job_of(described(metadata={"pointsman": "retrain"}, submission_id=None)) is None
    by_hand = job_of(described(entrypoint="python training/retrain.py --promote auto"))
    assert (by_hand.purpose, by_hand.state) == (Purpose.RETRAIN, JobState.ACTIVE)
    assert by_hand.started == datetime(2026, 3, 1, 12, tzinfo=UTC)
    profiling = job_of(described(metadata={"pointsman": "profile", "candidate": "aster"}))
    assert (profiling.purpose, profiling.metadata["candidate"]) == (Purpose.PROFILE, "aster")
