"""A candidate's block is checked key by key, and becomes the record that is routed."""

import pytest
from pydantic import ValidationError

from deployments.candidates.block import OpenAIArgs, RoutingCard, VLLMArgs, args_model
from router.candidate import Candidate, Price
from router.errors import InvalidInputError

CARD = {
    "price": {"input_usd_per_mtok": 0.1, "output_usd_per_mtok": 0.4},
    "modalities": ["text"],
    "max_images": 0,
    "context_window": 512,
}
ARGS = {"id": "small", "kind": "vllm", "source": "weights/small"}
ENDPOINT = {
    "id": "vendor",
    "kind": "openai",
    "base_url": "https://api.example.com/v1",
    "model": "large",
}


def test_a_card_becomes_a_candidate():
    """Every field arrives in the record."""
    assert RoutingCard.model_validate(CARD).candidate("small") == Candidate(
        id="small",
        price=Price(input_usd_per_mtok=0.1, output_usd_per_mtok=0.4),
        modalities=frozenset({"text"}),
        max_images=0,
        context_window=512,
    )


def test_a_card_may_leave_out_what_is_usual():
    """Price and window have no default; text and one image are usual."""
    card = RoutingCard.model_validate({k: CARD[k] for k in ("price", "context_window")})
    assert (card.modalities, card.max_images) == (["text", "image"], 1)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"price": {"input_usd_per_mtok": -1, "output_usd_per_mtok": 0}}, "input_usd_per_mtok"),
        ({"price": {"input_usd_per_mtok": 1}}, "output_usd_per_mtok"),
        ({"price": CARD["price"] | {"currency": "EUR"}}, "currency"),
        ({"modalities": ["sound"]}, "modalities"),
        ({"max_images": -1}, "max_images"),
        ({"context_window": 0}, "context_window"),
        ({"draining": "perhaps"}, "draining"),
        ({"quality": 0.9}, "quality"),
    ],
)
def test_a_faulty_card_is_refused(change, field):
    """The field at fault is named, an unknown one too."""
    with pytest.raises(ValidationError) as caught:
        RoutingCard.model_validate(CARD | change)
    assert field in [str(part) for part in caught.value.errors()[0]["loc"]]


def test_args_need_a_name_a_kind_and_a_source():
    """All else has a default: no accelerator, no engine argument, no variable."""
    args = VLLMArgs.model_validate(ARGS)
    assert (args.accelerator, args.engine, args.env) == ("cpu", {}, {})


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": ""}, "id"),
        ({"id": "-small"}, "id"),
        ({"id": "a/b"}, "id"),
        ({"kind": "magic"}, "kind"),
        ({"num_cpus": 0}, "num_cpus"),
        ({"engine_num_cpus": -1}, "engine_num_cpus"),
        ({"acelerator": "L4"}, "acelerator"),
    ],
)
def test_faulty_args_are_refused(change, field):
    """A name that is no plain name, an unknown kind, no CPU, a misspelt key."""
    with pytest.raises(ValidationError) as caught:
        VLLMArgs.model_validate(ARGS | change)
    assert caught.value.errors()[0]["loc"] == (field,)


def test_two_blocks_share_no_default():
    """What one is given does not show up in the other."""
    one, other = (VLLMArgs.model_validate(ARGS) for _ in range(2))
    one.engine["dtype"] = "bfloat16"
    assert other.engine == {}


@pytest.mark.parametrize(
    ("args", "kind"),
    [(ARGS, VLLMArgs), (ENDPOINT, OpenAIArgs), ({"id": "small"}, VLLMArgs), ([], VLLMArgs)],
)
def test_the_kind_says_which_keys_a_block_has(args, kind):
    """Where none is stated the first check to fail says so."""
    assert args_model(args) is kind


@pytest.mark.parametrize("kind", ["magic", "", None, 7, ["vllm"]])
def test_an_unknown_kind_is_refused_with_those_that_are_known(kind):
    """Of whatever type it is."""
    with pytest.raises(InvalidInputError, match="'vllm' or 'openai'") as caught:
        args_model(ARGS | {"kind": kind})
    assert caught.value.field == "kind"


def test_an_endpoint_needs_an_address_and_a_model():
    """All else has a default: no key, nothing dropped, limits on each wait."""
    args = OpenAIArgs.model_validate(ENDPOINT)
    assert (args.api_key_env, args.drop_fields) == (None, frozenset())
    assert args.connect_timeout_s < args.silence_timeout_s < args.total_timeout_s


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"base_url": "api.example.com"}, "base_url"),
        ({"base_url": "file:///etc/passwd"}, "base_url"),
        ({"base_url": f"https://{'me:sk-1234'}@api.example.com/v1"}, "base_url"),
        ({"model": ""}, "model"),
        ({"api_key_env": "sk-1234"}, "api_key_env"),
        ({"api_key_env": ""}, "api_key_env"),
        ({"api_key": "sk-1234"}, "api_key"),
        ({"source": "weights"}, "source"),
        ({"drop_fields": ["messages"]}, "drop_fields"),
        ({"silence_timeout_s": 0}, "silence_timeout_s"),
        ({"total_timeout_s": -1}, "total_timeout_s"),
    ],
)
def test_faulty_args_of_an_endpoint_are_refused(change, field):
    """The field is named; what may be a key is not repeated."""
    with pytest.raises(ValidationError) as caught:
        OpenAIArgs.model_validate(ENDPOINT | change)
    assert caught.value.errors()[0]["loc"] == (field,)
    assert "1234" not in str(caught.value)
