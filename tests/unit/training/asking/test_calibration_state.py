"""What was asked is not forgotten, and labels that were not posted are not either."""

import sqlite3

import pytest

from training.asking.calibration_state import CalibrationState, GradedReply
from training.asking.question_sets import CalibrationQuestion

QUESTION = CalibrationQuestion(question_id="q1", text="2 + 2?", answers=("4",))


def graded(number, cost_usd=0.25):
    """Return a graded reply."""
    label = {"decision_id": f"d{number}", "score": 1.0, "source": "grader:exact_match"}
    return GradedReply(decision_id=f"d{number}", label=label, cost_usd=cost_usd)


def test_a_reply_outlives_the_process(tmp_path):
    """Its label waits until it is posted."""
    path = tmp_path / "folder" / "state.sqlite"
    with CalibrationState(path) as state:
        assert not state.is_done(QUESTION, "aster")
        state.add(QUESTION, "aster", graded(1))
    with CalibrationState(path) as state:
        assert state.is_done(QUESTION, "aster")
        assert not state.is_done(QUESTION, "birch")
        assert state.unposted(10) == [graded(1).label]
        assert state.last_posted() is None
        state.mark_posted(["d1"])
    with CalibrationState(path) as state:
        assert (state.unposted(10), state.num_unposted()) == ([], 0)
        assert state.last_posted() == "d1"


def test_a_changed_question_is_asked_again():
    """Its score may be another now."""
    with CalibrationState() as state:
        state.add(QUESTION, "aster", graded(1))
        changed = CalibrationQuestion(question_id="q1", text="2 + 3?", answers=("5",))
        assert not state.is_done(changed, "aster")


def test_spending_is_summed_by_candidate():
    """A cap on one candidate does not see the others."""
    with CalibrationState() as state:
        state.add(QUESTION, "aster", graded(1, 0.25))
        state.add(QUESTION, "birch", graded(2, 0.5))
        assert state.spent_usd(["aster"]) == 0.25
        assert state.spent_usd(["aster", "birch", "nobody"]) == 0.75


def test_a_lost_outcome_is_asked_again():
    """The label of a decision that nobody knows teaches nothing."""
    with CalibrationState() as state:
        state.add(QUESTION, "aster", graded(1))
        state.forget("d1")
        assert not state.is_done(QUESTION, "aster")


def test_nothing_is_written_down_twice():
    """A pair has one reply."""
    with CalibrationState() as state:
        state.add(QUESTION, "aster", graded(1))
        with pytest.raises(sqlite3.IntegrityError):
            state.add(QUESTION, "aster", graded(2))


def test_the_file_holds_no_question(tmp_path):
    """Ids, hashes and scores alone."""
    with CalibrationState(tmp_path / "s.sqlite") as state:
        state.add(QUESTION, "aster", graded(1))
    assert all(b"2 + 2" not in path.read_bytes() for path in tmp_path.iterdir())
