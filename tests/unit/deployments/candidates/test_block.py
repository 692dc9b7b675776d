"""A candidate's block is checked key by key, and becomes the record that is routed."""

import pytest
from pydantic import ValidationError

from deployments.candidates.block import CandidateArgs, RoutingCard
from router.candidate import Candidate, Price

CARD = {
    "price": {"input_usd_per_mtok": 0.1, "output_usd_per_mtok": 0.4},
    "modalities": ["text"],
    "max_images": 0,
    "context_window": 512,
}
ARGS = {"id": "small", "kind": "vllm", "source": "weights/small"}


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
    args = CandidateArgs.model_validate(ARGS)
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
        CandidateArgs.model_validate(ARGS | change)
    assert caught.value.errors()[0]["loc"] == (field,)


def test_two_blocks_share_no_default():
    """What one is given does not show up in the other."""
    one, other = (CandidateArgs.model_validate(ARGS) for _ in range(2))
    one.engine["dtype"] = "bfloat16"
    assert other.engine == {}
