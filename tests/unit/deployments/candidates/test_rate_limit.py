"""Headers say for how long an endpoint is to be left alone, in whichever spelling."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.candidates.rate_limit import DEFAULT_REST_S, MAX_REST_S, rest_s

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def rest(status=200, **headers):
    """Return the rest that some headers ask for."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return rest_s(named, status=status, now=NOW)


@pytest.mark.parametrize(
    ("text", "expected_s"),
    [
        ("12", 12.0),
        ("0.5", 0.5),
        (" 3 ", 3.0),
        ("1s", 1.0),
        ("20ms", 0.02),
        ("1m30s", 90.0),
        ("1m0.5s", 60.5),
        ("0h2m0s", 120.0),
        (format_datetime(NOW + timedelta(seconds=40), usegmt=True), 40.0),
        ((NOW + timedelta(seconds=41)).isoformat(), 41.0),
        ("2026-03-01T12:00:42", 42.0),
        ((NOW - timedelta(days=1)).isoformat(), DEFAULT_REST_S),
        ("-5", DEFAULT_REST_S),
        ("0", DEFAULT_REST_S),
        ("soon", DEFAULT_REST_S),
        ("", DEFAULT_REST_S),
        ("nan", DEFAULT_REST_S),
        ("1h", MAX_REST_S),
        ("9" * 400, DEFAULT_REST_S),
    ],
)
def test_retry_after_is_read_in_every_spelling(text, expected_s):
    """Seconds, a span, a date; what says nothing of use is the least rest, and there is a most."""
    assert rest(429, retry_after=text) == pytest.approx(expected_s)


def test_milliseconds_are_finer():
    """Where both are there they count."""
    assert rest(429, retry_after_ms="250", retry_after="1") == 0.25


@pytest.mark.parametrize("status", [200, 400, 401, 500, 502])
def test_retry_after_counts_with_the_statuses_that_mean_full(status):
    """With others it speaks of something else."""
    assert rest(status, retry_after="30") == 0.0


def test_an_overloaded_endpoint_rests_only_if_it_says_for_how_long():
    """A 503 may be one broken machine of many."""
    assert rest(503, retry_after="7") == 7.0
    assert rest(503) == 0.0
    assert rest(429) == DEFAULT_REST_S


def test_an_allowance_that_is_used_up_is_waited_for():
    """After a good answer too; of several the latest."""
    assert rest(x_ratelimit_remaining_requests="0", x_ratelimit_reset_requests="6s") == 6.0
    assert rest(x_ratelimit_remaining_requests="1", x_ratelimit_reset_requests="6s") == 0.0
    assert rest(x_ratelimit_remaining_tokens="-3", x_ratelimit_reset_tokens="2m") == 120.0
    assert rest(x_ratelimit_remaining_tokens="0") == DEFAULT_REST_S
    assert (
        rest(
            429,
            x_ratelimit_remaining_requests="0",
            x_ratelimit_reset_requests="6s",
            x_ratelimit_remaining_tokens="0",
            x_ratelimit_reset_tokens="9s",
            retry_after="2",
        )
        == 9.0
    )


NAMES = [
    "retry-after",
    "retry-after-ms",
    *(f"x-ratelimit-{a}-{b}" for a in ("remaining", "reset") for b in ("requests", "tokens")),
]


@given(
    st.dictionaries(st.sampled_from(NAMES), st.text() | st.from_regex(r"-?\d{1,6}(ms|s|m|h)?")),
    st.integers(100, 599),
)
def test_no_header_breaks_the_reading(headers, status):
    """Whatever stands there, the rest is a number from 0 to the most."""
    assert 0.0 <= rest_s(headers, status=status, now=NOW) <= MAX_REST_S
