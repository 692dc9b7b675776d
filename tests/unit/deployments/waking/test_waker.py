"""The shell around `Wake` counts what decisions lost and tells refused users when to come back."""

import json

import pytest

from deployments.exchange import Exchange
from deployments.pool.pool import PoolWatcher
from deployments.protocol import parse_chat_request
from deployments.settings import RouterSettings
from deployments.waking.waker import Waker
from router.candidate import Candidate, Price
from router.errors import NoCandidateError
from router.records import Capacity, Pool, Refusal, Routing, Standing

PRICE = Price(input_usd_per_mtok=1.0, output_usd_per_mtok=1.0)
POOL = Pool(
    standings=tuple(
        Standing(
            candidate=Candidate(id=name, price=PRICE),
            refusal=Refusal.COLD,
            capacity=Capacity(start_s=start_s, max_replicas=1),
        )
        for name, start_s in (("slow", 90.0), ("soon", 20.0))
    )
)


class RaisedElsewhereError(NoCandidateError):
    """An error as Ray hands it on: of a class that takes other arguments."""

    def __init__(self):
        """Take none."""
        super().__init__({"slow": "cold", "soon": "cold"})


@pytest.fixture
def waker(tmp_path):
    """Return a waker that calls nobody."""
    settings = RouterSettings(registry_uri="none", outcome_log=str(tmp_path), encoders=tmp_path)
    return Waker(PoolWatcher("http://127.0.0.1:1"), settings)


def exchange(model="auto"):
    """Return a request."""
    body = {"model": model, "messages": [{"role": "user", "content": "What?"}]}
    call = parse_chat_request(json.dumps(body).encode())
    return Exchange(call=call, routing=Routing(), pool=POOL, arrived_s=0.0)


def test_whoever_starts_soonest_is_waited_for(waker):
    """Whatever class the error came as."""
    told = waker.note_refused(exchange(), RaisedElsewhereError())
    assert type(told) is NoCandidateError
    assert told.retry_after_s == 20.0
    assert list(waker.status()) == ["soon"]


def test_a_pin_wakes_nobody_else(waker):
    """The pinned one starts later, and another is of no use to that user."""
    told = waker.note_refused(exchange("slow"), RaisedElsewhereError())
    assert told.retry_after_s == 90.0
    assert list(waker.status()) == ["slow"]


def test_one_that_starts_already_is_waited_for(waker):
    """It takes what is left of its start, and needs no nudge."""
    error = NoCandidateError({"slow": "starting", "soon": "denied"})
    assert waker.note_refused(exchange(), error).retry_after_s == 90.0
    assert waker.note_refused(exchange("soon"), error) is error
    assert waker.status() == {}


def test_where_nothing_is_cold_nothing_is_woken(waker):
    """The error stays as it is."""
    error = NoCandidateError({"slow": "denied", "soon": "denied"})
    assert waker.note_refused(exchange(), error) is error
    assert waker.status() == {}
