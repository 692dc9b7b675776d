"""Step 8, again and again: submits a retrain when one is due, one at a time.

    python -m training.schedule --cron "0 3 * * *" --min-labels 2000 --max-drift 0.2

Looks every few seconds, logs a line when its decision changes, and keeps nothing itself: the last
run is a tag of the registered model in MLflow and the metadata of its Ray job, see
`training.jobs.runs`. It may be ended at any time and started twice. Arguments after ``--`` go to
``training/retrain.py``.
"""

from __future__ import annotations

import dataclasses
import logging
import shlex
import signal
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, Protocol

import typer

from router.errors import InvalidInputError
from training.asking.served import served_candidates
from training.jobs.log_signs import drift_since, num_labels_since
from training.jobs.ray_jobs import RayJobs
from training.jobs.runs import (
    MARK,
    RETRAIN_SCRIPT,
    Purpose,
    Run,
    active_job,
    is_cut_off,
    latest_run,
    next_run,
    profile_job_id,
)
from training.jobs.triggers import MIN_PAUSE_S, Rules, Signs, first_due, own_profiles, unprofiled
from training.publishing.publish import ROUTER_MODEL, Publisher

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from training.jobs.runs import Job

logger = logging.getLogger("pointsman.schedule")

RUN_TAG = "pointsman.retrain"
"""Tag of the registered model: the last run, as JSON."""

PROMOTIONS = ("auto", "never")


class Jobs(Protocol):
    """Where jobs run."""

    def list(self) -> list[Job]:
        """Return the jobs that retrain or profile."""
        ...

    def submit(self, job_id: str, entrypoint: str, metadata: Mapping[str, str]) -> bool:
        """Submit a job; return False if that id was taken before."""
        ...


