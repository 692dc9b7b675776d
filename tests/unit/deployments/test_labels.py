"""Labels come one by one or in a batch, and a fault names its field."""

import json
import math
from datetime import UTC, datetime

import pytest

from deployments.labels import MAX_LABELS, parse_labels
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
