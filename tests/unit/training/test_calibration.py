"""A question set is read as it lies in its folder, or its fault is named."""

import base64

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from router.errors import InvalidInputError
from training.calibration import read_questions

ROWS = [
    {"question_id": "q1", "text": "What colour?", "answer": "red", "images": ["pictures/one.png"]},
    {"question_id": "q2", "text": "2 + 2?", "answer": "4", "images": []},
]


def write_set(folder, rows):
    """Write a question set with one picture file."""
    (folder / "pictures").mkdir()
    (folder / "pictures" / "one.png").write_bytes(b"\x89PNG")
    pq.write_table(pa.Table.from_pylist(rows), folder / "questions.parquet")


def test_questions_are_read_in_order(tmp_path):
    """Paths of images are relative to the folder; other columns are ignored."""
    write_set(tmp_path, [row | {"task": "colours"} for row in ROWS])
    first, second = read_questions(tmp_path)
    assert (first.question_id, first.text, first.answer) == ("q1", "What colour?", "red")
    assert first.images == (tmp_path / "pictures" / "one.png",)
    assert (second.question_id, second.images) == ("q2", ())


def test_no_list_of_images_is_no_image(tmp_path):
    """Null says the same as an empty list."""
    write_set(tmp_path, [ROWS[0], ROWS[1] | {"images": None}])
    assert [len(question.images) for question in read_questions(tmp_path)] == [1, 0]


def test_a_question_is_asked_as_openai_does(tmp_path):
    """One user message: the text, then each picture as a data URL of its type."""
    write_set(tmp_path, ROWS)
    first, second = read_questions(tmp_path)
    picture = base64.b64encode(b"\x89PNG").decode()
    assert first.messages() == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What colour?"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}},
            ],
        }
    ]
    assert second.messages()[0]["content"] == [{"type": "text", "text": "2 + 2?"}]


def test_a_folder_without_questions_is_refused(tmp_path):
    """The message names the folder and the file that it lacks."""
    with pytest.raises(InvalidInputError, match=f"{tmp_path.name} holds no questions.parquet"):
        list(read_questions(tmp_path))


def test_missing_columns_are_named(tmp_path):
    """All of them at once."""
    write_set(tmp_path, [{"question_id": "q1", "text": "What colour?"}])
    with pytest.raises(InvalidInputError, match="lacks the columns answer, images"):
        list(read_questions(tmp_path))
