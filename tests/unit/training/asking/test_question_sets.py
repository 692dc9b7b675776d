"""A set may be a folder, a Parquet or a JSONL file; a fault is named by file, row and column."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from router.errors import InvalidInputError
from training.asking.question_sets import CalibrationQuestion, read_questions
from training.graders import GraderOptions

PNG = b"\x89PNG\r\n\x1a\n"
ROW = {"question_id": "q1", "text": "What colour?", "answer": "red", "images": None}


def write_jsonl(folder, *rows):
    """Write a set as JSON lines."""
    path = folder / "set.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def write_parquet(folder, *rows):
    """Write a set as Parquet."""
    path = folder / "set.parquet"
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture(params=[write_jsonl, write_parquet], ids=["jsonl", "parquet"])
def write(request, tmp_path):
    """Return a writer of either form."""
    return lambda *rows: request.param(tmp_path, *rows)


def test_all_columns_are_read(write):
    """Grader, choices, tolerances and kind go with the question."""
    path = write(
        ROW
        | {
            "answer": "B",
            "grader": "multiple_choice",
            "choices": ["red", "blue"],
            "tolerance": 0.05,
            "absolute_tolerance": 1.0,
            "kind": "colours",
        }
    )
    (question,) = read_questions(path)
    assert question == CalibrationQuestion(
        question_id="q1",
        text="What colour?",
        answers=("B",),
        grader="multiple_choice",
        options=GraderOptions(choices=("red", "blue"), tolerance=0.05, absolute_tolerance=1.0),
        kind="colours",
    )


def test_several_answers_take_the_place_of_one(write):
    """The first is the answer where one is asked for."""
    (question,) = read_questions(
        write({"question_id": 1, "text": "Who?", "answers": ["Ada", "A. L."], "images": []})
    )
    assert question.answers == ("Ada", "A. L.")
    assert question.answer == "Ada"
    assert question.question_id == "1"


def test_images_may_be_bytes_in_parquet(tmp_path):
    """Bare, or in the struct that Hugging Face's data sets write."""
    url = "data:image/png;base64,iVBORw0KGgo="
    for image in (PNG, {"bytes": PNG, "path": None}):
        (question,) = read_questions(write_parquet(tmp_path, ROW | {"images": [image]}))
        assert question.messages()[0]["content"][1]["image_url"]["url"] == url


def test_images_may_be_data_urls_and_paths(write, tmp_path):
    """A path is relative to the file."""
    (tmp_path / "one.png").write_bytes(PNG)
    url = "data:image/png;base64,iVBORw0KGgo="
    (question,) = read_questions(write(ROW | {"images": ["one.png", url]}))
    parts = question.messages()[0]["content"]
    assert [part["image_url"]["url"] for part in parts[1:]] == [url, url]


def test_a_folder_may_hold_json_lines(tmp_path):
    """Under the name that a folder's file has."""
    (tmp_path / "questions.jsonl").write_text(json.dumps(ROW) + "\n\n")
    assert [question.question_id for question in read_questions(tmp_path)] == ["q1"]


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"question_id": ""}, "question_id"),
        ({"text": None}, "text"),
        ({"text": " "}, "text"),
        ({"answer": None}, "answer"),
        ({"images": ["none.png"]}, "images"),
        ({"images": ["../one.png"]}, "images"),
        ({"images": ["/etc/hostname"]}, "images"),
        ({"images": "one.png"}, "images"),
        ({"grader": "guess"}, "grader"),
        ({"grader": "numeric"}, "answer"),
        ({"grader": "numeric", "answer": "1", "tolerance": -1.0}, "tolerance"),
        ({"grader": "numeric", "answer": "1", "absolute_tolerance": -1.0}, "absolute_tolerance"),
        ({"grader": "multiple_choice", "choices": ["blue", "green"]}, "answer"),
        ({"grader": "multiple_choice", "choices": ["red", "red"]}, "choices"),
    ],
    ids=str,
)
def test_a_fault_is_named_by_file_row_and_column(write, change, column):
    """In the second row of two; faults that would score every reply 0 are found before asking."""
    path = write(ROW, ROW | {"question_id": "q2"} | change)
    with pytest.raises(
        InvalidInputError, match=f"^{path.name}, row 2, column {column}: "
    ) as caught:
        list(read_questions(path))
    assert caught.value.field == column


def test_an_id_stands_once(write):
    """A run that is continued tells questions apart by their ids."""
    with pytest.raises(InvalidInputError, match="row 2, column question_id: 'q1' stands twice"):
        list(read_questions(write(ROW, ROW)))


def test_a_judge_needs_no_answer(write):
    """Its instructions say what is good."""
    (question,) = read_questions(write(ROW | {"answer": None, "grader": "judge"}))
    assert question.answers == ()


@pytest.mark.parametrize("line", ["{", "[1]", "\ud800".encode("utf-8", "surrogatepass")])
def test_a_line_that_is_no_object_is_named(tmp_path, line):
    """Half an object, a list, no text at all."""
    path = tmp_path / "set.jsonl"
    bad = line if isinstance(line, bytes) else line.encode()
    path.write_bytes(json.dumps(ROW).encode() + b"\n" + bad)
    with pytest.raises(InvalidInputError, match=r"^set\.jsonl, row 2: "):
        list(read_questions(path))


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("set.csv", b"", "must end in .parquet or .jsonl"),
        ("set.parquet", b"none", "is no Parquet file"),
        ("other.parquet", None, "does not exist"),
    ],
)
def test_what_is_no_set_is_refused(tmp_path, name, content, fault):
    """Another ending, another content, nothing."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInputError, match=fault):
        list(read_questions(tmp_path / name))


def test_a_fingerprint_changes_with_what_may_change_a_score():
    """Text, answers, grader, options, images; the id and the kind do not count."""
    base = {"question_id": "q", "text": "t", "answers": ("a",)}
    changes = [
        {},
        {"text": "u"},
        {"answers": ("a", "b")},
        {"grader": "anls"},
        {"options": GraderOptions(tolerance=0.1)},
        {"images": (PNG,)},
        {"images": ("data:image/png;base64,",)},
    ]
    prints = {CalibrationQuestion(**base | change).fingerprint() for change in changes}
    assert len(prints) == len(changes)
    same = CalibrationQuestion(**base | {"question_id": "r", "kind": "k"})
    assert same.fingerprint() in prints
