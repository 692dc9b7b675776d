"""Step 8, before learning: ask every candidate a set of questions, through the running system.

    python -m training.calibration --set FOLDER --url http://127.0.0.1:8000

A set is a folder with ``questions.parquet`` (question_id, text, answer, images: list of paths
relative to the folder). Each question goes to each candidate as a pinned request, and the graded
replies come back as labels: full-information rows of the outcome log. Questions and replies stay
with the caller; the log keeps features and scores.
"""

from __future__ import annotations

import asyncio
import base64
import mimetypes
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import httpx
import openai
import pyarrow.parquet as pq
import typer
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from router.errors import InvalidInputError
from training.graders import ExactMatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from training.graders import Grader

CONCURRENCY = 12
"""Requests in flight; four candidates on two cores are busy with eight."""

LABELS_PER_REQUEST = 200
COLUMNS = ("question_id", "text", "answer", "images")


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationQuestion:
    """One question with its right answer."""

    question_id: str
    text: str
    answer: str
    images: tuple[Path, ...] = ()

    def messages(self) -> list[dict[str, Any]]:
        """Return OpenAI messages, images as data URLs."""
        parts: list[dict[str, Any]] = [{"type": "text", "text": self.text}]
        parts += [
            {"type": "image_url", "image_url": {"url": _data_url(path)}} for path in self.images
        ]
        return [{"role": "user", "content": parts}]


def read_questions(folder: Path) -> Iterator[CalibrationQuestion]:
    """Yield the questions of a set.

    Raises:
        InvalidInputError: If the file or a column is missing.
    """
    path = folder / "questions.parquet"
    if not path.is_file():
        raise InvalidInputError(f"{folder} holds no questions.parquet", "set")
    table = pq.read_table(path)
    if missing := set(COLUMNS) - set(table.column_names):
        raise InvalidInputError(
            f"questions.parquet lacks the columns {', '.join(sorted(missing))}", "set"
        )
    for row in table.select(list(COLUMNS)).to_pylist():
        yield CalibrationQuestion(
            question_id=row["question_id"],
            text=row["text"],
            answer=row["answer"],
            images=tuple(folder / name for name in row["images"] or ()),
        )


async def served_candidates(url: str) -> list[str]:
    """Return the ids of the candidates that the running system lists."""
    async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as client:
        response = (await client.get("/v1/models")).raise_for_status()
    return [model["id"] for model in response.json()["data"] if model["id"] != "auto"]


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
        grader: Scores replies; exact match when None.
        on_reply: Told the number of replies so far.
    """
    grader = grader or ExactMatch()
    gate = asyncio.Semaphore(CONCURRENCY)
    labels: list[dict[str, Any]] = []
    http = openai.DefaultAsyncHttpxClient(timeout=120, trust_env=False)
    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", http_client=http)

    async def label(question: CalibrationQuestion, candidate_id: str) -> None:
        async with gate:
            labels.append(await _ask(client, question, candidate_id, grader))
        on_reply(len(labels))

    async with client, asyncio.TaskGroup() as group:
        for question in questions:
            for candidate_id in candidate_ids:
                group.create_task(label(question, candidate_id))
    async with httpx.AsyncClient(base_url=url, timeout=120, trust_env=False) as poster:
        for start in range(0, len(labels), LABELS_PER_REQUEST):
            await _post(poster, labels[start : start + LABELS_PER_REQUEST])
    return len(labels)


async def _ask(
    client: openai.AsyncOpenAI, question: CalibrationQuestion, candidate_id: str, grader: Grader
) -> dict[str, Any]:
    """Return the label of one candidate's reply, as ``POST /v1/outcomes`` takes it."""
    raw = await client.chat.completions.with_raw_response.create(
        model=candidate_id,
        messages=question.messages(),  # type: ignore[arg-type]
        temperature=0.0,
    )
    reply = raw.parse().choices[0].message.content or ""
    return {
        "decision_id": raw.headers["x-pointsman-decision-id"],
        "score": grader.score(reply, question.answer),
        "source": grader.name,
        "grader_version": grader.version,
    }


async def _post(http: httpx.AsyncClient, labels: list[dict[str, Any]]) -> None:
    """Send labels; safe to repeat, since a label of the same source replaces itself."""
    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type(httpx.HTTPError),
        stop=stop_after_attempt(4),
        wait=wait_exponential(multiplier=0.5),
        reraise=True,
    ):
        with attempt:
            (await http.post("/v1/outcomes", json={"labels": labels})).raise_for_status()


def _data_url(path: Path) -> str:
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"data:{media_type};base64,{base64.b64encode(path.read_bytes()).decode()}"


def main(
    set_folder: Annotated[Path, typer.Option("--set", help="Folder of the question set.")],
    url: Annotated[str, typer.Option(help="The running system.")] = "http://127.0.0.1:8000",
    candidate: Annotated[list[str] | None, typer.Option(help="Only these candidates.")] = None,
) -> None:
    """Ask every candidate a set of questions and log the graded outcomes."""
    questions = list(read_questions(set_folder))
    candidates = candidate or asyncio.run(served_candidates(url))
    num_labels = asyncio.run(calibrate(questions, candidates, url=url))
    typer.echo(f"{len(questions)} questions, {len(candidates)} candidates, {num_labels} labels")


if __name__ == "__main__":
    typer.run(main)
