"""What a request may wish of its priority, session and deadline."""

import pytest

from deployments.protocol.routing import parse_routing
from router.errors import InvalidInputError


def test_wishes_are_read():
    """None of them is needed."""
    assert parse_routing(None).priority is None
    fields = parse_routing({"priority": "low", "session": "chat-7", "deadline_s": 2})
    assert (fields.priority, fields.session, fields.deadline_s) == ("low", "chat-7", 2.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("priority", "urgent"),
        ("priority", 1),
        ("session", ""),
        ("session", "x" * 257),
        ("deadline_s", 0),
        ("deadline_s", float("inf")),
    ],
)
def test_a_wish_out_of_bounds_is_refused(name, value):
    """The field is named."""
    with pytest.raises(InvalidInputError) as caught:
        parse_routing({name: value})
    assert caught.value.field == f"routing.{name}"
