"""What a drill of promotions holds for, and how it is told."""

import dataclasses

import pytest

from infra.evidence.promotion_drill import (
    PromotionDrill,
    Refusal,
    Swap,
    figures,
    refusal_cells,
)
from infra.evidence.traffic import Answered, Traffic
from infra.evidence.ui_promotion import UiPromotion

PROMOTION = UiPromotion(opened_s=1.0, saved_s=3.0, confirmed_s=3.5, before=b"", after=b"")
SWAP = Swap(
    before="1", after="2", in_ui_s=2.0, serves_s=1.25, last_of_old_s=1.0, promotion=PROMOTION
)
REFUSAL = Refusal(
    fault="no certificate",
    version="3",
    reason="certificate.json is missing",
    told_s=0.5,
    serving="2",
    num_requests=20,
    num_by_others=0,
    holds=True,
)
DRILL = PromotionDrill(
    requests_per_s=10.0,
    elapsed_s=30.0,
    num_requests=300,
    failures={},
    versions={"1": 140, "2": 160},
    swap=SWAP,
    refusals=(REFUSAL,),
    restored=True,
)


def test_a_drill_in_which_all_went_well_holds():
    """And tells its figures."""
    assert DRILL.holds
    told = dict(figures(DRILL))
    assert told["promoted in the UI"] == "version 1 to 2"
    assert told["from Save to the first answer of the new version"] == "1.25 s"
    assert told["failed requests"] == "0"
    assert told["answers by router version"] == "140 by 1, 160 by 2"
    assert refusal_cells(DRILL.refusals)[0][:4] == ("no certificate", "3", "0.50 s", "2")


@pytest.mark.parametrize(
    "change",
    [
        {"failures": {"503": 1}},
        {"versions": {"1": 140, "2": 150, "3": 10}},
        {"versions": {"1": 140, "2": 150, "": 10}},
        {"swap": dataclasses.replace(SWAP, serves_s=None)},
        {"refusals": (dataclasses.replace(REFUSAL, holds=False),)},
        {"restored": False},
    ],
    ids=lambda change: next(iter(change)),
)
def test_one_thing_that_went_wrong_is_enough(change):
    """A failed request, an answer of another version or of none, a swap that never came."""
    assert not dataclasses.replace(DRILL, **change).holds


def test_what_never_happened_is_told_as_such():
    """No figure is made up for it."""
    drill = dataclasses.replace(
        DRILL,
        failures={"503": 2, "ReadError": 1},
        swap=dataclasses.replace(SWAP, serves_s=None),
        restored=False,
    )
    told = dict(figures(drill))
    assert told["from Save to the first answer of the new version"] == "never"
    assert told["failed requests"] == "3 (2 503, 1 ReadError)"
    assert told["the first version serves again"] == "no"
    silent = dataclasses.replace(REFUSAL, told_s=None, serving=None, reason="")
    assert refusal_cells([silent])[0][2:4] == ("never", "none")


def test_traffic_is_told_by_when_it_was_sent():
    """The start counts, the end does not."""
    answers = [
        Answered(sent_s=s, done_s=s + 1, router_version="1", failure="") for s in (0.0, 1.0, 2.0)
    ]
    assert [a.sent_s for a in Traffic(answers).since(1.0)] == [1.0, 2.0]
    assert [a.sent_s for a in Traffic(answers).since(0.0, 2.0)] == [0.0, 1.0]
