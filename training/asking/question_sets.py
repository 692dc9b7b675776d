"""Step 8, before learning: read a set of questions with their right answers.

A set is a Parquet or JSONL file, or a folder that holds ``questions.parquet`` or
``questions.jsonl``; one row a question:

| column | |
|---|---|
| question_id | unique in the set |
| text | what is asked |
| answer, or answers | the right answer, or several; none for a judge that needs none |
| images | list of paths relative to the file, data URLs, or bytes; null for none |
| grader | ``exact_match`` if absent; see `training.graders.registry` |
| choices | texts of A, B, C and so on, for ``multiple_choice`` |
| tolerance, absolute_tolerance | for ``numeric`` |
| kind | kind of question, by which a sample is spread |

Other columns are passed over.
"""

from __future__ import annotations

import base64
import hashlib
import json
import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from router.errors import InvalidInputError
from training.graders import ExactMatch, GraderOptions, make_grader
from training.graders.registry import JUDGE

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE_NAMES = ("questions.parquet", "questions.jsonl")
BATCH_ROWS = 64
"""Rows held at a time; each may carry images."""

_SIGNATURES = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
)

ImageSource = Path | bytes | str
"""A file, its content, or a data URL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationQuestion:
    """One question with its right answers."""

    question_id: str
    text: str
    answers: tuple[str, ...] = ()
    """Right answers, each as good as the other; none only for a judge."""

    images: tuple[ImageSource, ...] = ()
    grader: str = ExactMatch.name
    """Name of the grader that scores replies."""

    options: GraderOptions = GraderOptions()  # noqa: RUF009 - frozen
    """What the question tells its grader."""

    kind: str = ""
    """Kind of question as the set names it; empty where it names none."""

    @property
    def answer(self) -> str:
        """Return the first right answer; empty where there is none."""
        return self.answers[0] if self.answers else ""

    def messages(self) -> list[dict[str, Any]]:
        """Return OpenAI messages, images as data URLs.

        Raises:
            OSError: If an image cannot be read.
        """
        parts: list[dict[str, Any]] = [{"type": "text", "text": self.text}]
        parts += [
            {"type": "image_url", "image_url": {"url": _data_url(image)}} for image in self.images
        ]
        return [{"role": "user", "content": parts}]

    def fingerprint(self) -> str:
        """Return a digest that changes with all that may change a reply's score.

        Images given as paths count by path and size, not by content.
        """
        digest = hashlib.sha256()
        for part in (self.text, self.answers, self.grader, self.options):
            digest.update(repr(part).encode() + b"\0")
        for image in self.images:
            if isinstance(image, Path):
                digest.update(f"{image.name} {image.stat().st_size}".encode())
            else:
                digest.update(image if isinstance(image, bytes) else image.encode())
        return digest.hexdigest()[:16]


class _Row(BaseModel):
    """A row of a set, as it lies in the file."""

    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)

    question_id: str = Field(min_length=1, max_length=256)
    text: str
    answer: str | None = None
    answers: list[str] | None = None
    images: list[str | bytes] | None = None
    grader: str | None = None
    choices: list[str] | None = None
    tolerance: float | None = None
    absolute_tolerance: float | None = None
    kind: str | None = None

    @field_validator("images", mode="before")
    @classmethod
    def _unwrap(cls, value: object) -> object:
        """Take the struct that Hugging Face's data sets write, ``{"bytes", "path"}``."""
        if isinstance(value, str | bytes):
            raise ValueError("must be a list; write [path] for one image")  # noqa: TRY004 - pydantic's
        if not isinstance(value, list):
            return value
        return [
            (item.get("bytes") or item.get("path")) if isinstance(item, dict) else item
            for item in value
        ]


def read_questions(path: Path) -> Iterator[CalibrationQuestion]:
    """Yield the questions of a set, in its order.

    Args:
        path: Of a file, or of a folder that holds one.

    Raises:
        InvalidInputError: If the file, a column or an image is missing, or a value cannot be used;
            names file, row (from 1) and column.
    """
    file = _find(path)
    seen: set[str] = set()
    for number, record in enumerate(_records(file), start=1):
        question = _question(record, file, number)
        if question.question_id in seen:
            raise _fault(file, number, "question_id", f"{question.question_id!r} stands twice")
        seen.add(question.question_id)
        yield question


