"""Settings are bounded and frozen, and know no key but their own."""

import pytest
from pydantic import ValidationError

from deployments.settings import RouterSettings

NEEDED = {"registry_uri": "http://mlflow", "outcome_log": "log", "encoders": "enc"}


def test_three_settings_are_needed():
    """Registry, log and encoders have no default that could be right."""
    with pytest.raises(ValidationError) as caught:
        RouterSettings.model_validate({})
    assert {error["loc"] for error in caught.value.errors()} == {(name,) for name in NEEDED}
    settings = RouterSettings.model_validate(NEEDED)
    assert settings.registry_alias == "champion"
    assert settings.explore_share == 0.0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("registry_poll_s", 0),
        ("outcome_flush_s", 0),
        ("pool_poll_s", -1),
        ("cost_weight", -0.1),
        ("latency_weight", float("nan")),
        ("explore_share", 1.01),
        ("deadline_s", 0),
        ("decide_timeout_s", 0),
        ("max_attempts", 0),
        ("stall_s", 0),
        ("retry_share", 1.1),
        ("retry_min_per_s", -1),
        ("hedge_after_s", 0),
        ("eject_after_failures", 0),
        ("eject_max_share", 1.1),
        ("stickiness_max_loss", -0.1),
        ("max_in_flight", 1000),
        ("max_in_flight_per_key", 0),
        ("num_router_replicas", 0),
        ("num_ingress_replicas", 0),
        ("exlore_share", 0.1),
    ],
)
def test_a_setting_out_of_bounds_or_unknown_is_refused(name, value):
    """The setting is named."""
    with pytest.raises(ValidationError) as caught:
        RouterSettings.model_validate(NEEDED | {name: value})
    assert [error["loc"] for error in caught.value.errors()] == [(name,)]


def test_settings_do_not_change():
    """They cross to the replicas as they were checked."""
    settings = RouterSettings.model_validate(NEEDED)
    with pytest.raises(ValidationError):
        settings.cost_weight = -1.0


def test_a_metric_weighs_something():
    """A weight of 0 is said by leaving the metric out."""
    with pytest.raises(ValidationError) as caught:
        RouterSettings.model_validate(NEEDED | {"label_metric_weights": {"true": 0}})
    assert [error["loc"] for error in caught.value.errors()] == [("label_metric_weights", "true")]
