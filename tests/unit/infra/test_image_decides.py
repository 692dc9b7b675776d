"""Swapping pictures keeps the wording and changes everything that the picture decides."""

import pytest

from infra.asking import Ask, Asked
from infra.evidence.image_decides import _share, neutral_questions, swap


@pytest.fixture(scope="module")
def questions():
    """Return some neutrally worded questions of every speciality."""
    return neutral_questions()[:40]


def test_neutral_questions_tell_nothing_but_by_their_picture(questions):
    """Each has one picture, and there is more than one speciality to swap between."""
    assert all(question.neutral and len(question.images) == 1 for question in questions)
    assert len({question.speciality for question in questions}) > 1


def test_a_swap_takes_picture_and_answer_of_another_speciality(questions):
    """The wording stays, and so does the order: the n-th swap is of the n-th question."""
    swaps = swap(questions)
    assert [i for i, _, _ in swaps] == list(range(len(questions)))
    for i, j, mixed in swaps:
        assert mixed.text == questions[i].text
        assert mixed.images is questions[j].images
        assert mixed.answer == questions[j].answer
        assert questions[i].speciality != questions[j].speciality


def test_swaps_are_the_same_every_time(questions):
    """The seed is fixed, so that a report can be made again."""
    assert [j for _, j, _ in swap(questions)] == [j for _, j, _ in swap(questions)]


def test_a_share_counts_over_the_chosen_rows(questions):
    """Of rows 0 and 2 one went where expected; row 1 does not count."""
    moved = [
        Asked(
            ask=Ask(question=questions[0]),
            decision_id="dec_0",
            answered_by=name,
            reply="",
            score=1.0,
            cost_usd=0.0,
            latency_s=0.0,
        )
        for name in ("a", "b", "c")
    ]
    assert _share(moved, [0, 2], ["a", "a", "a"]) == 0.5
