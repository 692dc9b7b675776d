"""ANLS forgives misread letters and nothing more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import InvalidInputError
from training.graders import Anls, best_score
from training.graders.anls import levenshtein


def by_table(one, other):
    """Return the edit distance by the textbook's table."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, right in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (left != right))
    return row[-1]


words = st.text(alphabet="abcé ", max_size=90)


@given(words, words)
def test_distance_is_that_of_the_textbook(one, other):
    """Beyond 64 letters too, where a machine word would end."""
    assert levenshtein(one, other) == by_table(one, other)


@given(words, words)
def test_a_score_is_symmetric_and_bounded(one, other):
    """One for equal texts, else 0 or above one half."""
    score = Anls().score(one, other)
    assert score == pytest.approx(Anls().score(other, one))
    assert score == 0.0 or 0.5 < score <= 1.0
    assert Anls().score(one, one) == 1.0


@pytest.mark.parametrize(
    ("reply", "answer", "score"),
    [
        ("Invoice 42", "invoice  42", 1.0),
        ("abcd", "abce", 0.75),
        ("abcd", "abxy", 0.0),
        ("kitten", "sitting", 1 - 3 / 7),
        ("", "x", 0.0),
        ("", "", 1.0),
        ("the total is 17 USD", "17", 0.0),
    ],
)
def test_scores_are_those_of_the_paper(reply, answer, score):
    """1 - distance / longer length: 1/4 off gives 0.75, 2/4 reaches the threshold and gives 0."""
    assert Anls().score(reply, answer) == pytest.approx(score)


def test_the_best_of_several_answers_counts():
    """As in DocVQA."""
    assert best_score(Anls(), "abcd", ("zzzz", "abce", "abxy")) == 0.75
    with pytest.raises(InvalidInputError, match="at least one right answer"):
        best_score(Anls(), "abcd", ())


@pytest.mark.parametrize("threshold", [0.0, 1.1, float("nan")])
def test_a_threshold_without_meaning_is_refused(threshold):
    """At 0 nothing scores."""
    with pytest.raises(InvalidInputError, match="above 0 and at most 1"):
        Anls(threshold=threshold)
