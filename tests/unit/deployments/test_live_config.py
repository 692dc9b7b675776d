"""The config that is sent back deploys what runs now, but for who drains."""

import copy

import pytest

from deployments.live_config import redeployable, with_draining
from router.errors import InvalidInputError

CARD = {"price": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}, "context_window": 512}


def application(name, **deployment):
    """Return one application as Serve's status tells it."""
    config = {"name": name, "import_path": "some:build", "args": {"id": name}}
    if deployment:
        config["deployments"] = [{"name": "other"}, {"name": "candidate", **deployment}]
    return {"name": name, "status": "RUNNING", "deployed_app_config": config}


@pytest.fixture
def details():
    """Return the status of a router and two candidates."""
    return {
        "proxy_location": "HeadOnly",
        "http_options": {"host": "127.0.0.1", "port": 8000},
        "grpc_options": None,
        "target_capacity": None,
        "proxies": {"node": {"status": "HEALTHY"}},
        "applications": {
            "router": application("router"),
            "candidate-a": application("candidate-a", user_config=CARD, num_replicas=2),
            "candidate-b": application("candidate-b", user_config={**CARD, "draining": True}),
        },
    }


def cards(config):
    """Return each candidate's card."""
    return {
        app["name"]: app["deployments"][1]["user_config"]
        for app in config["applications"]
        if "deployments" in app
    }


def test_all_that_runs_goes_back(details):
    """Every application as it was, the global settings that are set, and nothing of the status."""
    config = redeployable(details)
    assert set(config) == {"proxy_location", "http_options", "applications"}
    expected = [app["deployed_app_config"] for app in details["applications"].values()]
    assert config["applications"] == expected


def test_what_is_being_deleted_stays_deleted(details):
    """It would come back otherwise."""
    details["applications"]["candidate-a"]["status"] = "DELETING"
    details["applications"]["candidate-a"]["deployed_app_config"] = None
    names = [app["name"] for app in redeployable(details)["applications"]]
    assert names == ["router", "candidate-b"]


def test_what_was_deployed_by_hand_is_not_edited(details):
    """Its config is not known, and the rest must not go without it unasked."""
    details["applications"]["router"]["deployed_app_config"] = None
    with pytest.raises(InvalidInputError, match="router was not deployed from a config"):
        redeployable(details)


def test_hidden_variables_do_not_go_back(details):
    """They would be set to the placeholder."""
    config = details["applications"]["router"]["deployed_app_config"]
    config["runtime_env"] = {"env_vars": {"TOKEN": "<redacted>"}}
    with pytest.raises(InvalidInputError, match="hides environment variables"):
        redeployable(details)


def test_only_the_flag_changes(details):
    """Set, taken off again, and left alone; the config given is not touched."""
    config = redeployable(details)
    kept = copy.deepcopy(config)
    drained = with_draining(config, {"a": True})
    assert cards(drained) == {
        "candidate-a": {**CARD, "draining": True},
        "candidate-b": {**CARD, "draining": True},
    }
    back = with_draining(drained, {"a": False, "b": False})
    assert cards(back) == {"candidate-a": CARD, "candidate-b": CARD}
    assert config == kept
    assert details["applications"]["candidate-a"]["deployed_app_config"] in config["applications"]


def test_an_unknown_candidate_is_named_with_the_known(details):
    """The router is no candidate."""
    for name in ("c", "router", "candidate-a"):
        with pytest.raises(InvalidInputError, match=r"is not deployed; known are: a, b"):
            with_draining(redeployable(details), {name: True})


def test_nothing_deployed_is_an_empty_config():
    """Serve runs and holds nothing."""
    assert redeployable({"applications": {}}) == {"applications": []}
