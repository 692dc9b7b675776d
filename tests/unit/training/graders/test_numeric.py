"""A number is right within its tolerance, however it is written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import InvalidInputError
from training.graders import NumericTolerance
from training.graders.numeric import Number, read_number


@pytest.mark.parametrize(
    ("text", "value", "is_percent"),
    [
        ("7", 7, False),
        ("-7.5", -7.5, False),
        ("\u22127.5 degrees", -7.5, False),
        (".5", 0.5, False),
        ("3e-2", 0.03, False),
        ("1,200", 1200, False),
        ("3,500,000 people", 3_500_000, False),
        ("1\u202f200", 1200, False),
        ("(1,200)", -1200, False),
        ("(3)", 3, False),
        ("12 %", 12, True),
        ("12.5%", 12.5, True),
        ("12 per cent", 12, True),
        ("$3.5k", 3500, False),
        ("-$5", -5, False),
        ("\u20ac 3", 3, False),
        ("US$4bn", 4e9, False),
        ("1.2 million", 1_200_000, False),
        ("3 m", 3, False),
        ("answer - 42", 42, False),
        ("2019-2020", 2020, False),
        ("12.", 12, False),
        ("**42**", 42, False),
    ],
)
def test_numbers_are_read_as_people_write_them(text, value, is_percent):
    """Thousands, signs, currencies, scales, percent; a letter with a space before it is a unit."""
    number = read_number(text)
    assert number.value == pytest.approx(value)
    assert number.is_percent is is_percent


@pytest.mark.parametrize("text", ["", "no number", "x3", "A4b", "one"])
def test_where_there_is_no_number_none_is_read(text):
    """A digit within a word is no number."""
    assert read_number(text) is None


def test_of_several_numbers_the_announced_one_counts_else_the_last():
    """The way models end their reasoning."""
    assert read_number("2 + 2 makes 4") == Number(4.0, is_percent=False)
    assert read_number("The answer is 7, out of 40.").value == 7
    assert read_number("The total is 3. No: the total is 5 of 9").value == 5
    assert read_number("4 apples; the answer is clear").value == 4


@pytest.mark.parametrize(
    ("reply", "answer", "options", "score"),
    [
        ("100", "100", {}, 1.0),
        ("100.1", "100", {}, 0.0),
        ("0.1", "0.10", {}, 1.0),
        ("105", "100", {"relative": 0.05}, 1.0),
        ("95", "100", {"relative": 0.05}, 1.0),
        ("105.2", "100", {"relative": 0.05}, 0.0),
        ("-105", "-100", {"relative": 0.05}, 1.0),
        ("-100", "100", {"relative": 0.05}, 0.0),
        ("0.4", "0", {"absolute": 0.5}, 1.0),
        ("0.6", "0", {"absolute": 0.5}, 0.0),
        ("0.4", "0", {"relative": 0.5}, 0.0),
        ("about $3.5k", "3,500", {}, 1.0),
        ("12%", "12 %", {}, 1.0),
        ("12", "12 %", {}, 1.0),
        ("0.12", "12 %", {}, 1.0),
        ("12 %", "0.12", {}, 1.0),
        ("0.12 %", "12 %", {}, 0.0),
        ("1200 %", "12", {}, 1.0),
        ("I cannot tell", "12", {}, 0.0),
    ],
)
def test_the_larger_tolerance_decides(reply, answer, options, score):
    """Relative to the answer, absolute in its unit; a lone percent sign is read both ways."""
    assert NumericTolerance(**options).score(reply, answer) == score


def test_an_answer_without_a_number_is_refused():
    """It is a fault of the set, not of the reply."""
    with pytest.raises(InvalidInputError, match="'red' holds no number"):
        NumericTolerance().score("3", "red")


@pytest.mark.parametrize("options", [{"relative": -0.1}, {"absolute": float("inf")}])
def test_a_tolerance_without_bounds_is_refused(options):
    """Below zero nothing is right, without end everything."""
    with pytest.raises(InvalidInputError, match="0 or more and finite"):
        NumericTolerance(**options)


@given(
    st.integers(-(10**12), 10**12), st.sampled_from(["{}", "{:,}", "it is {:,}.", "= {} units"])
)
def test_every_whole_number_is_read_back(number, form):
    """With and without commas, and in a sentence."""
    assert read_number(form.format(number)).value == number


@given(st.text(max_size=80))
def test_no_text_breaks_the_reader(text):
    """A score of 0 or 1 comes out of anything."""
    assert NumericTolerance().score(text, "1") in (0.0, 1.0)
