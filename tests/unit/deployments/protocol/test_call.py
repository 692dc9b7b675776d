"""A chat completion is read as OpenAI means it, and sent on without the user's URLs."""

import base64
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.protocol import ChatCall, ImageRef, parse_chat_request
from deployments.protocol.call import ENGINE_FIELDS
from router.errors import InvalidInputError
from router.features.picture import EncodedPicture, Picture
from router.records import QueryShape, Routing

IMAGE_URL = "https://example.com/cat.png?token=secret"


def ask(**fields):
    """Parse a request with these fields over a minimal one."""
    body = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}], **fields}
    return parse_chat_request(json.dumps(body).encode())


def ask_parts(*parts):
    """Parse a request of one user message with these parts."""
    return ask(messages=[{"role": "user", "content": list(parts)}])


def image(**more):
    """Return an image part."""
    return {"type": "image_url", "image_url": {"url": IMAGE_URL, **more}}


def picture(data):
    """Return a picture with these bytes."""
    thumbnail = np.zeros((1, 1, 3), dtype=np.uint8)
    return Picture(
        sha256="0", media_type="image/png", data=data, width=1, height=1, thumbnail=thumbnail
    )


CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [image(detail="low"), {"type": "text", "text": "What?"}]},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "1", "content": "12"},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "And"},
            image(),
            {"type": "text", "text": "this?"},
        ],
    },
]


def test_the_last_user_message_is_the_question():
    """The features see the last user text, its parts on lines of their own."""
    assert ask(messages=CONVERSATION).question_text == "And\nthis?"


def test_images_keep_their_order_and_path():
    """Every image of every message is listed with the path that leads to it."""
    assert ask(messages=CONVERSATION).image_refs == (
        ImageRef(IMAGE_URL, "messages.1.content.0.image_url.url"),
        ImageRef(IMAGE_URL, "messages.4.content.1.image_url.url"),
    )


def test_the_shape_counts_all_text():
    """9 + 5 + 59 of the tool call as JSON + 2 + 3 + 5 characters, and 16 of the tools."""
    call = ask(messages=CONVERSATION, tools=[{"a": "bcdef"}], max_tokens=7)
    assert call.shape == QueryShape(num_chars=83 + 16, num_images=2, max_output_tokens=7)


def test_candidates_get_bytes_and_never_the_url():
    """Images become data URLs of the fetched bytes; detail and text stay."""
    call = ask(messages=CONVERSATION)
    body = call.candidate_body([picture(b"one"), picture(b"two")], "small")
    assert "example.com" not in json.dumps(body)
    first = body["messages"][1]["content"][0]["image_url"]
    assert first["detail"] == "low"
    assert first["url"] == f"data:image/png;base64,{base64.b64encode(b'one').decode()}"
    assert body["messages"][4]["content"][2] == {"type": "text", "text": "this?"}


def test_the_request_survives_its_copies():
    """A second candidate gets the same body as the first; a fallback starts afresh."""
    call = ask(messages=CONVERSATION, stream=True)
    bodies = [call.candidate_body([picture(b"1"), picture(b"2")], "a") for _ in range(2)]
    assert bodies[0] == bodies[1]


def test_a_missing_picture_is_a_programming_error():
    """A body is never sent with fewer pictures than images."""
    with pytest.raises(ValueError, match="2 images, 1 pictures"):
        ask(messages=CONVERSATION).candidate_body([picture(b"1")], "a")


def test_sampling_and_unknown_fields_pass_through():
    """All but model, routing and stream goes to the candidate unchanged."""
    fields = {"temperature": 0.3, "seed": 5, "n": 2, "response_format": {"type": "text"}, "x": [1]}
    body = ask(routing={"cost_weight": 1}, **fields).candidate_body([], "small")
    assert "routing" not in body
    assert body.items() >= fields.items()
    assert (body["model"], body["stream"]) == ("small", False)


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False, "x": 1}])
def test_a_stream_always_asks_the_candidate_for_usage(options):
    """Usage is asked for whatever the user says; what the user says is kept apart."""
    call = ask(stream=True, stream_options=options)
    assert not call.include_usage
    assert call.candidate_body([], "a")["stream_options"]["include_usage"] is True


def test_usage_is_for_who_asks():
    """The user's wish for usage is read."""
    assert ask(stream=True, stream_options={"include_usage": True}).include_usage


def test_null_means_absent():
    """A client that writes out its defaults as null is understood."""
    call = ask(stream=None, stream_options=None, routing=None, n=None, max_tokens=None, tools=None)
    assert (call.stream, call.num_choices, call.shape.max_output_tokens) == (False, 1, None)
    assert "stream_options" not in call.candidate_body([], "a")


