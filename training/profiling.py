"""Step 8, one candidate: ask it some questions, estimate its profile, and publish that.

    python -m training.profiling --candidate X --set FOLDER --n 128 --spend-cap-usd 1.0

The questions go through the running system and their outcomes into the log, as in calibration. The
profile is then estimated from all labelled outcomes of the candidate, under the kinds and the
query model of the router version that serves; no other candidate is asked, and nothing is trained.
Started again, it goes on where it stopped.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from monitoring.label_precedence import DEFAULT_ORDER, LabelPrecedence
from router.errors import InvalidInputError
from training.asking.question_choice import choose_questions
from training.asking.question_sets import read_questions
from training.asking.served import served_candidate
from training.calibration import (
    CONCURRENCY,
    DEFAULT_STATE,
    Bounds,
    ask_with_progress,
    measured_judge,
)
from training.data.outcome_rows import training_set_from_log
from training.fitting.fit import add_profile
from training.publishing.profile_picture import profile_figure, quality_interval
from training.publishing.publish import ROUTER_MODEL, Publisher

if TYPE_CHECKING:
    from collections.abc import Iterator

    from router.candidate import Candidate
    from router.profile import Profile
    from training.data.dataset import TrainingSet

logger = logging.getLogger("pointsman.profiling")

LOG_WAIT_S = 30.0
"""Longest wait for the log to hold what was just posted; it is written every few seconds."""

LOG_POLL_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSource:
    """Which outcomes a profile is estimated from."""

    root: str | Path
    """The outcome log: a folder, or ``s3://bucket/prefix``."""

    schema_hash: str
    """Of the features that the serving router reads."""

    precedence: LabelPrecedence = LabelPrecedence()  # noqa: RUF009 - frozen
    """Which of several labels of one answer counts."""

    def read(self, candidate_id: str) -> TrainingSet:
        """Return the labelled outcomes of one candidate.

        Raises:
            InvalidInputError: If there is none.
        """
        return training_set_from_log(
            self.root,
            schema_hash=self.schema_hash,
            candidate_ids=[candidate_id],
            precedence=self.precedence,
        )

    def num_labelled(self, candidate_id: str) -> int:
        """Return how many labelled queries of a candidate the log holds."""
        try:
            return int(self.read(candidate_id).num_observed()[0])
        except InvalidInputError:
            return 0


def await_rows(
    source: LogSource, candidate_id: str, num_expected: int, *, wait_s: float = LOG_WAIT_S
) -> TrainingSet:
    """Return a candidate's outcomes, once the log holds as many as expected or the wait is over.

    A query that was asked before replaces its row and adds none; then the wait is to its end.

    Raises:
        InvalidInputError: If it then holds none.
    """
    deadline_s = time.monotonic() + wait_s
    while True:
        is_late = time.monotonic() >= deadline_s
        try:
            rows = source.read(candidate_id)
        except InvalidInputError:
            if is_late:
                raise
        else:
            num_found = int(rows.num_observed()[0])
            if num_found >= num_expected:
                return rows
            if is_late:
                logger.warning("the log holds %d of %d outcomes", num_found, num_expected)
                return rows
        time.sleep(LOG_POLL_S)


def profile_lines(profile: Profile) -> Iterator[str]:
    """Yield a profile as text, a line a kind."""
    low, high = quality_interval(profile.quality, profile.num_observed)
    yield (
        f"quality {profile.quality:.3f} ({low:.3f} to {high:.3f}) from "
        f"{profile.num_observed:.0f} outcomes"
    )
    for kind, (quality, count) in enumerate(
        zip(profile.quality_K, profile.num_observed_K, strict=True)
    ):
        if count > 0:
            low, high = quality_interval(quality, count)
            yield f"  kind {kind:2d}  {quality:.3f} ({low:.3f} to {high:.3f})  {count:5.1f}"


def publish(registry: Publisher, profile: Profile, *, router_version: str) -> str:
    """Register a profile with its picture and return its number."""
    figure = profile_figure(profile, router_version=router_version)
    return registry.publish_profile(profile, router_version=router_version, figure=figure)


def main(  # noqa: PLR0913 - each is an option of the command line
    *,
    candidate: Annotated[str, typer.Option(help="Whom to profile; must be served.")],
    set_path: Annotated[Path, typer.Option("--set", help="Question set: a folder or file.")],
    outcome_log: Annotated[str, typer.Option(envvar="POINTSMAN_OUTCOME_LOG")],
    n: Annotated[int, typer.Option(help="How many questions.", min=1)] = 128,
    spend_cap_usd: Annotated[float, typer.Option(help="Most to spend, over all runs.")] = 1.0,
    should_publish: Annotated[bool, typer.Option("--publish/--no-publish")] = True,
    concurrency: Annotated[int, typer.Option(help="Requests in flight.", min=1)] = CONCURRENCY,
    state: Annotated[Path, typer.Option(help="What was asked so far.")] = DEFAULT_STATE,
    judge: Annotated[Path | None, typer.Option(help="YAML file of a judge.")] = None,
    label_precedence: Annotated[
        str, typer.Option(envvar="POINTSMAN_LABEL_PRECEDENCE", help="Classes of sources.")
    ] = ",".join(DEFAULT_ORDER),
    registry_uri: Annotated[str, typer.Option(help="MLflow.")] = "http://127.0.0.1:5000",
    registry_model: Annotated[str, typer.Option(help="Registered model.")] = ROUTER_MODEL,
    url: Annotated[str, typer.Option(help="The running system.")] = "http://127.0.0.1:8000",
    seed: Annotated[int, typer.Option(help="Of the choice of questions.")] = 0,
) -> None:
    """Ask one candidate some questions and publish its profile."""
    # What may fail for nothing comes before what costs money.
    precedence = LabelPrecedence.parse(label_precedence)
    registry = Publisher(registry_uri, model=registry_model)
    router_version, artifact = registry.champion_artifact()
    whom: Candidate = served_candidate(url, candidate)
    questions = choose_questions(list(read_questions(set_path)), n, seed=seed)
    source = LogSource(root=outcome_log, schema_hash=artifact.schema.hash, precedence=precedence)
    num_before = source.num_labelled(whom.id)
    report = ask_with_progress(
        questions,
        [whom],
        url=url,
        state_path=state,
        bounds=Bounds(spend_cap_usd=spend_cap_usd, concurrency=concurrency),
        judge=measured_judge(judge),
    )
    for line in report.lines():
        typer.echo(line)
    rows = await_rows(source, whom.id, num_before + report.num_labels)
    profile = add_profile(artifact, rows, whom)
    for line in profile_lines(profile):
        typer.echo(line)
    if should_publish:
        version = publish(registry, profile, router_version=router_version)
        typer.echo(f"version {version} of pointsman-profile-{whom.id} is serving")


if __name__ == "__main__":
    typer.run(main)
