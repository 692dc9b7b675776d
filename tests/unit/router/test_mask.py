"""Every refusal has its cause, and only its cause."""

from dataclasses import replace

import pytest

from router.candidate import Candidate, Price
from router.mask import fewest_tokens, over_cap, reasons, refuse
from router.records import QueryShape, Refusal, Routing, Standing

PRICE = Price(input_usd_per_mtok=1.0, output_usd_per_mtok=1.0)
SMALL = Standing(
    candidate=Candidate(id="small", price=PRICE, max_images=2, context_window=164), num_running=1
)
QUERY = QueryShape(num_chars=800, num_images=2, max_output_tokens=32)
ANY = Routing()
KNOWN = {"small"}


def altered(**changes):
    """Return the standing of an altered candidate."""
    return replace(SMALL, candidate=replace(SMALL.candidate, **changes))


def test_a_fitting_candidate_is_not_refused():
    """Running, profiled, wide enough: nothing stands against it."""
    assert refuse(SMALL, QUERY, ANY, KNOWN) is None


@pytest.mark.parametrize(
    ("routing", "expected"),
    [
        (Routing(deny=("small",)), Refusal.DENIED),
        (Routing(allow=("large",)), Refusal.DENIED),
        (Routing(allow=()), Refusal.DENIED),
        (Routing(allow=("small",), deny=("small",)), Refusal.DENIED),
        (Routing(allow=("small", "large"), deny=("large",)), None),
    ],
)
def test_a_request_names_whom_it_wants(routing, expected):
    """A denial beats an allowance; an empty list allows nobody."""
    assert refuse(SMALL, QUERY, routing, KNOWN) is expected


@pytest.mark.parametrize("refusal", list(Refusal))
def test_a_candidate_that_cannot_serve_says_why(refusal):
    """The state of the replicas is handed on as it is."""
    assert refuse(replace(SMALL, refusal=refusal), QUERY, ANY, KNOWN) is refusal


@pytest.mark.parametrize(
    ("standing", "query", "expected"),
    [
        (altered(modalities=frozenset({"text"})), QUERY, Refusal.LACKS_MODALITY),
        (altered(modalities=frozenset({"text"})), replace(QUERY, num_images=0), None),
        (altered(modalities=frozenset({"image"})), QUERY, Refusal.LACKS_MODALITY),
        (altered(modalities=frozenset({"image"})), replace(QUERY, num_chars=0), None),
        (SMALL, replace(QUERY, num_images=3), Refusal.TOO_MANY_IMAGES),
        (altered(max_images=0), QUERY, Refusal.TOO_MANY_IMAGES),
        (altered(context_window=163), QUERY, Refusal.CONTEXT_TOO_SHORT),
    ],
)
def test_a_query_must_fit(standing, query, expected):
    """Modality, number of images and length are checked, each only where it is asked for."""
    assert refuse(standing, query, ANY, KNOWN) is expected


def test_the_length_is_estimated_low():
    """800 characters at 8 a token, 2 images at 16 and 32 of reply: 100 + 32 + 32 = 164."""
    assert fewest_tokens(QUERY) == 164
    assert fewest_tokens(QueryShape(num_chars=0)) == 1


def test_a_candidate_without_a_profile_is_refused_to_the_router_alone():
    """A pinned request (``profiled`` None) needs no profile, but all else."""
    assert refuse(SMALL, QUERY, ANY, set()) is Refusal.NO_PROFILE
    assert refuse(SMALL, QUERY, ANY, None) is None
    assert refuse(altered(max_images=0), QUERY, ANY, None) is Refusal.TOO_MANY_IMAGES


def test_what_lasts_is_told_before_what_passes_by_itself():
    """Denied, unfit, cold and unknown at once: the first of them is told, and so on down."""
    standing = replace(altered(max_images=0), refusal=Refusal.COLD)
    assert refuse(standing, QUERY, Routing(deny=("small",)), set()) is Refusal.DENIED
    assert refuse(standing, QUERY, ANY, set()) is Refusal.TOO_MANY_IMAGES
    standing = replace(altered(), refusal=Refusal.COLD)
    assert refuse(standing, QUERY, ANY, set()) is Refusal.COLD
    standing = replace(standing, refusal=None)
    assert refuse(standing, QUERY, ANY, set()) is Refusal.NO_PROFILE


@pytest.mark.parametrize(
    ("routing", "expected"),
    [
        (ANY, None),
        (Routing(max_cost_usd=0.02, max_latency_s=1.5), None),
        (Routing(max_cost_usd=0.0199), Refusal.OVER_PRICE_CAP),
        (Routing(max_latency_s=1.49), Refusal.OVER_LATENCY_CAP),
        (Routing(max_cost_usd=0.0, max_latency_s=0.0), Refusal.OVER_PRICE_CAP),
    ],
)
def test_caps_refuse_what_is_above_them(routing, expected):
    """A forecast of 0.02 USD and 1.5 s passes caps that equal it; the price is told first."""
    assert over_cap(0.02, 1.5, routing) is expected


def test_reasons_name_the_refused():
    """Who is available has no reason."""
    refusals = (Refusal.COLD, None, Refusal.OVER_PRICE_CAP)
    assert reasons(("a", "b", "c"), refusals) == {"a": "cold", "c": "over_price_cap"}
