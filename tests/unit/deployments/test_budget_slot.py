"""A replica that dies leaves what it spent to the next one."""

import math
from datetime import UTC, datetime, timedelta

import pytest

from deployments.budget_slot import RETRY, BudgetSlot
from router.exploration import UNLIMITED, Regret

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAILY = Regret(1.0, 10.0)


def test_a_restart_does_not_begin_a_new_day(tmp_path):
    """What was spent is spent for the successor, until midnight."""
    first = BudgetSlot(tmp_path / "new", DAILY, num_slots=1)
    first.charge(Regret(0.25, 4.0), NOON)
    first.close()
    second = BudgetSlot(tmp_path / "new", DAILY, num_slots=1)
    assert second.left(NOON) == Regret(0.75, 6.0)
    second.charge(Regret(0.5, 0.0), NOON)
    second.close()
    third = BudgetSlot(tmp_path / "new", DAILY, num_slots=1)
    assert third.left(NOON) == Regret(0.25, 6.0)
    assert third.left(NOON + timedelta(days=1)) == DAILY
    assert third.status(NOON)["left_usd"] == 1.0


def test_replicas_share_the_day_and_an_extra_one_has_nothing(tmp_path):
    """The extra one takes the slot of the first that ends, soon after."""
    one, two, extra = (BudgetSlot(tmp_path, DAILY, num_slots=2) for _ in range(3))
    assert one.left(NOON) == two.left(NOON) == Regret(0.5, 5.0)
    assert extra.left(NOON) == Regret()
    assert not extra.status(NOON)["has_slot"]
    one.charge(Regret(0.5, 1.0), NOON)
    with pytest.raises(ValueError, match="more than what is left"):
        two.charge(Regret(0.6, 0.0), NOON)
    one.close()
    assert extra.left(NOON) == Regret()
    assert extra.left(NOON + RETRY) == Regret(0.0, 4.0)
    two.close()
    extra.close()


def test_a_record_that_cannot_be_read_leaves_nothing_to_spend(tmp_path, caplog):
    """It is told, and no new budget begins by accident."""
    (tmp_path / "slot-0.json").write_text("{broken")
    slot = BudgetSlot(tmp_path, DAILY, num_slots=1)
    assert slot.left(NOON) == Regret()
    slot.charge(Regret(), NOON)
    assert "nothing is explored" in caplog.text


def test_without_limits_nothing_is_written(tmp_path):
    """No folder is made."""
    slot = BudgetSlot(tmp_path / "none", UNLIMITED, num_slots=1)
    slot.charge(Regret(5.0, 5.0), NOON)
    assert slot.left(NOON) == UNLIMITED
    assert slot.status(NOON)["left_usd"] is None
    assert not (tmp_path / "none").exists()
    half = BudgetSlot(tmp_path / "half", Regret(math.inf, 1.0), num_slots=1)
    half.charge(Regret(9.0, 0.5), NOON)
    assert half.left(NOON) == Regret(math.inf, 0.5)
    half.close()
