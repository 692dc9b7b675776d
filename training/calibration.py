"""Step 8, before learning: ask every candidate a set of questions, through the running system.

    python -m training.calibration --set FOLDER --url http://127.0.0.1:8000

Each question goes to each candidate as a pinned request, and the graded replies come back as
labels: full-information rows of the outcome log. Questions and replies stay with the caller; the
log keeps features and scores. A run that was interrupted, or that reached its cap, goes on where
it stopped when it is started again.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import httpx
import openai
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from router.errors import InvalidInputError, PointsmanError
from training.asking.calibration_state import CalibrationState
from training.asking.label_posting import LabelPoster
from training.asking.pinned_asking import PinnedAsker
from training.asking.question_sets import CalibrationQuestion, read_questions
from training.asking.served import served_candidates
from training.graders.judge_file import open_judge
from training.graders.registry import JUDGE
from training.spend import SpendCap, SpendCapError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from router.candidate import Candidate
    from training.graders import Grader
    from training.graders.judge import ModelJudge

__all__ = ["CalibrationQuestion", "CalibrationReport", "ask_set", "calibrate", "read_questions"]

logger = logging.getLogger("pointsman.calibration")

CONCURRENCY = 12
"""Requests in flight; four candidates on two cores are busy with eight."""

POST_EVERY = 50
"""Labels that wait at most before they are posted."""

MAX_FAILED_AT_FIRST = 24
"""Requests that may fail before the first has succeeded; then something is wrong with all."""

DEFAULT_STATE = Path(".run/calibration.sqlite")


@dataclass(slots=True, kw_only=True)
class CalibrationReport:
    """How a run went."""

    num_labels: int = 0
    """Replies that were graded in this run."""

    num_done_before: int = 0
    """Pairs of question and candidate that an earlier run had asked."""

    num_left: int = 0
    """Pairs that were not asked, for a cap or because nothing worked."""

    num_lost: int = 0
    """Replies whose outcome the system no longer knew; the next run asks again."""

    cost_usd: float = 0.0
    """What this run cost, judge included."""

    failures: Counter[str] = field(default_factory=Counter)
    """Failed requests by candidate and kind of error; the next run asks again."""

    stopped_by: str = ""
    """Why the run stopped early; empty where it did not."""

    @property
    def num_failed(self) -> int:
        """Return the number of requests that failed."""
        return self.failures.total()

    def lines(self) -> Iterator[str]:
        """Yield the report as text."""
        yield (
            f"{self.num_labels} labels, {self.num_done_before} done before, "
            f"{self.num_failed} failed, {self.num_left} left, {self.cost_usd:.4f} USD"
        )
        for reason, count in self.failures.most_common():
            yield f"  failed {count} times: {reason}"
        if self.num_lost:
            yield f"  {self.num_lost} outcomes were lost; run again to ask anew"
        if self.stopped_by:
            yield f"  stopped: {self.stopped_by}"


async def calibrate(
    questions: Sequence[CalibrationQuestion],
    candidate_ids: Sequence[str],
    *,
    url: str,
    grader: Grader | None = None,
    on_reply: Callable[[int], None] = lambda _: None,
) -> int:
    """Ask every candidate every question and label the replies; return how many labels.

    Args:
        questions: What to ask.
        candidate_ids: Whom to ask.
        url: Of the running system.
        grader: Scores all replies; each question's own when None.
        on_reply: Told the number of replies so far.
    """
    asker = PinnedAsker(url, grader=grader)
    report = await ask_set(questions, candidate_ids, asker=asker, on_reply=on_reply)
    for line in report.lines() if report.num_failed else ():
        logger.warning("%s", line)
    return report.num_labels


async def ask_set(
    questions: Sequence[CalibrationQuestion],
    candidate_ids: Sequence[str],
    *,
    asker: PinnedAsker,
    state: CalibrationState | None = None,
    concurrency: int = CONCURRENCY,
    on_reply: Callable[[int], None] = lambda _: None,
) -> CalibrationReport:
    """Ask what was not asked yet, post labels as they come, and tell how it went.

    A question that fails is counted and left for the next run.

    Args:
        questions: What to ask.
        candidate_ids: Whom to ask.
        asker: Asks and grades; its cap bounds the spending.
        state: What was asked before; nothing when None.
        concurrency: Requests in flight, 1 or more.
        on_reply: Told the number of pairs that are done or failed, those done before included.

    Raises:
        InvalidInputError: If a question needs a judge and there is none, if a cap lacks a price,
            or if the state belongs to another outcome log.
        httpx.HTTPError: If labels cannot be posted; the state keeps them for the next run.
    """
    if concurrency < 1:
        raise InvalidInputError(f"concurrency must be 1 or more, got {concurrency}", "concurrency")
    if asker.judge is None and any(question.grader == JUDGE for question in questions):
        raise InvalidInputError("the set has questions for a judge; give one", "judge")
    asker.check(candidate_ids)
    async with AsyncExitStack() as stack:
        state = state or stack.enter_context(CalibrationState())
        await stack.enter_async_context(asker)
        poster = await stack.enter_async_context(LabelPoster(asker.url, state))
        run = _Run(asker=asker, state=state, poster=poster, on_reply=on_reply)
        spent_before_usd = asker.spend.spent_usd
        asker.expect_costs(state.dearest_usd())
        await poster.check_state()
        await run.ask_all(questions, candidate_ids, concurrency)
        await poster.post_all()
        run.report.num_lost = poster.num_lost
        run.report.cost_usd = asker.spend.spent_usd - spent_before_usd
        return run.report


@dataclass(slots=True, kw_only=True)
class _Run:
    """One pass over the pairs of question and candidate."""

    asker: PinnedAsker
    state: CalibrationState
    poster: LabelPoster
    on_reply: Callable[[int], None]
    report: CalibrationReport = field(default_factory=CalibrationReport)

    async def ask_all(
        self,
        questions: Sequence[CalibrationQuestion],
        candidate_ids: Sequence[str],
        concurrency: int,
    ) -> None:
        """Ask question by question, so that an early stop leaves every candidate with as many."""
        report = self.report
        pairs = list(itertools.product(questions, candidate_ids))
        waiting = [pair for pair in pairs if not self.state.is_done(*pair)]
        report.num_done_before = len(pairs) - len(waiting)
        remaining = iter(waiting)

        async def work() -> None:
            # The iterator is shared: each worker takes the next pair that nobody has.
            for question, candidate_id in remaining:
                await self._ask(question, candidate_id)
                if report.stopped_by:
                    return

        async with asyncio.TaskGroup() as group:
            for _ in range(min(concurrency, len(waiting))):
                group.create_task(work())
        report.num_left = len(waiting) - report.num_labels - report.num_failed

    async def _ask(self, question: CalibrationQuestion, candidate_id: str) -> None:
        report = self.report
        try:
            reply = await self.asker.ask(question, candidate_id)
        except SpendCapError as error:
            report.stopped_by = report.stopped_by or str(error)
            return
        except (openai.OpenAIError, httpx.HTTPError, PointsmanError, OSError) as error:
            logger.warning("%s, %s: %s", question.question_id, candidate_id, error)
            report.failures[f"{candidate_id}: {type(error).__name__}"] += 1
            if not report.num_labels and report.num_failed >= MAX_FAILED_AT_FIRST:
                report.stopped_by = report.stopped_by or (
                    f"the first {report.num_failed} requests failed; {error}"
                )
        else:
            self.state.add(question, candidate_id, reply)
            report.num_labels += 1
            if self.state.num_unposted() >= POST_EVERY:
                await self.poster.post_some()
        self.on_reply(report.num_done_before + report.num_labels + report.num_failed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a run may use."""

    spend_cap_usd: float | None = None
    """Most to spend on these candidates, by all runs that share the state; no bound when None."""

    concurrency: int = CONCURRENCY
    """Requests in flight; 1 or more."""