class Registry(Protocol):
    """Where versions, profiles and the last run are known."""

    def tag(self, key: str) -> str | None:
        """Return a tag of the registered model."""
        ...

    def set_tag(self, key: str, value: str) -> None:
        """Set a tag of the registered model."""
        ...

    def has_concluded(self, name: str) -> bool:
        """Return whether the run of that name registered a version and did all it had to."""
        ...

    def champion(self) -> str | None:
        """Return the version that serves, or None."""
        ...

    def profiles(self) -> dict[str, bool]:
        """Return the candidates with a profile; True where one was published on its own."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands:
    """What the jobs run: the same log, registry and system as the scheduler reads."""

    outcome_log: str
    registry_uri: str
    registry_model: str = ROUTER_MODEL
    url: str
    promote: str = "never"
    retrain_args: tuple[str, ...] = ()
    """More options of ``training/retrain.py``."""

    profile_args: tuple[str, ...] = ()
    """Options of ``training.profiling``, the question set among them; newcomers are not profiled
    if empty."""

    profile_state: Path
    """Folder where each profiling keeps what it has asked, so that the next one goes on."""

    def __post_init__(self) -> None:
        """Refuse what every run would refuse."""
        if self.promote not in PROMOTIONS:
            raise InvalidInputError(
                f"promote must be one of {', '.join(PROMOTIONS)}, got {self.promote!r}", "promote"
            )

    def retrain(self, run: Run) -> str:
        """Return the entry point of a run; a resumed one has the same, and goes on."""
        own = ["--promote", self.promote, "--run", run.name]
        return self._line(["python", RETRAIN_SCRIPT, *own, *self.retrain_args])

    def profile(self, candidate: str) -> str:
        """Return the entry point that profiles a candidate."""
        state = self.profile_state / f"profiling-{candidate}.sqlite"
        own = ["--candidate", candidate, "--state", str(state)]
        return self._line(["python", "-m", "training.profiling", *own, *self.profile_args])

    def _line(self, words: list[str]) -> str:
        places = ["--outcome-log", self.outcome_log, "--registry-uri", self.registry_uri]
        places += ["--registry-model", self.registry_model, "--url", self.url]
        return shlex.join([*words, *places])


@dataclass(slots=True, kw_only=True)
class LogReading:
    """What the outcome log says, read again only after a while: a look opens a day of files."""

    count_labels: Callable[[datetime | None], int]
    drift: Callable[[datetime], float | None]
    every_s: float
    _read: tuple[datetime, datetime | None, int, float | None] | None = None

    def at(self, now: datetime, since: datetime | None) -> tuple[int, float | None]:
        """Return the number of labels and the drift since a time; None: of all, and no drift."""
        read = self._read
        if read and read[1] == since and (now - read[0]).total_seconds() < self.every_s:
            return read[2], read[3]
        num_labels = self.count_labels(since)
        drift = None if since is None else self.drift(since)
        self._read = (now, since, num_labels, drift)
        return num_labels, drift


@dataclass(slots=True, kw_only=True)
class Scheduler:
    """Decides and submits, one look at a time."""

    jobs: Jobs
    registry: Registry
    log: LogReading
    served: Callable[[], Sequence[str]]
    """Ids of the candidates that the running system lists."""

    rules: Rules
    commands: Commands
    max_resumes: int
    """How often a run that was cut off is submitted again, and a profiling that failed."""

    started: datetime
    """From where the cron expression counts as long as there was no run."""

    def step(self, now: datetime) -> str:
        """Look once, submit one job at most, and return the decision as a line."""
        # The tag comes first: a run that another scheduler submits after it was read is either
        # among the jobs, or takes the id that is submitted here.
        text = self.registry.tag(RUN_TAG)
        saved = None if text is None else Run.from_json(text)
        jobs = self.jobs.list()
        last = latest_run(saved, jobs)
        if (job := active_job(jobs)) is not None:
            self._save(last, saved)
            return f"wait: {job.id} is not over"
        if last is not None and not last.is_over:
            if is_cut_off(last, jobs) and not self.registry.has_concluded(last.name):
                if last.attempt < self.max_resumes:
                    return self._start(last.resumed(), f"{last.submission_id} was cut off")
                logger.warning("given up: %s was cut off %d times", last.name, last.attempt + 1)
            last = dataclasses.replace(last, is_over=True)
        self._save(last, saved)
        return self._next(now, last, jobs)

    def _next(self, now: datetime, last: Run | None, jobs: Sequence[Job]) -> str:
        """Profile a newcomer, else retrain if that is due."""
        served, profiles = self.served(), self.registry.profiles()
        missing = unprofiled(served, profiles)
        if missing and self.commands.profile_args and self.registry.champion() is not None:
            for candidate in missing:
                job_id = profile_job_id(candidate, jobs, max_attempts=self.max_resumes + 1)
                if job_id is not None:
                    return self._profile(job_id, candidate)
        own = own_profiles(served, profiles)
        known = () if last is None else last.newcomers
        num_labels, drift = self.log.at(now, None if last is None else last.begun)
        signs = Signs(
            now=now,
            since=self.started if last is None else last.begun,
            has_run=last is not None,
            num_labels=num_labels,
            drift=drift,
            newcomers=tuple(candidate for candidate in own if candidate not in known),
        )
        trigger = first_due(self.rules, signs)
        if trigger is not None:
            reason = f"{trigger.reason}: {trigger.detail}"
            return self._start(next_run(last, now=now, reason=reason, newcomers=own), reason)
        moved = "unknown" if drift is None else f"{drift:.2f}"
        without = f", no profile of {', '.join(missing)}" if missing else ""
        return f"wait: nothing is due; {num_labels} new labels, drift {moved}{without}"

    def _start(self, run: Run, why: str) -> str:
        if not self.jobs.submit(run.submission_id, self.commands.retrain(run), run.metadata()):
            return f"wait: another scheduler submitted {run.submission_id}"
        self._save(run, None)
        return f"start: {run.submission_id} for {run.name}; {why}"

    def _profile(self, job_id: str, candidate: str) -> str:
        metadata = {MARK: Purpose.PROFILE.value, "candidate": candidate}
        if not self.jobs.submit(job_id, self.commands.profile(candidate), metadata):
            return f"wait: another scheduler submitted {job_id}"
        return f"start: {job_id}; {candidate} is served without a profile"

    def _save(self, run: Run | None, saved: Run | None) -> None:
        if run is not None and run != saved:
            self.registry.set_tag(RUN_TAG, run.to_json())


def run_for_ever(step: Callable[[datetime], str], *, poll_s: float) -> NoReturn:
    """Look, log what is new, sleep, until a signal ends the process."""
    before = ""
    while True:
        try:
            line = step(datetime.now(UTC))
        except Exception as error:  # noqa: BLE001 - whatever is down now may be up at the next look
            line = f"skipped: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        if line != before:
            level = logging.WARNING if line.startswith("skipped") else logging.INFO
            logger.log(level, "%s", line)
        before = line
        time.sleep(poll_s)


def end_on(signum: int) -> None:
    """Let a signal end the process with code 0, wherever it is.

    A step may be cut anywhere: what it submitted is found again by its metadata.
    """

    def end(*_: object) -> NoReturn:
        logger.info("stopped by %s", signal.Signals(signum).name)
        sys.exit(0)

    signal.signal(signum, end)


def open_scheduler(
    rules: Rules, commands: Commands, jobs: Jobs, *, log_poll_s: float, max_resumes: int
) -> Scheduler:
    """Return a scheduler of the log, registry and system that its commands name."""
    root = commands.outcome_log
    return Scheduler(
        jobs=jobs,
        registry=Publisher(commands.registry_uri, model=commands.registry_model),
        log=LogReading(
            count_labels=lambda since: num_labels_since(root, since),
            drift=lambda since: drift_since(root, since) if rules.max_drift else None,
            every_s=log_poll_s,
        ),
        served=lambda: [candidate.id for candidate in served_candidates(commands.url)],
        rules=rules,
        commands=commands,
        max_resumes=max_resumes,
        started=datetime.now(UTC),
    )


def set_up_process() -> None:
    """Log decisions alone, and end on SIGTERM and SIGINT."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logger.setLevel(logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # else each look is a line
    for signum in (signal.SIGTERM, signal.SIGINT):
        end_on(signum)


