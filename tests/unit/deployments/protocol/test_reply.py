"""Answers carry the receipt of their decision."""

from dataclasses import replace

from deployments.protocol import Receipt, annotate, models_list, response_headers
from router.candidate import Candidate, Price

RECEIPT = Receipt(
    decision_id="d1",
    candidate_id="small",
    router_version="7",
    predicted_quality=0.71234,
    policy="greedy",
)


def test_a_completion_gains_the_receipt_and_loses_nothing():
    """The answer stays as it was, beside ``pointsman``; the original is not touched."""
    response = {"id": "x", "choices": []}
    assert annotate(response, RECEIPT) == {
        "id": "x",
        "choices": [],
        "pointsman": {
            "decision_id": "d1",
            "candidate": "small",
            "router_version": "7",
            "predicted_quality": 0.71234,
            "policy": "greedy",
        },
    }
    assert response == {"id": "x", "choices": []}


def test_headers_state_the_receipt():
    """Four headers, quality with four digits."""
    assert response_headers(RECEIPT) == {
        "x-pointsman-decision-id": "d1",
        "x-pointsman-candidate": "small",
        "x-pointsman-router-version": "7",
        "x-pointsman-predicted-quality": "0.7123",
    }


def test_no_prediction_no_header():
    """A pinned answer has no predicted quality to state."""
    headers = response_headers(replace(RECEIPT, predicted_quality=None))
    assert "x-pointsman-predicted-quality" not in headers


def test_headers_cannot_be_split():
    """A name with a line break or a letter beyond ASCII is escaped."""
    headers = response_headers(replace(RECEIPT, candidate_id="a\r\nset-cookie: ü"))
    assert headers["x-pointsman-candidate"] == "a%0D%0Aset-cookie: %C3%BC"


def test_auto_leads_the_models():
    """``auto`` comes first, then the pool in its order with its prices."""
    price = Price(input_usd_per_mtok=0.1, output_usd_per_mtok=0.4)
    listed = models_list([Candidate(id="b", price=price), Candidate(id="a", price=price)], 5)
    assert listed["object"] == "list"
    assert [entry["id"] for entry in listed["data"]] == ["auto", "b", "a"]
    assert listed["data"][0] == {
        "id": "auto",
        "object": "model",
        "created": 5,
        "owned_by": "pointsman",
    }
    assert listed["data"][1]["pointsman"]["output_usd_per_mtok"] == 0.4
