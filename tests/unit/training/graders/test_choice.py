"""A choice may be named by its letter or by its text, and by one only."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import InvalidInputError
from training.graders import MultipleChoice

COLOURS = MultipleChoice(choices=("red", "dark red", "a cat", "Blue"))


@pytest.mark.parametrize(
    ("reply", "place"),
    [
        ("B", 1),
        ("b", 1),
        ("(B)", 1),
        ("[b].", 1),
        ("**B**", 1),
        ("B.", 1),
        ("B. dark red", 1),
        ("B) dark red", 1),
        ("(B) dark red", 1),
        ("B: because it is", 1),
        ("B\nbecause it is", 1),
        ("dark red", 1),
        ("Dark  Red.", 1),
        ("the answer is B", 1),
        ("The answer is: (b)", 1),
        ("Answer: **B**", 1),
        ("The correct option is B because A is too light", 1),
        ("The answer is dark red", 1),
        ("The answer is A. No, the answer is B.", 1),
        ("The answer is a cat", 2),
        ("the answer is a", 0),
        ("I think (C) is right", 2),
        ("It is dark red.", 1),
        ("It is red.", 0),
        ("blue, of course", 3),
    ],
)
def test_a_choice_is_read_from_what_models_say(reply, place):
    """Letters in any dress, texts whole or within a sentence, longer texts before their parts."""
    assert COLOURS.read(reply) == place


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "E",
        "the answer is E",
        "red or blue",
        "(A) or (B)",
        "A, B",
        "B/C",
        "I would say A cat",
        "green",
    ],
)
def test_a_reply_that_names_none_or_two_is_wrong(reply):
    """A letter past the end, two texts, two letters."""
    assert [COLOURS.score(reply, letter) for letter in "ABD"] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("answer", ["B", "(b)", "dark red", "Dark red."])
def test_the_answer_may_be_letter_or_text(answer):
    """Sets do it either way."""
    assert COLOURS.score("the answer is B", answer) == 1.0
    assert COLOURS.score("A", answer) == 0.0


def test_without_choices_letters_are_compared():
    """The set then says the letter alone."""
    assert MultipleChoice().score("The answer is (D).", "D") == 1.0
    assert MultipleChoice().score("C", "D") == 0.0


def test_choices_that_are_numbers_are_read_as_texts():
    """A reply of 12 names the choice 12, and not the choice 1."""
    numbers = MultipleChoice(choices=("1", "12", "20"))
    assert numbers.read("It is 12.") == 1
    assert numbers.read("B") == 1


@pytest.mark.parametrize("answer", ["E", "green", ""])
def test_an_answer_that_is_no_choice_is_refused(answer):
    """It is a fault of the set."""
    with pytest.raises(InvalidInputError, match="neither a letter nor one of the choices"):
        COLOURS.score("A", answer)


@pytest.mark.parametrize("choices", [("red", "Red."), ("red", " "), tuple(map(str, range(27)))])
def test_choices_that_cannot_be_told_apart_are_refused(choices):
    """Twice the same, empty, more than letters."""
    with pytest.raises(InvalidInputError, match="different texts"):
        MultipleChoice(choices=choices)


@given(st.text(max_size=80))
def test_no_text_breaks_the_reader(text):
    """At most one choice is right, whatever is said."""
    assert sum(COLOURS.score(text, letter) for letter in "ABCD") <= 1.0
