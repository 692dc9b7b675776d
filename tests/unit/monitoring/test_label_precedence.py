"""Of several labels of one answer the highest class counts, and in it the latest."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.label_precedence import GivenLabel, LabelPrecedence
from router.errors import InvalidInputError

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SOURCES = ("gold", "grader:anls", "grader:numeric", "user", "judge:m", "exact_match")


def given_label(source, score, *, after_s=0, decision_id="d"):
    """Return a label."""
    return GivenLabel(decision_id, NOON + timedelta(seconds=after_s), source, score)


@pytest.mark.parametrize(
    ("labels", "score"),
    [
        ([("judge:m", 0.1, 9), ("user", 0.2, 8), ("grader:anls", 0.3, 7), ("gold", 0.4, 6)], 0.4),
        ([("judge:m", 0.1, 9), ("user", 0.2, 8), ("grader:anls", 0.3, 7)], 0.3),
        ([("judge:m", 0.1, 9), ("user", 0.2, 8)], 0.2),
        ([("thumbs", 0.0, 9), ("judge:m", 0.1, 8)], 0.1),
        ([("gold:ann", 0.1, 1), ("gold:bob", 0.2, 2)], 0.2),
        ([("thumbs", 0.1, 1), ("exact_match", 0.2, 2)], 0.2),
        ([("user", 0.1, 1), ("user", 0.2, 1)], 0.2),
    ],
)
def test_class_decides_first_and_time_within_it(labels, score):
    """Sources of no class come last; of two at one time the one written later."""
    found = LabelPrecedence().choose(given_label(s, v, after_s=t) for s, v, t in labels)
    assert found == {"d": score}


labels = st.lists(
    st.builds(
        given_label,
        st.sampled_from(SOURCES),
        st.floats(0, 1),
        after_s=st.integers(0, 10_000),
        decision_id=st.sampled_from("ab"),
    ),
    unique_by=lambda label: label.time,
    max_size=12,
)


@given(labels, st.randoms())
def test_order_of_arrival_is_nothing(given_labels, rng):
    """However the log lies, the same label counts."""
    shuffled = list(given_labels)
    rng.shuffle(shuffled)
    assert LabelPrecedence().choose(given_labels) == LabelPrecedence().choose(shuffled)


@given(labels)
def test_repeating_every_label_changes_nothing(given_labels):
    """Posting is safe to repeat."""
    assert LabelPrecedence().choose(given_labels * 2) == LabelPrecedence().choose(given_labels)


def test_the_order_may_be_another():
    """As an operator writes it."""
    precedence = LabelPrecedence.parse("user, gold")
    assert precedence.order == ("user", "gold")
    both = [given_label("gold", 0.1, after_s=5), given_label("user", 0.2)]
    assert precedence.choose(both) == {"d": 0.2}


@pytest.mark.parametrize("text", ["", "gold,", "gold,gold", "gold:ann,user"])
def test_an_order_that_is_none_is_refused(text):
    """Empty, a gap, twice the same, a source for a class."""
    with pytest.raises(InvalidInputError) as caught:
        LabelPrecedence.parse(text)
    assert caught.value.field == "label_precedence"