Log = Annotated[str, typer.Option(envvar="POINTSMAN_OUTCOME_LOG", help="Folder, or s3://...")]
Storage = Annotated[
    Path, typer.Option(envvar="POINTSMAN_TRAIN_STORAGE", help="State of profilings.")
]
Rest = Annotated[
    list[str] | None, typer.Argument(help="After `--`: more options of training/retrain.py.")
]
Pause = Annotated[float, typer.Option(help="After a run began, all but the cron waits so long.")]
Resumes = Annotated[int, typer.Option(help="How often a run that was cut off goes on.", min=0)]
ProfileWith = Annotated[
    str, typer.Option(help="Options of training.profiling, for newcomers: '--set FOLDER --n 128'.")
]
Code = Annotated[Path, typer.Option(help="The code of the jobs.", exists=True, file_okay=False)]
Cpus = Annotated[float, typer.Option(help="Booked for a job's driver; 0: on the head node.")]


def main(  # noqa: PLR0913 - each is an option of the command line
    *,
    outcome_log: Log,
    storage: Storage,
    retrain_args: Rest = None,
    cron: Annotated[str, typer.Option(help="Five fields, in UTC; never if empty.")] = "0 3 * * *",
    min_labels: Annotated[int, typer.Option(help="New labels that suffice; never if 0.")] = 2000,
    max_drift: Annotated[float, typer.Option(help="Of the queries; never if 0.")] = 0.2,
    min_pause_s: Pause = MIN_PAUSE_S,
    poll_s: Annotated[float, typer.Option(help="Seconds between looks.", min=0.1)] = 30.0,
    log_poll_s: Annotated[float, typer.Option(help="Seconds between looks at the log.")] = 300.0,
    max_resumes: Resumes = 3,
    promote: Annotated[str, typer.Option(help="auto or never.")] = "never",
    profile_with: ProfileWith = "",
    registry_uri: Annotated[str, typer.Option(help="MLflow.")] = "http://127.0.0.1:5000",
    registry_model: Annotated[str, typer.Option(help="Registered model.")] = ROUTER_MODEL,
    url: Annotated[str, typer.Option(help="The running system.")] = "http://127.0.0.1:8000",
    ray_api: Annotated[str, typer.Option(help="Ray's dashboard.")] = "http://127.0.0.1:8265",
    working_dir: Code = Path(),
    entrypoint_num_cpus: Cpus = 0.0,
) -> None:
    """Retrain by the clock, by new labels, by drift, and for newcomers."""
    set_up_process()
    rules = Rules(
        cron=cron or None,
        min_labels=min_labels or None,
        max_drift=max_drift or None,
        min_pause_s=min_pause_s,
    )
    commands = Commands(
        # A job runs in another folder.
        outcome_log=outcome_log if "://" in outcome_log else str(Path(outcome_log).resolve()),
        registry_uri=registry_uri,
        registry_model=registry_model,
        url=url,
        promote=promote,
        retrain_args=tuple(retrain_args or ()),
        profile_args=tuple(shlex.split(profile_with)),
        profile_state=storage.resolve(),
    )
    jobs = RayJobs(ray_api, working_dir, num_cpus=entrypoint_num_cpus)
    look = open_scheduler(rules, commands, jobs, log_poll_s=log_poll_s, max_resumes=max_resumes)
    run_for_ever(look.step, poll_s=poll_s)


if __name__ == "__main__":
    typer.run(main)
