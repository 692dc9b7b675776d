"""The scheduler on a Ray, a registry and a log that are kept in memory."""

import dataclasses
import logging
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from router.errors import InvalidInputError
from training.jobs.runs import Job, JobState, Purpose, Run
from training.jobs.triggers import Rules
from training.schedule import RUN_TAG, Commands, LogReading, Scheduler, run_for_ever

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


class MemoryJobs:
    """A Ray that runs nothing, and takes an id once."""

    def __init__(self):
        """Have no job."""
        self.jobs = {}
        self.entrypoints = {}

    def list(self):
        """Return the jobs."""
        return list(self.jobs.values())

    def submit(self, job_id, entrypoint, metadata):
        """Take a job, unless its id is taken."""
        if job_id in self.entrypoints:
            return False
        purpose = Purpose(metadata["pointsman"])
        self.jobs[job_id] = Job(
            id=job_id, purpose=purpose, state=JobState.ACTIVE, metadata=dict(metadata)
        )
        self.entrypoints[job_id] = entrypoint
        return True

    def end(self, state):
        """End the active job."""
        (active,) = (job for job in self.jobs.values() if job.state is JobState.ACTIVE)
        self.jobs[active.id] = dataclasses.replace(active, state=state)

    def num_active(self):
        """Return how many run."""
        return sum(job.state is JobState.ACTIVE for job in self.jobs.values())


class MemoryRegistry:
    """A registry of one model."""

    def __init__(self):
        """Serve a champion, with a profile of each candidate."""
        self.tags = {}
        self.versions = {}
        self.serving = "1"
        self.known = {"aster": False}
        self.is_down = False

    def tag(self, key):
        """Return a tag."""
        return self.tags.get(key)

    def set_tag(self, key, value):
        """Set a tag, unless out of order."""
        if self.is_down:
            raise ConnectionError("no registry")
        self.tags[key] = value

    def has_concluded(self, name):
        """Return whether a version is there."""
        return name in self.versions

    def champion(self):
        """Return what serves."""
        return self.serving

    def profiles(self):
        """Return the profiles."""
        return dict(self.known)


class World:
    """All that a scheduler talks to, and its clock."""

    def __init__(self):
        """Begin at noon with nothing to do."""
        self.jobs, self.registry = MemoryJobs(), MemoryRegistry()
        self.served, self.num_labels, self.drift, self.num_reads = ["aster"], 0, None, 0
        self.now = NOON

    def count(self, _since):
        """Return the number of labels."""
        self.num_reads += 1
        return self.num_labels

    def scheduler(self, **changes):
        """Return one more scheduler of this world."""
        fields = {
            "jobs": self.jobs,
            "registry": self.registry,
            "log": LogReading(
                count_labels=self.count, drift=lambda _since: self.drift, every_s=300.0
            ),
            "served": lambda: self.served,
            "rules": Rules(cron="0 15 * * *", min_labels=100, max_drift=0.2),
            "commands": COMMANDS,
            "max_resumes": 2,
            "started": NOON,
        }
        return Scheduler(**fields | changes)


COMMANDS = Commands(
    outcome_log="/data/outcomes",
    registry_uri="http://mlflow:5000",
    url="http://serve:8000",
    promote="auto",
    retrain_args=("--tune", "--gates", "my gates.yaml"),
    profile_args=("--set", "/data/my questions", "--n", "64"),
    profile_state=Path("/data/train"),
)


@pytest.fixture
def world():
    """A world in which nothing is due."""
    return World()


def test_nothing_is_submitted_before_something_is_due(world):
    """The line says what was seen."""
    line = world.scheduler().step(world.now)
    assert line == "wait: nothing is due; 0 new labels, drift unknown"
    assert not world.jobs.jobs


