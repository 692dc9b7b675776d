"""Labels come one by one or in a batch, and a fault names its field."""

import json
import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.recording.labels import MAX_LABELS, parse_labels, score_of_metrics
from router.errors import InvalidInputError

ONE = {"decision_id": "d1", "score": 0.5}


def parse(value):
    """Parse a JSON value."""
    return parse_labels(json.dumps(value).encode())


def test_a_single_label_needs_no_list():
    """Source is the user unless somebody else says so; the time is now, in UTC."""
    before = datetime.now(UTC)
    (label,) = parse(ONE)
    assert (label.decision_id, label.score) == ("d1", 0.5)
    assert (label.source, label.grader_version) == ("user", "")
    assert before <= label.time <= datetime.now(UTC)


def test_a_batch_keeps_its_order():
    """Each label has its own source and version."""
    labels = parse(
        {"labels": [ONE, {**ONE, "score": 1, "source": "exact_match", "grader_version": "2"}]}
    )
    assert [(one.score, one.source, one.grader_version) for one in labels] == [
        (0.5, "user", ""),
        (1.0, "exact_match", "2"),
    ]


FAULTS = [
    ({"score": 1.5}, "score"),
    ({"score": -0.1}, "score"),
    ({"score": None}, "score"),
    ({"decision_id": ""}, "decision_id"),
    ({"decision_id": "d" * 65}, "decision_id"),
    ({"decision_id": 7}, "decision_id"),
    ({"source": ""}, "source"),
    ({"grader_version": "v" * 65}, "grader_version"),
    ({"grade": 1}, "grade"),
]


@pytest.mark.parametrize(("change", "field"), FAULTS)
def test_a_fault_of_a_single_label_names_its_field(change, field):
    """As the caller wrote it, without the list that is not there."""
    with pytest.raises(InvalidInputError, match=f"^{field}: ") as caught:
        parse({**ONE, **change})
    assert caught.value.field == field


@pytest.mark.parametrize(("change", "field"), FAULTS)
def test_a_fault_in_a_batch_names_its_place(change, field):
    """The second label of two is ``labels.1``."""
    with pytest.raises(InvalidInputError) as caught:
        parse({"labels": [ONE, {**ONE, **change}]})
    assert caught.value.field == f"labels.1.{field}"


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"labels": []}, "labels"),
        ({"labels": [ONE] * (MAX_LABELS + 1)}, "labels"),
        ({"labels": ONE}, "labels"),
        ({"labels": [7]}, "labels.0"),
        ({"labels": [ONE], "score": 1}, "score"),
        ({"decision_id": "d1"}, "score"),
        ({}, "decision_id"),
    ],
)
def test_a_body_of_the_wrong_form_is_refused(value, field):
    """No label, too many, no list, both forms at once, a missing field."""
    with pytest.raises(InvalidInputError) as caught:
        parse(value)
    assert caught.value.field == field


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"decision_id": "d1", "score": NaN}', b"\xff"])
def test_what_is_no_json_object_is_refused(body):
    """A list, half an object, a number that JSON does not know, no text at all."""
    with pytest.raises(InvalidInputError):
        parse_labels(body)


def test_as_many_labels_as_allowed_are_taken():
    """The bound itself is within bounds."""
    labels = parse({"labels": [ONE] * MAX_LABELS})
    assert len(labels) == MAX_LABELS
    assert math.isclose(sum(one.score for one in labels), MAX_LABELS / 2)


METRICS = {"decision_id": "d1", "metrics": {"true": 1.0, "helpful": 0.5}}


def test_metrics_make_a_score():
    """Their mean, or by weights: (3 * 1 + 1 * 0.5) / 4; the metrics stay in the label."""
    (plain,) = parse(METRICS)
    assert plain.score == 0.75
    assert plain.metrics == {"true": 1.0, "helpful": 0.5}
    body = json.dumps(METRICS).encode()
    (weighed,) = parse_labels(body, metric_weights={"true": 3.0, "helpful": 1.0, "absent": 9.0})
    assert weighed.score == 0.875


def test_a_metric_without_a_weight_does_not_count():
    """It is kept beside the score."""
    (label,) = parse_labels(json.dumps(METRICS).encode(), metric_weights={"true": 2.0})
    assert (label.score, len(label.metrics)) == (1.0, 2)


def test_a_score_beside_metrics_is_the_score():
    """The caller weighed them."""
    (label,) = parse(METRICS | {"score": 0.1})
    assert (label.score, len(label.metrics)) == (0.1, 2)


def test_metrics_of_which_none_has_a_weight_are_refused():
    """The message names those that have one."""
    body = json.dumps({"labels": [ONE, METRICS]}).encode()
    with pytest.raises(InvalidInputError, match="send a score, or one of polite") as caught:
        parse_labels(body, metric_weights={"polite": 1.0})
    assert caught.value.field == "labels.1.metrics"


@given(
    st.dictionaries(st.sampled_from("abcd"), st.floats(0, 1), min_size=1),
    st.dictionaries(st.sampled_from("abcd"), st.floats(1e-3, 1e3), min_size=4),
)
def test_a_score_lies_between_its_metrics(metrics, weights):
    """A weighted mean."""
    score = score_of_metrics(metrics, weights)
    assert min(metrics.values()) - 1e-9 <= score <= max(metrics.values()) + 1e-9


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"metrics": {"true": 1.5}}, "metrics.true"),
        ({"metrics": {"": 1.0}}, "metrics."),
        ({"metrics": {str(n): 1.0 for n in range(33)}}, "metrics"),
        ({"metrics": [1.0]}, "metrics"),
        ({"source": ":judge"}, "source"),
        ({"time": "2026-03-01T12:00:00"}, "time"),
        ({"time": "yesterday"}, "time"),
        ({"time": "0001-01-01T00:00:00+14:00"}, "time"),
        ({"time": "2999-01-01T00:00:00Z"}, "time"),
    ],
    ids=str,
)
def test_faults_of_metrics_source_and_time_are_named(change, field):
    """A time needs its zone, and lies neither in the future nor before anybody labelled."""
    with pytest.raises(InvalidInputError) as caught:
        parse(ONE | change)
    assert caught.value.field.startswith(field)


def test_a_label_may_say_when_it_was_given():
    """In any zone; stored in UTC. A clock a little ahead is forgiven."""
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    body = json.dumps(ONE | {"time": "2026-03-01T14:01:00+02:00"}).encode()
    (label,) = parse_labels(body, now=now)
    assert label.time == now + timedelta(minutes=1)
    assert label.time.tzinfo is UTC
