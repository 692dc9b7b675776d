"""Question statistics name what they count."""

import pytest

from router.features.question import QuestionStatisticsEncoder, num_choices


def measured(text):
    """Return the statistics by name."""
    encoder = QuestionStatisticsEncoder()
    return dict(zip(encoder.names, encoder.encode(text).tolist(), strict=True))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Which?\nOptions: (A) 4; (B) 3; (C) 2; (D) 2", 4),
        ("Which?\nOptions: No.; Cannot tell; Yes.", 3),
        ("Which?\nA. red\nB. green\n", 2),
        ("Select \uff08A\uff09 one \uff08B\uff09 two", 2),
        ("Is (a) right?", 0),
        ("Options:", 0),
        ("How many?", 0),
    ],
)
def test_choices_are_counted(text, expected):
    """Lettered and listed answers count; a single letter is not a choice."""
    assert num_choices(text) == expected


def test_kinds_of_question_are_told_apart():
    """Marks follow the words of the question."""
    count = measured("How many circles are in the image? Answer with only the number.")
    assert count["asks_count"] == count["asks_short_answer"] == 1
    assert count["log_num_image_marks"] > 0
    solve = measured("Calculate $x^2$ where \\alpha = 50. Think step by step.")
    assert solve["asks_calculation"] == solve["asks_steps"] == 1
    assert solve["log_num_latex"] > 0
    assert measured("Is the cat left of the dog?")["asks_yes_no"] == 1
    assert measured("```\ndef f(x)\n```")["has_code"] == 1


def test_shares_add_up():
    """Each character is of one kind, and Chinese counts as foreign and as CJK."""
    found = measured("Ab1? \u4f60\u597d\u00e9")
    assert found["foreign_share"] == pytest.approx(3 / 8)
    assert found["cjk_share"] == pytest.approx(2 / 8)
    for share in ("digit_share", "upper_share", "symbol_share", "blank_share"):
        assert found[share] == pytest.approx(1 / 8)
