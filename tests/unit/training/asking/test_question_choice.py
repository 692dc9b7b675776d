"""A choice of questions covers every kind, named or not."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import InvalidInputError
from training.asking.question_choice import choose_questions
from training.asking.question_sets import CalibrationQuestion


def question(number, *, text="", kind="", images=0):
    """Return a question."""
    return CalibrationQuestion(
        question_id=f"q{number:04d}",
        text=text or f"What is {number}?",
        answers=("a",),
        images=(b"",) * images,
        kind=kind,
    )


def test_a_rare_kind_gets_as_many_as_a_common_one():
    """Ten of 500 are charts; of 16 chosen, eight are."""
    questions = [question(n, kind="text") for n in range(490)]
    questions += [question(500 + n, kind="chart", images=1) for n in range(10)]
    chosen = choose_questions(questions, 16)
    assert Counter(q.kind for q in chosen) == {"text": 8, "chart": 8}


def test_a_kind_that_runs_out_leaves_its_places_to_others():
    """Two charts only, so 14 of the other kind."""
    questions = [question(n, kind="text") for n in range(50)]
    questions += [question(90 + n, kind="chart") for n in range(2)]
    chosen = choose_questions(questions, 16)
    assert Counter(q.kind for q in chosen) == {"text": 14, "chart": 2}


def test_where_no_kind_is_named_wordings_and_images_tell_kinds_apart():
    """Four kinds of question, one of them once in 100: four choices meet all four."""
    texts = ("How many circles are there?", "Which bar is tallest?", "Read the number below.")
    questions = [question(n, text=f"{texts[n % 3]} {n}") for n in range(99)]
    questions.append(question(99, text=texts[0], images=1))
    for seed in range(5):
        chosen = choose_questions(questions, 4, seed=seed)
        assert len({(q.text[:9], len(q.images)) for q in chosen}) == 4


@given(st.integers(1, 40), st.integers(0, 40), st.integers(0, 3))
def test_a_smaller_choice_begins_a_larger_one(num, more, seed):
    """A run goes on with more questions; none is chosen twice, whatever the set's order."""
    questions = [question(n, kind="abc"[n % 3], text="x " * (n % 7 + 1)) for n in range(60)]
    small = choose_questions(questions, num, seed=seed)
    large = choose_questions(questions[::-1], num + more, seed=seed)
    assert large[:num] == small
    assert len({q.question_id for q in large}) == len(large) == min(num + more, 60)


def test_none_is_no_choice():
    """Of an empty set there is none either; a text without a word can be chosen."""
    with pytest.raises(InvalidInputError, match="1 or more"):
        choose_questions([question(0)], 0)
    assert choose_questions([], 5) == []
    assert len(choose_questions([question(0, text="?"), question(1, text="!")], 5)) == 2
