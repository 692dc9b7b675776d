"""Somebody who waits is told what for, how long already, and how long it usually takes."""

import time

import pytest

from infra import progress
from infra.progress import Step, step


def test_a_step_says_that_it_begins_and_that_it_is_done(capsys):
    """Two lines where nothing lasts."""
    with step("Start Ray", expected_s=20):
        pass
    assert capsys.readouterr().out.splitlines() == [
        "… Start Ray  (about 20 s)",
        "✓ Start Ray  0 s of about 20 s",
    ]


def test_a_step_that_fails_says_so_and_hides_nothing(capsys):
    """The error goes on to whoever can tell it."""
    with pytest.raises(RuntimeError, match="port taken"), step("Start Ray", expected_s=20):
        raise RuntimeError("port taken")
    assert capsys.readouterr().out.splitlines()[-1] == "✗ Start Ray  0 s of about 20 s"


def test_a_step_that_lasts_reports_its_detail(capsys, monkeypatch):
    """Line by line where the output is no terminal; the last detail stays in the last line."""
    monkeypatch.setattr(progress, "REPORT_EVERY_S", 0.01)
    with step("Profile", expected_s=5) as current:
        current.detail = "3 of 9 answers"
        said = ""
        while "… Profile  0 s of about 5 s  3 of 9 answers\n" not in said:
            time.sleep(0.005)
            said += capsys.readouterr().out
        current.detail = "9 of 9 answers"
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "✓ Profile  0 s of about 5 s  9 of 9 answers"


def test_a_line_rounds_to_seconds(monkeypatch):
    """Its clock is the monotonic one of its process."""
    clock = iter([100.0, 107.6])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    assert Step("Wait", 90.4).line("…") == "… Wait  8 s of about 90 s"
