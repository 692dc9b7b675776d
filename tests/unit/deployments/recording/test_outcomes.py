"""The recorder writes what it took, and finds it again."""

import asyncio
import dataclasses
import json
import sys
import time
import tracemalloc
from datetime import UTC, datetime

import numpy as np
import pytest

from deployments.exchange import Exchange
from deployments.protocol import parse_chat_request
from deployments.recording.outcomes import OutcomeRecorder, _receipt
from monitoring.outcome import LABEL_SCHEMA, OUTCOME_SCHEMA, Label, Status, Usage
from monitoring.outcome_log import read_table
from monitoring.spool import read_spool_file
from router.records import Decision, Pool, Refusal, Routing

FEATURES_F = np.array([0.5, -1.0], dtype=np.float32)
NAN = float("nan")
ROUTED = Decision(
    decision_id="d1",
    router_version="7",
    feature_schema_hash="f" * 64,
    candidate_ids=("small", "new"),
    refusals=(None, Refusal.NO_PROFILE),
    quality_means=(0.5, NAN),
    quality_stds=(0.25, NAN),
    costs_usd=(0.001, NAN),
    latencies_s=(1.0, NAN),
    utilities=(0.5, NAN),
    choice="small",
    features_F=FEATURES_F,
)
PINNED = dataclasses.replace(ROUTED, decision_id="d2", feature_schema_hash="", features_F=None)


def exchange():
    """Return a finished request."""
    body = {"model": "auto", "messages": [{"role": "user", "content": "What colour?"}]}
    now_s = time.monotonic()
    return Exchange(
        call=parse_chat_request(json.dumps(body).encode()),
        routing=Routing(),
        pool=Pool(seen_at_s=now_s),
        arrived_s=now_s,
    )


async def features(question):
    """Compute the features of a question, as the router deployment does."""
    assert question.text == "What colour?"
    return "e" * 64, FEATURES_F


async def no_features(question):
    """Fail as a router that is restarting does."""
    raise ConnectionError(question.text)


def recorder(root, source=features):
    """Return a recorder that writes when told to."""
    return OutcomeRecorder(root, flush_s=60.0, features=source)


async def written(one, root):
    """Wait for pending rows, write them, and return the log."""
    for task in list(one._pending.values()):
        await task
    one._outcomes.flush()
    return read_table(root, "outcomes").to_pylist()


async def test_the_latest_receipts_come_last_first(tmp_path):
    """As many as there are, or as are asked for."""
    one = recorder(tmp_path, no_features)
    assert json.loads(one.latest(5)) == []
    for number in range(3):
        decision = dataclasses.replace(ROUTED, decision_id=f"d{number}")
        one.add_outcome(exchange(), Status.OK, decision)
    assert [row["decision_id"] for row in json.loads(one.latest(2))] == ["d2", "d1"]
    rows = json.loads(one.latest(5))
    assert [row["decision_id"] for row in rows] == ["d2", "d1", "d0"]
    assert rows[0]["quality_means"] == [0.5, None]
    assert "features" not in rows[0]


async def test_a_routed_outcome_is_written_as_it_is(tmp_path):
    """Its features came with the decision."""
    one = recorder(tmp_path, no_features)
    one.add_outcome(exchange(), Status.OK, ROUTED)
    (row,) = await written(one, tmp_path)
    assert (row["decision_id"], row["features"]) == ("d1", [0.5, -1.0])
    assert one.counts() == {
        "written": 1, "labels_written": 0, "dropped": 0, "without_features": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("error", "num_tokens", "num_written"), [("half \ud800 a pair", 7, 1), (None, 2**70, 0)]
)
async def test_what_an_endpoint_says_breaks_no_receipt(tmp_path, error, num_tokens, num_written):
    """Texts are made sound; a number that no column holds is told, and its row is counted."""
    one, asked = recorder(tmp_path, no_features), exchange()
    asked.log.add("small", asked.arrived_s, error)
    asked.usage = Usage(input_tokens=num_tokens, output_tokens=1, cost_usd=0.0)
    one.add_outcome(asked, Status.OK, ROUTED)
    receipt = one.find("d1")
    assert receipt["input_tokens"] == num_tokens
    assert receipt["attempts"][0]["error"] == (error and "half ? a pair")
    assert len(await written(one, tmp_path)) == num_written
    assert one.counts()["dropped"] == 1 - num_written


async def test_a_pinned_outcome_gets_its_features_later(tmp_path):
    """Learning needs them, though the decision read none."""
    one = recorder(tmp_path)
    one.add_outcome(exchange(), Status.OK, PINNED)
    (row,) = await written(one, tmp_path)
    assert (row["feature_schema_hash"], row["features"]) == ("e" * 64, [0.5, -1.0])