def ask_with_progress(
    questions: Sequence[CalibrationQuestion],
    candidates: Sequence[Candidate],
    *,
    url: str,
    state_path: Path,
    bounds: Bounds,
    judge: ModelJudge | None = None,
) -> CalibrationReport:
    """Ask a set and show the progress; blocks until it is done. See `ask_set`."""
    candidate_ids = [candidate.id for candidate in candidates]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())

    async def run(state: CalibrationState, on_reply: Callable[[int], None]) -> CalibrationReport:
        async with AsyncExitStack() as stack:
            if judge is not None:
                await stack.enter_async_context(judge)
            asker = PinnedAsker(
                url,
                prices={candidate.id: candidate.price for candidate in candidates},
                spend=SpendCap(bounds.spend_cap_usd, spent_usd=state.spent_usd(candidate_ids)),
                judge=judge,
            )
            return await ask_set(
                questions,
                candidate_ids,
                asker=asker,
                state=state,
                concurrency=bounds.concurrency,
                on_reply=on_reply,
            )

    with CalibrationState(state_path) as state, Progress(*columns, TimeRemainingColumn()) as bars:
        bar = bars.add_task("answers", total=len(questions) * len(candidates))
        return asyncio.run(run(state, lambda num: bars.update(bar, completed=num)))


def measured_judge(path: Path | None) -> ModelJudge | None:
    """Return the judge of a file, after telling how far it is off; None where no file is named."""
    if path is None:
        return None
    return open_judge(path, on_measured=lambda bias: typer.echo(f"judge: {bias.line()}"))


def main(  # noqa: PLR0913 - each is an option of the command line
    *,
    set_path: Annotated[Path, typer.Option("--set", help="Question set: a folder or file.")],
    url: Annotated[str, typer.Option(help="The running system.")] = "http://127.0.0.1:8000",
    candidate: Annotated[list[str] | None, typer.Option(help="Only these candidates.")] = None,
    spend_cap_usd: Annotated[float | None, typer.Option(help="Most to spend.")] = None,
    concurrency: Annotated[int, typer.Option(help="Requests in flight.", min=1)] = CONCURRENCY,
    state: Annotated[Path, typer.Option(help="What was asked so far.")] = DEFAULT_STATE,
    judge: Annotated[Path | None, typer.Option(help="YAML file of a judge.")] = None,
) -> None:
    """Ask every candidate a set of questions and log the graded outcomes."""
    questions = list(read_questions(set_path))
    pool = served_candidates(url)
    if unknown := set(candidate or ()) - {known.id for known in pool}:
        raise InvalidInputError(f"{', '.join(sorted(unknown))} not served at {url}", "candidate")
    asked = [known for known in pool if not candidate or known.id in candidate]
    report = ask_with_progress(
        questions,
        asked,
        url=url,
        state_path=state,
        bounds=Bounds(spend_cap_usd=spend_cap_usd, concurrency=concurrency),
        judge=measured_judge(judge),
    )
    typer.echo(f"{len(questions)} questions, {len(asked)} candidates")
    for line in report.lines():
        typer.echo(line)


if __name__ == "__main__":
    typer.run(main)
