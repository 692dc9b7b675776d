"""One request leaves a receipt for its user and a row for the log, and both agree."""

import json
import time

import pytest

from deployments.exchange import Exchange, query_sha256
from deployments.protocol import parse_chat_request
from monitoring.outcome import Status
from router.candidate import Candidate, Price
from router.features.picture import PictureLimits, decode_picture
from router.records import Decision, Policy, Pool, Refusal, Routing, Standing

BODY = {
    "model": "auto",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What colour?"},
    ],
    "max_tokens": 8,
}
PIXEL = bytes.fromhex(  # a PNG of one pixel
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
)
DECISION = Decision(
    decision_id="d1",
    router_version="7",
    feature_schema_hash="f" * 64,
    candidate_ids=("small", "large"),
    refusals=(None, None),
    quality_means=(0.25, 0.75),
    choice="large",
    policy=Policy.GREEDY,
)


def standing(name, price):
    """Return a standing with its price for input and four times that for output."""
    priced = Price(input_usd_per_mtok=price, output_usd_per_mtok=4 * price)
    return Standing(candidate=Candidate(id=name, price=priced), num_running=1)


@pytest.fixture
def exchange():
    """Return a request that arrived 2 s ago, when the pool was 0.5 s old."""
    arrived_s = time.monotonic() - 2.0
    return Exchange(
        call=parse_chat_request(json.dumps(BODY).encode()),
        routing=Routing(cost_weight=0.5),
        pool=Pool(
            standings=(standing("small", 1.0), standing("large", 10.0)), seen_at_s=arrived_s - 0.5
        ),
        arrived_s=arrived_s,
        decision=DECISION,
    )


def test_the_cost_is_the_tokens_of_who_answered(exchange):
    """Small answers for large: (100 * 1 + 10 * 4) / 1e6 = 0.00014 USD, not ten times that."""
    exchange.note_answer("small")
    exchange.note_usage({"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110})
    assert exchange.usage.cost_usd == pytest.approx(0.00014)
    assert (exchange.usage.input_tokens, exchange.usage.output_tokens) == (100, 10)


@pytest.mark.parametrize("usage", [None, {}])
def test_an_answer_that_reports_no_usage_has_none(exchange, usage):
    """Not zero tokens: nobody knows."""
    exchange.note_answer("small")
    exchange.note_usage(usage)
    assert exchange.usage is None


def test_half_a_usage_counts_what_it_tells(exchange):
    """A null beside a number is no token."""
    exchange.note_answer("small")
    exchange.note_usage({"prompt_tokens": 100, "completion_tokens": None})
    assert (exchange.usage.input_tokens, exchange.usage.output_tokens) == (100, 0)


def test_usage_without_an_answer_is_nobodys(exchange):
    """There is no price to count it at."""
    exchange.note_usage({"prompt_tokens": 100})
    exchange.note_answer("stranger")
    exchange.note_usage({"prompt_tokens": 100})
    assert exchange.usage is None


def test_a_receipt_states_the_choice(exchange):
    """Before an answer and after the chosen one's."""
    for _ in range(2):
        receipt = exchange.receipt()
        assert (receipt.candidate_id, receipt.predicted_quality) == ("large", 0.75)
        assert (receipt.policy, receipt.router_version) == ("greedy", "7")
        exchange.note_answer("large")


def test_a_receipt_states_who_answered_instead(exchange):
    """Quality is the one predicted of that candidate, and the policy says fallback."""
    exchange.note_answer("small")
    receipt = exchange.receipt()
    assert (receipt.candidate_id, receipt.predicted_quality) == ("small", 0.25)
    assert receipt.policy == "fallback"


def test_a_receipt_without_a_router_predicts_nothing(exchange):
    """A pinned decision has no quality to state."""
    exchange.decision = Decision(
        decision_id="d1",
        router_version="",
        feature_schema_hash="",
        candidate_ids=("small", "large"),
        refusals=(None, Refusal.COLD),
        choice="small",
        policy=Policy.PINNED,
    )
    assert exchange.receipt().predicted_quality is None
    assert exchange.receipt().policy == "pinned"


def test_there_is_no_receipt_before_the_decision(exchange):
    """Nothing was decided, so nothing can be told."""
    exchange.decision = None
    with pytest.raises(ValueError, match="no decision yet"):
        exchange.receipt()


def test_the_outcome_gathers_all(exchange):
    """Who failed, who answered, what it took; times run from the arrival."""
    exchange.log.add("large", exchange.arrived_s + 0.5, "it went away")
    exchange.log.add("small", exchange.arrived_s + 1.0)
    exchange.note_answer("small")
    exchange.note_usage({"prompt_tokens": 100, "completion_tokens": 10})
    row = exchange.outcome(Status.OK, DECISION).row()
    assert [(a["candidate_id"], a["error"]) for a in row["attempts"]] == [
        ("large", "it went away"),
        ("small", None),
    ]
    assert row["attempts"][0]["started_s"] == pytest.approx(0.5)
    assert row["attempts"][0]["duration_s"] >= 1.5
    assert (row["choice"], row["answered_by"], row["status"]) == ("large", "small", "ok")
    assert row["pool_age_s"] == pytest.approx(0.5)
    assert row["latency_s"] >= row["time_to_first_token_s"] >= 2.0
    assert (row["num_chars"], row["num_images"]) == (len("Be brief.What colour?"), 0)
    assert row["cost_weight"] == 0.5
    assert row["cost_usd"] == pytest.approx(0.00014)


def test_no_word_of_the_user_is_in_the_row(exchange):
    """The query's hash stands for it."""
    row = exchange.outcome(Status.OK, DECISION).row()
    assert "colour" not in repr(row)
    assert row["query_sha256"] == query_sha256("What colour?", ())


def test_the_hash_tells_queries_apart():
    """Text, pictures and their order count; what a user cannot encode has a hash too."""
    red = decode_picture(PIXEL, limits=PictureLimits())
    other = decode_picture(PIXEL + b"\x00", limits=PictureLimits())
    queries = [("a", ()), ("b", ()), ("a", (red,)), ("a", (red, other)), ("a", (other, red))]
    assert len({query_sha256(*query) for query in [*queries, ("\ud800", ())]}) == 6
    assert query_sha256("a", (red,)) == query_sha256("a", (red,))