def _find(path: Path) -> Path:
    if path.is_dir():
        found = [path / name for name in FILE_NAMES if (path / name).is_file()]
        if not found:
            raise InvalidInputError(f"{path} holds no {' or '.join(FILE_NAMES)}", "set")
        return found[0]
    if not path.is_file():
        raise InvalidInputError(f"{path} does not exist", "set")
    if path.suffix not in (".parquet", ".jsonl"):
        raise InvalidInputError(f"{path} must end in .parquet or .jsonl", "set")
    return path


def _records(file: Path) -> Iterator[dict[str, Any]]:
    if file.suffix == ".jsonl":
        yield from _json_records(file)
        return
    try:
        parquet = pq.ParquetFile(file)
    except pa.ArrowInvalid as error:
        raise InvalidInputError(f"{file} is no Parquet file: {error}", "set") from None
    with parquet:
        names = parquet.schema_arrow.names
        _check_columns(file, set(names))
        wanted = [name for name in names if name in _Row.model_fields]
        for batch in parquet.iter_batches(batch_size=BATCH_ROWS, columns=wanted):
            yield from batch.to_pylist()


def _json_records(file: Path) -> Iterator[dict[str, Any]]:
    with file.open("rb") as lines:
        for number, line in enumerate(filter(bytes.strip, lines), start=1):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InvalidInputError(f"{file.name}, row {number}: {error}", "set") from None
            if not isinstance(record, dict):
                raise InvalidInputError(f"{file.name}, row {number}: must be an object", "set")
            yield record


def _check_columns(file: Path, names: set[str]) -> None:
    """Refuse a table without a column that every set has; a misspelt one would lose images."""
    missing = {"question_id", "text", "images"} - names
    if not names & {"answer", "answers"}:
        missing.add("answer")
    if missing:
        raise InvalidInputError(
            f"{file.name} lacks the columns {', '.join(sorted(missing))}", "set"
        )


def _question(record: dict[str, Any], file: Path, number: int) -> CalibrationQuestion:
    try:
        row = _Row.model_validate(record)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        raise _fault(file, number, str(detail["loc"][0]), detail["msg"]) from None
    answers = row.answers or ([] if row.answer is None else [row.answer])
    question = CalibrationQuestion(
        question_id=row.question_id,
        text=row.text,
        answers=tuple(answers),
        images=tuple(_image(item, file, number) for item in row.images or ()),
        grader=row.grader or ExactMatch.name,
        options=GraderOptions(
            choices=tuple(row.choices or ()),
            tolerance=row.tolerance or 0.0,
            absolute_tolerance=row.absolute_tolerance or 0.0,
        ),
        kind=row.kind or "",
    )
    _check_question(question, file, number)
    return question


def _check_question(question: CalibrationQuestion, file: Path, number: int) -> None:
    """Refuse a question that no reply could answer rightly."""
    if not question.text.strip() and not question.images:
        raise _fault(file, number, "text", "neither text nor images")
    if question.grader == JUDGE:
        return
    if not question.answers:
        raise _fault(file, number, "answer", f"{question.grader} needs a right answer")
    try:
        grader = make_grader(question.grader, question.options)
        unread = [a for a in question.answers if grader.score(a, a) < 1.0]
    except InvalidInputError as error:
        column = {"relative": "tolerance", "absolute": "absolute_tolerance"}.get(error.field)
        raise _fault(file, number, column or error.field, error.message) from None
    if unread:
        raise _fault(file, number, "answer", f"{question.grader} cannot read {unread[0][:60]!r}")


def _image(item: str | bytes, file: Path, number: int) -> ImageSource:
    if isinstance(item, bytes) or item.startswith("data:"):
        return item
    path = Path(item)
    if path.is_absolute() or ".." in path.parts:
        raise _fault(file, number, "images", f"{item!r} must lie beside or below the file")
    if not (file.parent / path).is_file():
        raise _fault(file, number, "images", f"{item!r} does not exist")
    return file.parent / path


def _fault(file: Path, number: int, column: str, message: str) -> InvalidInputError:
    return InvalidInputError(f"{file.name}, row {number}, column {column}: {message}", column)


def _data_url(image: ImageSource) -> str:
    if isinstance(image, str):
        return image
    if isinstance(image, Path):
        media_type, content = mimetypes.guess_type(image.name)[0], image.read_bytes()
    else:
        media_type, content = _media_type(image), image
    encoded = base64.b64encode(content).decode()
    return f"data:{media_type or 'application/octet-stream'};base64,{encoded}"


def _media_type(content: bytes) -> str | None:
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return next((name for start, name in _SIGNATURES if content.startswith(start)), None)
