"""Errors leave in OpenAI's form, and tell a stranger nothing of the inside."""

import pickle

import pytest

from deployments.attempts import AllFailedError
from deployments.protocol import error_reply
from router.errors import (
    ArtifactError,
    BadImageError,
    CandidateReplyError,
    ImageUnreachableError,
    InvalidInputError,
    NoCandidateError,
    RequestTooLargeError,
    UnknownModelError,
)


@pytest.mark.parametrize(
    ("error", "status", "param", "code"),
    [
        (InvalidInputError("no", "messages.0.role"), 400, "messages.0.role", "invalid_value"),
        (InvalidInputError("no"), 400, None, "invalid_value"),
        (BadImageError("no", "messages.0"), 400, "messages.0", "invalid_image"),
        (ImageUnreachableError("no", "messages.0"), 400, "messages.0", "image_unreachable"),
        (RequestTooLargeError("no"), 413, None, "request_too_large"),
        (UnknownModelError("gpt"), 404, "model", "model_not_found"),
    ],
)
def test_a_callers_error_names_its_field(error, status, param, code):
    """Status, param and code follow the class; the message is the error's own."""
    reply = error_reply(error)
    assert (reply.status, reply.headers) == (status, {})
    told = {"message": str(error), "type": "invalid_request_error", "param": param, "code": code}
    assert reply.body == {"error": told}


def test_no_candidate_says_when_to_ask_again():
    """The refusals are listed, and the wait is rounded up to whole seconds."""
    reply = error_reply(NoCandidateError({"small": "ejected"}, retry_after_s=2.1))
    assert (reply.status, reply.headers) == (503, {"retry-after": "3"})
    assert reply.body["error"]["code"] == "no_candidate_available"
    assert reply.body["error"]["refusals"] == {"small": "ejected"}
    assert "small: ejected" in reply.body["error"]["message"]


def test_failed_attempts_are_worth_another_try():
    """What the candidates said stays in the log."""
    reply = error_reply(AllFailedError("no candidate answered (10.0.0.3: broken)"))
    assert (reply.status, reply.headers) == (503, {"retry-after": "2"})
    assert reply.body["error"]["code"] == "upstream_failed"
    assert "10.0.0.3" not in reply.body["error"]["message"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (CandidateReplyError("10.0.0.3 said x"), 502),
        (ArtifactError("/srv/x"), 500),
        (KeyError("x"), 500),
    ],
)
def test_our_own_failures_keep_their_text(error, status):
    """What went wrong inside is told as a fact, without its words."""
    reply = error_reply(error)
    assert reply.status == status
    assert str(error) not in reply.body["error"]["message"]
    assert reply.body["error"]["type"] == "server_error"


@pytest.mark.parametrize(
    "error",
    [
        UnknownModelError("gpt"),
        ImageUnreachableError("no", "messages.0"),
        RequestTooLargeError("no"),
        CandidateReplyError("no"),
    ],
)
def test_errors_survive_pickling(error):
    """An error that crosses an actor keeps its class, text and attributes."""
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