def test_each_reason_starts_a_run_that_is_recorded(world):
    """By the clock, by labels and by drift; the tag holds the last run."""
    scheduler = world.scheduler()
    world.num_labels = 100
    assert "labels: 100 new labels" in scheduler.step(NOON)
    world.num_labels = 0
    world.jobs.end(JobState.SUCCEEDED)
    world.drift = 0.5
    assert "drift: drift 0.50" in scheduler.step(NOON + 2 * HOUR)
    world.jobs.end(JobState.SUCCEEDED)
    assert "cron: 0 15 * * *" in scheduler.step(NOON + 3 * HOUR)
    run = Run.from_json(world.registry.tags[RUN_TAG])
    assert (run.number, run.begun, run.is_over) == (3, NOON + 3 * HOUR, False)


def test_one_run_at_a_time(world):
    """However much is due, a second one waits for the end of the first."""
    world.num_labels, world.drift = 10**6, 9.0
    first, second = world.scheduler(), world.scheduler()
    for minute in range(200):
        for scheduler in (first, second):
            scheduler.step(NOON + timedelta(minutes=minute))
            assert world.jobs.num_active() == 1
    assert len(world.jobs.jobs) == 1


def test_a_scheduler_that_saw_neither_tag_nor_job_is_refused(world):
    """Both looked before either submitted: the id is the same, and Ray takes it once."""
    world.num_labels = 100
    late = world.scheduler()
    seen = world.jobs.list()
    world.scheduler().step(NOON)
    tags, world.registry.tags = world.registry.tags, {}
    world.jobs.list, listed = (lambda: seen), world.jobs.list
    assert late.step(NOON + timedelta(seconds=1)).startswith("wait: another scheduler submitted")
    world.registry.tags, world.jobs.list = tags, listed
    assert world.jobs.num_active() == 1


def test_a_restarted_scheduler_knows_the_last_run(world):
    """Its labels and its scheduled time are not counted again."""
    world.num_labels = 100
    world.scheduler().step(NOON + 3 * HOUR)
    world.jobs.end(JobState.SUCCEEDED)
    world.num_labels = 0
    line = world.scheduler(started=NOON + 4 * HOUR).step(NOON + 4 * HOUR)
    assert line.startswith("wait: nothing is due")
    assert Run.from_json(world.registry.tags[RUN_TAG]).is_over


def test_a_run_whose_tag_was_lost_is_found_by_its_job(world):
    """The scheduler died, or MLflow was down, between submitting and writing the tag."""
    world.num_labels, world.registry.is_down = 100, True
    with pytest.raises(ConnectionError):
        world.scheduler().step(NOON)
    world.registry.is_down = False
    world.jobs.end(JobState.SUCCEEDED)
    world.num_labels = 0
    assert world.scheduler().step(NOON + 2 * HOUR).startswith("wait: nothing is due")
    assert Run.from_json(world.registry.tags[RUN_TAG]).number == 1


def test_a_run_that_was_cut_off_is_submitted_under_its_name_so_often(world, caplog):
    """Then it is given up, and the next trigger starts another."""
    scheduler, lines = world.scheduler(rules=Rules(min_labels=100)), []
    world.num_labels = 100
    scheduler.step(NOON)
    world.num_labels = 0
    for minute in range(3):
        world.jobs.end(JobState.DIED)
        lines.append(scheduler.step(NOON + timedelta(minutes=minute)))
    assert ["was cut off" in line for line in lines] == [True, True, False]
    assert "given up" in caplog.text
    names = {Run.from_json(job.metadata["state"]).name for job in world.jobs.list()}
    assert len(world.jobs.jobs) == 3
    assert len(names) == 1
    world.num_labels = 100
    assert "pointsman-retrain-000002-0" in scheduler.step(NOON + 2 * HOUR)


def test_a_run_that_ended_with_its_cluster_goes_on_unless_it_was_registered(world):
    """A new head node knows no job; the registry tells whether the version came out."""
    world.num_labels = 100
    world.scheduler().step(NOON)
    world.num_labels = 0
    run = Run.from_json(world.registry.tags[RUN_TAG])
    world.jobs = MemoryJobs()
    world.registry.versions[run.name] = "7"
    assert world.scheduler().step(NOON + HOUR).startswith("wait: nothing is due")
    world.registry.tags[RUN_TAG] = run.to_json()
    world.registry.versions.clear()
    assert "was cut off" in world.scheduler().step(NOON + HOUR)


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.STOPPED])
def test_a_run_that_failed_or_was_stopped_is_not_repeated(world, state):
    """It would fail again; whoever stopped it meant to."""
    scheduler = world.scheduler()
    world.num_labels = 100
    scheduler.step(NOON)
    world.jobs.end(state)
    assert scheduler.step(NOON + timedelta(minutes=1)).startswith("wait: nothing is due")


