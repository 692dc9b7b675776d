"""Writes questions to a folder: `python -m infra.zoo.export --out DIR --num 600 --seed 7`.

The folder holds `questions.parquet`, one row a question, and the pictures it names, as
`images/*.png`. Training and tests read it without knowing the generator.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from infra.zoo.questions import Question, generate

if TYPE_CHECKING:
    from collections.abc import Iterable

SCHEMA: Final = pa.schema(
    [
        pa.field("question_id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("speciality", pa.string(), nullable=False),
        pa.field("difficulty", pa.int8(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("answer", pa.string(), nullable=False),
        pa.field("neutral", pa.bool_(), nullable=False),
        pa.field("images", pa.list_(pa.string()), nullable=False),
    ]
)
"""`images` are paths relative to the folder, in the order the question speaks of them; `kind` is
the task, so that a choice of a few questions covers all of them."""


def write_question_set(folder: Path, questions: Iterable[Question]) -> Path:
    """Write the questions and their pictures.

    Args:
        folder: Made if missing; files of the same name are overwritten.
        questions: With distinct ids, which name the pictures.

    Returns:
        The path of `questions.parquet`.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = [_write_question(folder, question) for question in questions]
    path = folder / "questions.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path)
    return path


def _write_question(folder: Path, question: Question) -> dict[str, Any]:
    names = [f"images/{question.question_id}-{i}.png" for i in range(len(question.images))]
    for name, image in zip(names, question.images, strict=True):
        image.save(folder / name)
    columns = (name for name in SCHEMA.names if name not in ("images", "kind"))
    found = {column: getattr(question, column) for column in columns}
    return found | {"kind": question.task, "images": names}


def main() -> None:
    """Read the command line and write."""
    parser = argparse.ArgumentParser(description="Write a set of questions with their pictures.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--num", type=int, default=600, help="number of questions")
    parser.add_argument("--seed", type=int, default=7, help="of the generator")
    arguments = parser.parse_args()
    write_question_set(arguments.out, generate(arguments.num, seed=arguments.seed))


if __name__ == "__main__":
    main()