async def test_an_outcome_without_features_is_still_an_outcome(tmp_path):
    """It is counted, and its schema hash is empty, so that no one learns from it."""
    one = recorder(tmp_path, no_features)
    one.add_outcome(exchange(), Status.OK, PINNED)
    (row,) = await written(one, tmp_path)
    assert (row["feature_schema_hash"], row["features"]) == ("", None)
    assert one.counts()["without_features"] == 1


async def test_two_recorders_of_one_process_number_keep_their_rows(tmp_path):
    """A container that restarts has its old host name and process number on the same day."""
    for number in (1, 2):
        one = recorder(tmp_path)
        one.add_outcome(
            exchange(), Status.OK, dataclasses.replace(ROUTED, decision_id=f"d{number}")
        )
        rows = await written(one, tmp_path)
    assert sorted(row["decision_id"] for row in rows) == ["d1", "d2"]


async def test_a_receipt_is_found_at_hand_and_in_the_log(tmp_path):
    """As JSON can say it: NaN is null, the time is text, the features stay out."""
    one = recorder(tmp_path)
    one.add_outcome(exchange(), Status.OK, ROUTED)
    at_hand = one.find("d1")
    await written(one, tmp_path)
    in_log = recorder(tmp_path).find("d1")
    for receipt in (at_hand, in_log):
        assert json.loads(json.dumps(receipt, allow_nan=False))["quality_means"] == [0.5, None]
        assert "features" not in receipt
        assert receipt["refusals"] == [None, "no_profile"]
    assert one.knows("d1")
    assert not one.knows("d9")


def test_a_receipt_takes_no_more_memory_than_its_text():
    """Twenty thousand are kept: nothing of the buffer that they were written into may stay."""
    row = exchange().outcome(Status.OK, ROUTED).row()
    row.pop("features")
    tracemalloc.start()
    try:
        receipts = [_receipt(row) for _ in range(100)]
        num_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert num_bytes < 1.1 * sum(map(sys.getsizeof, receipts))


def label(decision_id):
    """Return a label of a decision."""
    return Label(time=datetime.now(UTC), decision_id=decision_id, score=0.5, source="user")


def spooled(root, table, schema):
    """Return the decisions whose rows would survive a kill of the process now."""
    paths = (root / ".spool" / table).rglob("*.spool")
    tables = [read_spool_file(path, schema).table for path in paths]
    return [name for found in tables for name in found["decision_id"].to_pylist()]


@pytest.mark.parametrize("decision", [ROUTED, PINNED], ids=["routed", "pinned"])
async def test_a_label_does_not_outlive_its_outcome(tmp_path, decision):
    """Killed once the label is acknowledged, or before, the label has its outcome beside it."""
    computed = asyncio.Event()

    async def late(question):
        await computed.wait()
        return await features(question)

    one = recorder(tmp_path, late)
    one.add_outcome(exchange(), Status.OK, decision)
    adding = asyncio.create_task(one.add_labels([label(decision.decision_id)]))
    if decision is PINNED:
        await asyncio.sleep(0.05)
        assert spooled(tmp_path, "labels", LABEL_SCHEMA) == []
    computed.set()
    await adding
    for table, schema in (("outcomes", OUTCOME_SCHEMA), ("labels", LABEL_SCHEMA)):
        assert spooled(tmp_path, table, schema) == [decision.decision_id]


async def test_a_label_is_refused_while_its_outcome_cannot_be_kept(tmp_path):
    """The disk takes no outcomes: the caller is told, and may try again."""
    one = recorder(tmp_path)
    obstacle = tmp_path / ".spool" / "outcomes"
    obstacle.parent.mkdir()
    obstacle.write_text("a file where the folder should be")
    one.add_outcome(exchange(), Status.OK, ROUTED)
    with pytest.raises(OSError, match="outcomes"):
        await one.add_labels([label("d1")])
    assert spooled(tmp_path, "labels", LABEL_SCHEMA) == []
    obstacle.unlink()
    await one.add_labels([label("d1")])
    assert spooled(tmp_path, "outcomes", OUTCOME_SCHEMA) == ["d1"]


UNPREDICTED = dataclasses.replace(
    PINNED, quality_means=(), quality_stds=(), costs_usd=(), latencies_s=(), utilities=()
)


@pytest.mark.parametrize("decision", [ROUTED, UNPREDICTED], ids=["routed", "pinned"])
def test_a_decision_is_described_by_candidate(decision):
    """A row each, with its refusal; figures where a router predicted some."""
    described = OutcomeRecorder.describe(decision)
    json.dumps(described, allow_nan=False)
    first, second = described["candidates"]
    assert (first["id"], first["refusal"]) == ("small", None)
    assert (second["id"], second["refusal"]) == ("new", "no_profile")
    assert first.get("quality") == (0.5 if decision.quality_means else None)
    assert second.get("quality") is None