def test_the_newer_cap_on_tokens_wins():
    """``max_completion_tokens`` goes before ``max_tokens``."""
    assert ask(max_tokens=5, max_completion_tokens=9).shape.max_output_tokens == 9


def test_auto_routes_and_ids_pin():
    """Any model but ``auto`` pins the request."""
    assert not ask().is_pinned
    assert ask(model="small").is_pinned


def test_requests_do_not_print_what_users_say():
    """Neither text nor URL shows in the representation that ends in logs."""
    shown = repr(ask(messages=CONVERSATION))
    assert "this?" not in shown
    assert "secret" not in shown


@pytest.mark.parametrize(
    ("fields", "field", "told"),
    [
        ({"model": None}, "model", "must be a string, got null; send auto"),
        ({"model": ""}, "model", "empty"),
        ({"messages": None}, "messages", "must be an array, got null"),
        ({"messages": []}, "messages", "at least one"),
        ({"messages": ["Hi"]}, "messages.0", "must be an object, got a string"),
        ({"messages": [{"content": "Hi"}]}, "messages.0.role", "send one of system"),
        ({"messages": [{"role": "me", "content": ""}]}, "messages.0.role", "'me'"),
        ({"messages": [{"role": "user"}]}, "messages.0.content", "got null"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages.0.content", "an integer"),
        ({"messages": [{"role": "user", "content": []}]}, "messages.0.content", "empty"),
        ({"stream": "yes"}, "stream", "must be true or false, got a string"),
        ({"stream_options": {}}, "stream_options", "set stream to true"),
        ({"n": True}, "n", "must be an integer, got true or false"),
        ({"n": 0}, "n", "1 to 128, got 0"),
        ({"max_tokens": 1.5}, "max_tokens", "got a number"),
        ({"max_tokens": 10**400}, "max_tokens", "1 to 10000000"),
        ({"routing": {"cost": 1}}, "routing.cost", "unknown key; use one of cost_weight"),
        ({"routing": 3}, "routing", "send an object"),
        ({"routing": {"cost_weight": -1}}, "routing.cost_weight", "greater than or equal to 0"),
        ({"routing": {"cost_weight": "1"}}, "routing.cost_weight", "got '1'"),
        ({"routing": {"max_cost_usd": 0}}, "routing.max_cost_usd", "greater than 0"),
        ({"routing": {"max_latency_s": True}}, "routing.max_latency_s", "got True"),
        ({"routing": {"max_quality_drop": 1.5}}, "routing.max_quality_drop", "equal to 1"),
        ({"routing": {"max_quality_drop": -0.1}}, "routing.max_quality_drop", "equal to 0"),
        ({"routing": {"confidence": 1}}, "routing.confidence", "less than 1"),
        ({"routing": {"confidence": 0}}, "routing.confidence", "greater than 0"),
        ({"routing": {"caution": -1}}, "routing.caution", "greater than or equal to 0"),
        ({"routing": {"caution": 1001}}, "routing.caution", "less than or equal to 1000"),
        ({"routing": {"allow": []}}, "routing.allow", "at least 1"),
        ({"routing": {"deny": ["a", 1]}}, "routing.deny.1", "got 1"),
        ({"routing": {"explore": 1}}, "routing.explore", "valid boolean"),
    ],
)
def test_wrong_fields_are_named_with_the_remedy(fields, field, told):
    """The error carries the path of the field and says what to send."""
    with pytest.raises(InvalidInputError, match=told) as caught:
        ask(**fields)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ("Hi", ""),
        ({}, ".type"),
        ({"type": "input_audio", "input_audio": {}}, ".type"),
        ({"type": "video_url", "video_url": {"url": "x"}}, ".type"),
        ({"type": "file", "file": {}}, ".type"),
        ({"type": "text"}, ".text"),
        ({"type": "text", "text": "x", "image_url": IMAGE_URL}, ".image_url"),
        ({"type": "image_url", "image_url": IMAGE_URL}, ".image_url"),
        ({"type": "image_url", "image_url": {}}, ".image_url.url"),
        ({**image(), "uuid": "shared"}, ".uuid"),
        (image(detail=1), ".image_url.detail"),
        (image(format="png"), ".image_url.format"),
    ],
)
def test_wrong_parts_are_named(part, field):
    """Only text and images are read, and a part has no key that an engine might read besides."""
    with pytest.raises(InvalidInputError) as caught:
        ask_parts(part)
    assert caught.value.field == f"messages.0.content.0{field}"