def test_a_newcomer_is_profiled_and_then_trained_on(world):
    """First its questions, then, with their labels, a retrain; neither twice."""
    scheduler = world.scheduler()
    world.served.append("birch")
    assert "birch is served without a profile" in scheduler.step(NOON)
    world.jobs.end(JobState.SUCCEEDED)
    world.registry.known["birch"] = True
    assert "newcomer: profiled since: birch" in scheduler.step(NOON + HOUR)
    world.jobs.end(JobState.SUCCEEDED)
    assert scheduler.step(NOON + 2.5 * HOUR).startswith("wait: nothing is due")


def test_a_newcomer_waits_for_a_champion_and_for_questions(world):
    """Its profile is counted under the champion's kinds; without a set nothing can be asked."""
    world.served.append("birch")
    world.registry.serving = None
    assert "no profile of birch" in world.scheduler().step(NOON)
    world.registry.serving = "1"
    mute = world.scheduler(commands=dataclasses.replace(COMMANDS, profile_args=()))
    assert "no profile of birch" in mute.step(NOON)
    assert not world.jobs.jobs


def test_a_profiling_that_fails_is_given_up(world):
    """After as many attempts as a run has."""
    scheduler = world.scheduler()
    world.served.append("birch")
    for minute in range(3):
        assert scheduler.step(NOON + timedelta(minutes=minute)).startswith("start: ")
        world.jobs.end(JobState.FAILED)
    assert "no profile of birch" in scheduler.step(NOON + HOUR)


def test_the_log_is_read_once_in_a_while(world):
    """And at once after a run, whose time it is read since."""
    scheduler = world.scheduler()
    for second in range(0, 600, 30):
        scheduler.step(NOON + timedelta(seconds=second))
    assert world.num_reads == 2


def test_the_jobs_run_the_documented_commands():
    """With the log, registry and system of the scheduler, and what else was passed."""
    run = Run(number=1, name="router-a", begun=NOON, reason="x")
    words = shlex.split(COMMANDS.retrain(run))
    assert words[:6] == [
        "python", "training/retrain.py", "--promote", "auto", "--run", "router-a",
    ]  # fmt: skip
    assert words[6:9] == ["--tune", "--gates", "my gates.yaml"]
    assert words[words.index("--outcome-log") + 1] == "/data/outcomes"
    words = shlex.split(COMMANDS.profile("birch"))
    assert words[:5] == ["python", "-m", "training.profiling", "--candidate", "birch"]
    assert words[words.index("--state") + 1] == "/data/train/profiling-birch.sqlite"
    assert words[words.index("--set") + 1] == "/data/my questions"


def test_a_promotion_that_no_run_knows_is_refused():
    """Before the first of them fails."""
    with pytest.raises(InvalidInputError, match="promote"):
        dataclasses.replace(COMMANDS, promote="always")


class StopError(Exception):
    """Ends the loop from within."""


def test_a_decision_is_logged_once_and_an_outage_ends_nothing(caplog, monkeypatch):
    """The same line is not repeated; what is down is named and tried again."""
    caplog.set_level(logging.INFO)
    answers = iter(["wait: a", "wait: a", ConnectionError("no\nRay"), "wait: a"])

    def step(_now):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    naps = []

    def nap(seconds):
        naps.append(seconds)
        if len(naps) == 4:
            raise StopError

    monkeypatch.setattr("training.schedule.time.sleep", nap)
    with pytest.raises(StopError):
        run_for_ever(step, poll_s=30.0)
    assert caplog.messages == ["wait: a", "skipped: ConnectionError: no Ray", "wait: a"]
    assert naps == [30.0] * 4
