"""A calibration asks nothing twice, stays under its cap, and survives what goes wrong."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from typer import Typer
from typer.testing import CliRunner

from monitoring.log_reader import read_table
from router.errors import InvalidInputError
from training import calibration
from training.asking.calibration_state import CalibrationState
from training.asking.pinned_asking import PinnedAsker
from training.asking.question_sets import CalibrationQuestion
from training.calibration import ask_set, calibrate
from training.graders import Verdict
from training.spend import SpendCap

ASTER_USD = 0.001


def questions(num, **changes):
    """Return questions of which every second is answered rightly."""
    return [
        CalibrationQuestion(
            question_id=f"q{n}",
            text=f"Say {'yes' if n % 2 else 'no'}",
            answers=("yes",),
            **changes,
        )
        for n in range(num)
    ]


def distinct(num):
    """Return questions of distinct texts, all answered rightly."""
    return [
        CalibrationQuestion(
            question_id=f"q{n}", text=f"Say {n}", answers=(str(n),), grader="numeric"
        )
        for n in range(num)
    ]


def asker(system, candidates, **changes):
    """Return one that knows the prices."""
    prices = {candidate.id: candidate.price for candidate in candidates}
    return PinnedAsker(system.url, prices=prices, **changes)


async def test_every_candidate_is_asked_and_labelled(system):
    """As the demo does it: the number of labels comes back, sources are graders."""
    seen = []
    num = await calibrate(questions(6), ["aster", "birch"], url=system.url, on_reply=seen.append)
    assert num == 12
    assert sorted(seen) == list(range(1, 13))
    labels = read_table(system.root, "labels").to_pylist()
    assert Counter(label["score"] for label in labels) == {0.0: 6, 1.0: 6}
    assert {label["source"] for label in labels} == {"grader:exact_match"}


async def test_labels_are_posted_as_they_come(system, candidates, monkeypatch):
    """The first ten go while others are being asked; how many the next batch has is chance."""
    monkeypatch.setattr(calibration, "POST_EVERY", 10)
    await ask_set(distinct(40), ["aster"], asker=asker(system, candidates), concurrency=4)
    assert sum(system.label_batches) == 40
    assert 10 <= system.label_batches[0] < 40


async def test_a_run_goes_on_where_it_stopped(system, candidates, tmp_path):
    """Interrupted in the middle: nothing is asked twice, and every answer is labelled once."""
    path = tmp_path / "state.sqlite"

    def interrupt(num):
        if num == 12:
            raise RuntimeError

    with CalibrationState(path) as state, pytest.raises(ExceptionGroup):
        await ask_set(
            distinct(20), ["aster"], asker=asker(system, candidates), state=state, concurrency=1,
            on_reply=interrupt,
        )  # fmt: skip
    assert len(system.asked) == 12
    with CalibrationState(path) as state:
        report = await ask_set(
            distinct(20), ["aster"], asker=asker(system, candidates), state=state
        )
    assert (report.num_done_before, report.num_labels, report.num_left) == (12, 8, 0)
    assert max(Counter(system.asked).values()) == 1
    assert read_table(system.root, "labels").num_rows == 20


async def test_labels_that_could_not_be_posted_wait_for_the_next_run(system, candidates, tmp_path):
    """The replies were paid for."""
    path = tmp_path / "state.sqlite"
    system.is_posting_down = True
    with CalibrationState(path) as state:
        with pytest.raises(Exception, match="503"):
            await ask_set(distinct(5), ["aster"], asker=asker(system, candidates), state=state)
        assert state.num_unposted() == 5
        system.is_posting_down = False
        report = await ask_set(
            distinct(5), ["aster"], asker=asker(system, candidates), state=state
        )
        assert (report.num_labels, state.num_unposted()) == (0, 0)
    assert len(system.asked) == 5
    assert sum(system.label_batches) == 5


@pytest.mark.parametrize("sends_cost", [True, False])
async def test_a_cap_holds_over_runs(system, candidates, tmp_path, sends_cost):
    """Each answer costs 0.001 USD; by the header, or by tokens and price where there is none."""
    system.sends_cost = sends_cost
    with CalibrationState(tmp_path / "s.sqlite") as state:
        for cap_usd, num_known in ((0.0101, 10), (0.0101, 10), (0.0151, 15)):
            spend = SpendCap(cap_usd, spent_usd=state.spent_usd(["aster"]))
            report = await ask_set(
                distinct(30), ["aster"], asker=asker(system, candidates, spend=spend), state=state
            )
            assert spend.spent_usd <= cap_usd
            assert report.num_done_before + report.num_labels == num_known
            assert report.num_left == 30 - report.num_done_before - report.num_labels
            assert "raise the cap" in report.stopped_by
    assert len(system.asked) == 15


async def test_a_cap_without_prices_is_refused(system):
    """It would not be kept."""
    with pytest.raises(InvalidInputError, match="a cap needs the price of aster"):
        await ask_set(distinct(1), ["aster"], asker=PinnedAsker(system.url, spend=SpendCap(1.0)))


async def test_a_failure_is_counted_and_asked_again(system, candidates, tmp_path):
    """The others are labelled; when it works again only the failed one is asked."""
    system.fails_on = "Say 7"
    with CalibrationState(tmp_path / "s.sqlite") as state:
        report = await ask_set(
            distinct(10), ["aster"], asker=asker(system, candidates), state=state
        )
        assert (report.num_labels, report.num_failed, report.num_left) == (9, 1, 0)
        assert report.failures == {"aster: BadRequestError": 1}
        assert "failed 1 times: aster: BadRequestError" in "\n".join(report.lines())
        system.fails_on = "nothing"
        report = await ask_set(
            distinct(10), ["aster"], asker=asker(system, candidates), state=state
        )
        assert (report.num_labels, report.num_failed) == (1, 0)


async def test_where_nothing_works_the_run_stops(system, candidates):
    """After two dozen failures or so, instead of 200."""
    system.fails_on = "Say"
    report = await ask_set(
        distinct(200), ["aster"], asker=asker(system, candidates), concurrency=4
    )
    assert report.num_labels == 0
    assert 24 <= report.num_failed <= 28
    assert report.stopped_by.startswith("the first 24 requests failed")
    assert report.num_left == 200 - report.num_failed


async def test_a_lost_outcome_costs_no_other_label(system, candidates, tmp_path):
    """One decision is forgotten: the other labels are taken, and its question is asked again."""
    with CalibrationState(tmp_path / "s.sqlite") as state:
        system.on_ask = lambda: (
            system.known.discard("dec_000003") if len(system.asked) > 8 else None
        )
        report = await ask_set(
            distinct(10), ["aster"], asker=asker(system, candidates), state=state, concurrency=1
        )
        assert report.num_lost == 1
        assert read_table(system.root, "labels").num_rows == 9
        system.on_ask = None
        system.known |= {f"dec_{n:06d}" for n in range(20)}
        report = await ask_set(
            distinct(10), ["aster"], asker=asker(system, candidates), state=state
        )
        assert (report.num_labels, report.num_lost) == (1, 0)


async def test_a_state_of_another_log_is_refused(system, candidates, tmp_path):
    """Else nothing would be asked and nothing labelled here."""
    with CalibrationState(tmp_path / "s.sqlite") as state:
        await ask_set(distinct(2), ["aster"], asker=asker(system, candidates), state=state)
        system.known.clear()
        with pytest.raises(InvalidInputError, match="remove the file, or name another") as caught:
            await ask_set(distinct(4), ["aster"], asker=asker(system, candidates), state=state)
        assert caught.value.field == "state"


class Ruler:
    """A judge that finds long replies good."""

    name = "ruler"
    version = "3"

    async def judge(self, question, reply, answer=None):
        """Half of what is said is true."""
        assert (question, answer) == ("Say yes", "yes")
        return Verdict(score=0.5, raw_score=len(reply) / 10, cost_usd=0.002)


async def test_a_judge_labels_under_its_own_name(system, candidates):
    """With its raw score as a metric; what it costs counts."""
    asked = questions(2, grader="judge")[1:]
    with pytest.raises(InvalidInputError, match="questions for a judge"):
        await ask_set(asked, ["aster"], asker=asker(system, candidates))
    report = await ask_set(asked, ["aster"], asker=asker(system, candidates, judge=Ruler()))
    assert report.cost_usd == pytest.approx(ASTER_USD + 0.002)
    (label,) = read_table(system.root, "labels").to_pylist()
    assert (label["source"], label["grader_version"], label["score"]) == ("judge:ruler", "3", 0.5)
    assert label["metrics"][0]["name"] == "judge_raw"


def test_the_command_asks_resumes_and_reports(system, tmp_path):
    """Twice the same command: the second asks nothing."""
    rows = [{"question_id": f"q{n}", "text": f"Say {n}", "answer": str(n)} for n in range(5)]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    app = Typer()
    app.command()(calibration.main)
    command = [
        f"--set={tmp_path}", f"--url={system.url}", "--candidate=aster", "--candidate=cedar",
        f"--state={tmp_path / 's.sqlite'}", "--spend-cap-usd=1",
    ]  # fmt: skip
    first, second = (CliRunner().invoke(app, command) for _ in range(2))
    assert first.exit_code == second.exit_code == 0, first.output
    assert "10 labels, 0 done before, 0 failed, 0 left, 0.0300 USD" in first.output
    assert "0 labels, 10 done before" in second.output
    assert len(system.asked) == 10
    refused = CliRunner().invoke(app, [*command, "--candidate=dahlia"])
    assert "dahlia not served" in str(refused.exception)
