"""A drill's verdict follows its figures, and texts that are lost or doubled show."""

import time

import pytest

from infra.evidence.serving import changes
from infra.evidence.serving.drill import Drill, Rows, drill_table, entries, stored
from infra.evidence.serving.drills_load import _judged_burst
from infra.evidence.serving.drills_upstream import TEXT, Watch, _judged, _total_failure
from infra.evidence.serving.load import Load, Reply, bodies, quantile, questions


def reply(sent_s=0.0, took_s=0.1, *, status=200, error="", **more):
    """Return what came of one request; a whole answer of a good endpoint unless told otherwise."""
    told = {"text": TEXT, "num_ends": 1, "answered_by": "a", "is_stream": False, "question": 0}
    return Reply(
        sent_s=sent_s,
        first_s=sent_s + took_s,
        done_s=sent_s + took_s,
        status=status,
        error=error,
        **(told | more),
    )


def rows(num, error=None):
    """Return as many outcome rows, each with one attempt."""
    calls = [{"candidate_id": "a", "error": error}]
    return Rows(
        attempts={str(i): calls for i in range(num)},
        status={str(i): "ok" for i in range(num)},
        num_rows=num,
    )


@pytest.mark.parametrize(
    ("values", "share", "value"),
    [([], 0.99, 0.0), ([3.0], 0.5, 3.0), ([3.0, 1.0, 2.0], 0.5, 2.0), ([1.0, 2.0], 1.0, 2.0)],
)
def test_a_quantile_is_one_of_the_values(values, share, value):
    """The next larger one; of nothing it is 0."""
    assert quantile(values, share) == value


def test_every_third_request_is_a_stream_and_questions_repeat():
    """The body of the n-th request asks the n-th question, in turn."""
    body = bodies(questions(2), routing={"explore": False})
    assert [body(n)["stream"] for n in range(6)] == [False, False, True] * 2
    assert body(0)["messages"] == body(2)["messages"] != body(1)["messages"]
    assert body(0)["routing"] == {"explore": False}


def test_a_fault_that_nobody_noticed_holds():
    """Masked in time, back again, each request with its row."""
    drill = _judged("answers 500", Load([reply(), reply()]), rows(2), 0.5, 3.0)
    assert (drill.value, drill.holds) == (0, True)


@pytest.mark.parametrize(
    ("replies", "num_rows", "masked_s", "back_s"),
    [
        ([reply(), reply(status=503, error="upstream_failed")], 2, 0.5, 3.0),
        ([reply(), reply(text="four hundred four hundred and two")], 2, 0.5, 3.0),
        ([reply(), reply(error="truncated")], 2, 0.5, 3.0),
        ([reply(), reply()], 1, 0.5, 3.0),
        ([reply(), reply()], 2, 2.5, 3.0),
        ([reply(), reply()], 2, None, 3.0),
        ([reply(), reply()], 2, 0.5, None),
    ],
    ids=["failed", "doubled", "cut", "row missing", "masked late", "not masked", "not back"],
)
def test_a_fault_that_shows_does_not_hold(replies, num_rows, masked_s, back_s):
    """One thing amiss is enough."""
    assert not _judged("answers 500", Load(replies), rows(num_rows), masked_s, back_s).holds


def test_streams_that_had_begun_may_be_cut():
    """Until those cuts eject; they cannot be begun anew."""
    cut = [reply(error="truncated", is_stream=True)] * 3
    assert _judged("is cut mid-stream", Load(cut), rows(3), 0.5, 3.0).holds


@pytest.mark.parametrize(("num_calls", "holds"), [(44, True), (45, False)])
def test_under_total_failure_calls_are_held_against_the_budget(num_calls, holds):
    """Twenty requests in ten seconds, ten retries saved: 20 + 4 + 10 + 10 calls at most."""
    told = {"status": 503, "error": "upstream_failed", "retry_after": "2"}
    asked = [reply(n * 0.5, **told) for n in range(20)]
    assert _total_failure(asked, num_calls, 10.0, 10.0).holds is holds


def test_a_burst_needs_quick_refusals():
    """Slow ones, and failures of another kind, do not hold."""
    refused = {"status": 503, "error": "overloaded", "retry_after": "1"}
    good = [reply(took_s=1.1)] * 5
    assert _judged_burst([*good, reply(took_s=0.01, **refused)], 1.0, 0.0).holds
    assert not _judged_burst([*good, reply(took_s=0.2, **refused)], 1.0, 0.0).holds
    assert not _judged_burst([*good, reply(took_s=0.01, **refused)], 100.0, 0.0).holds
    failed = reply(status=500, error="internal_error")
    assert not _judged_burst([*good, reply(took_s=0.01, **refused), failed], 1.0, 0.0).holds


def test_a_watch_knows_when_a_candidate_was_masked():
    """The first look at which it was not available; no such look is None."""
    watch = Watch([(1.0, {"a": "available"}), (2.0, {"a": "ejected"}), (3.0, {"a": "available"})])
    assert watch.first("a", 0.0, available=False) == 2.0
    assert watch.first("a", 2.5, available=True) == 3.0
    assert watch.first("a", 2.5, available=False) is None


@pytest.mark.parametrize(
    ("text", "is_doubled"), [("417", False), ("417417", True), ("41", False), ("", False)]
)
def test_a_text_with_the_known_one_and_more_is_doubled(text, is_doubled):
    """Another text is told apart."""
    assert changes._is_doubled(reply(text=text), {("a", 0): "417"}) is is_doubled


def test_fewer_requests_than_asked_for_do_not_hold():
    """A short run proves the script, not the line."""
    sent = Load([reply(decision_id=str(n)) for n in range(3)])
    run = changes.Changes(model="m", sent=sent, begun_s=time.monotonic())
    found = changes._found(run, rows(3), {("a", 0): TEXT})
    assert [entry.holds for entry in changes.lines(found)] == [False, True, True, True]
    assert found["num_other_text"] == 0
    section = changes.section(found | {"elapsed_s": 1.0, "requests_per_s": 3.0})
    assert section.startswith("## Changes under load")


def test_drills_are_told_one_by_one():
    """An entry and a row each."""
    one = Drill(name="x", value=0, unit="failed", bar="0", holds=True, figures={"s at most": 1.5})
    result = stored([one])
    (entry,) = entries(result, "D4")
    assert (entry.line, entry.unit, entry.holds) == ("D4", "failed: x", True)
    assert "| x | 1.5 s at most |" in drill_table(result)
