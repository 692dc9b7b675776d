"""A reply is right if it says the answer, however it is dressed."""

import pytest

from training.graders import ExactMatch


@pytest.mark.parametrize(
    ("reply", "answer", "score"),
    [
        ("red", "red", 1.0),
        ("  Red.\n", "red", 1.0),
        ("two  red\tcircles", "Two red circles.", 1.0),
        ("red .", "red", 1.0),
        ("", "", 1.0),
        ("it is red", "red", 0.0),
        ("re d", "red", 0.0),
        ("3.5", "35", 0.0),
        ("", "red", 0.0),
    ],
)
def test_exact_match_forgives_case_space_and_a_full_stop(reply, answer, score):
    """Nothing else is forgiven: not a sentence around the word, not a point within a number."""
    assert ExactMatch().score(reply, answer) == score


def test_a_grader_signs_its_labels():
    """Name and version go into the label."""
    assert (ExactMatch.name, ExactMatch.version) == ("exact_match", "1")