@pytest.mark.parametrize("name", sorted(ENGINE_FIELDS))
def test_engine_fields_are_not_the_users(name):
    """What would steer the engine is refused by name."""
    with pytest.raises(InvalidInputError, match="remove it") as caught:
        ask(**{name: {"remote_host": "10.0.0.1"}})
    assert caught.value.field == name
    assert ask(**{name: None})


def test_wishes_fill_up_with_the_servers_defaults():
    """What a request leaves out is the server's; what it states is its own."""
    defaults = Routing(cost_weight=0.5, latency_weight=0.1, deny=("old",), explore_share=0.2)
    call = ask(routing={"cost_weight": 0, "allow": ["a"], "explore": False})
    assert call.routing.resolve(defaults) == Routing(
        cost_weight=0.0, latency_weight=0.1, allow=("a",), deny=("old",), explore_share=0.0
    )


@pytest.mark.parametrize(
    ("stated", "drop", "confidence", "caution"),
    [
        ({}, 0.2, 0.8, 1.0),
        ({"max_quality_drop": 0, "caution": 0}, 0.0, 0.8, 0.0),
        ({"max_quality_drop": 0.05, "confidence": 0.95, "caution": 2}, 0.05, 0.95, 2.0),
    ],
)
def test_a_floor_and_its_caution_are_wishes_too(stated, drop, confidence, caution):
    """Each fills up by itself; a stated 0 is kept."""
    defaults = Routing(max_quality_drop=0.2, confidence=0.8, caution=1.0)
    resolved = ask(routing=stated).routing.resolve(defaults)
    assert (resolved.max_quality_drop, resolved.confidence) == (drop, confidence)
    assert resolved.caution == caution


@pytest.mark.parametrize(
    ("explore", "by_default", "share"), [(None, 1, 0.2), (True, 0, 0.2), (None, 0, 0)]
)
def test_exploration_is_the_requests_to_choose(explore, by_default, share):
    """A request may say yes or no; a silent one does as the server does."""
    routing = ask(routing={"explore": explore}).routing
    resolved = routing.resolve(Routing(explore_share=0.2), explores_by_default=bool(by_default))
    assert resolved.explore_share == share


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=10,
)
near_parts = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image_url", "refusal", "file"]) | json_values},
    optional={"text": json_values, "image_url": json_values | st.just({"url": IMAGE_URL})},
)
near_messages = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "assistant", "tool"]) | json_values,
        "content": st.text() | st.lists(near_parts | json_values, max_size=3) | json_values,
    },
    optional={"tool_calls": json_values},
)
near_requests = st.fixed_dictionaries(
    {"model": st.just("auto") | json_values, "messages": st.lists(near_messages) | json_values},
    optional={
        "stream": json_values,
        "stream_options": json_values,
        "n": json_values,
        "max_tokens": json_values,
        "tools": json_values,
        "routing": json_values | st.dictionaries(st.sampled_from(["allow", "deny"]), json_values),
    },
)


@settings(deadline=None)  # the clock of a busy machine proves nothing
@given(
    st.binary()
    | json_values.map(lambda value: json.dumps(value).encode())
    | near_requests.map(lambda value: json.dumps(value).encode())
)
def test_nothing_but_a_call_or_a_callers_error_comes_out(body):
    """Whatever the bytes: a call that can be written as UTF-8 JSON again, or a named error."""
    try:
        call = parse_chat_request(body)
    except InvalidInputError:
        return
    assert isinstance(call, ChatCall)
    sent = call.candidate_body([picture(b"x")] * len(call.image_refs), "a")
    json.dumps(sent, ensure_ascii=False, allow_nan=False).encode()


def test_a_data_url_goes_on_as_it_came():
    """If it says the true type; else it is written anew."""
    picture = EncodedPicture(sha256="", media_type="image/png", data=b"pixels")
    for sent, told in (
        ("data:image/png;base64,cGl4ZWxz", "data:image/png;base64,cGl4ZWxz"),
        ("data:image/jpeg;base64,cGl4ZWxz", "data:image/png;base64,cGl4ZWxz"),
        ("data:image/png;base64,cGl4\nZWxz", "data:image/png;base64,cGl4ZWxz"),
        ("https://example.com/a.png", "data:image/png;base64,cGl4ZWxz"),
    ):
        parts = [{"type": "image_url", "image_url": {"url": sent}}]
        body = {"model": "m", "messages": [{"role": "user", "content": parts}]}
        call = parse_chat_request(json.dumps(body).encode())
        (message,) = call.candidate_body([picture], "m")["messages"]
        assert message["content"][0]["image_url"]["url"] == told
