"""Turn Serve's status into the config that deploys the same again, but for who drains. Pure.

``PUT /api/serve/applications/`` replaces the whole config: an application that it does not name is
deleted. So every application goes back as ``GET`` showed it, and only ``draining`` in a
candidate's ``user_config`` changes, which leaves all replicas running.
"""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

from deployments.candidates.block import APPLICATION_PREFIX, DEPLOYMENT_NAME
from router.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

GLOBAL_KEYS = ("proxy_location", "http_options", "grpc_options", "target_capacity")
"""What Serve's status tells besides the applications; each keeps its own logging settings."""

REDACTED = "<redacted>"
"""What Ray's dashboard shows browsers instead of environment variables."""


def redeployable(details: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config that deploys what runs now.

    Args:
        details: The JSON body of ``GET /api/serve/applications/``.

    Raises:
        InvalidInputError: If sending it back would change more than was asked for.
    """
    applications = []
    for name, application in (details.get("applications") or {}).items():
        if application.get("status") == "DELETING":
            continue
        config = application.get("deployed_app_config")
        if not config:
            raise InvalidInputError(
                f"application {name} was not deployed from a config, so it cannot be edited; "
                "deploy it with `serve deploy`",
                "applications",
            )
        applications.append(copy.deepcopy(config))
    kept = {key: details[key] for key in GLOBAL_KEYS if details.get(key) is not None}
    if REDACTED in json.dumps(applications):
        raise InvalidInputError(
            "Serve hides environment variables from this client; edit the YAML and "
            "`serve deploy` it",
            "applications",
        )
    return {**kept, "applications": applications}


def with_draining(config: Mapping[str, Any], draining: Mapping[str, bool]) -> dict[str, Any]:
    """Return a config in which some candidates drain, or do not.

    Args:
        config: As `redeployable` returns it; is not changed.
        draining: Whether a candidate drains, by its id; others stay as they are.

    Raises:
        InvalidInputError: If a candidate is not in the config.
    """
    edited = copy.deepcopy(dict(config))
    cards = {
        application["name"].removeprefix(APPLICATION_PREFIX): deployment
        for application in edited["applications"]
        if application["name"].startswith(APPLICATION_PREFIX)
        for deployment in application.get("deployments") or []
        if deployment.get("name") == DEPLOYMENT_NAME
    }
    for candidate_id, is_draining in draining.items():
        if candidate_id not in cards:
            known = ", ".join(cards) or "none"
            raise InvalidInputError(
                f"candidate {candidate_id!r} is not deployed; known are: {known}", "candidate"
            )
        card = dict(cards[candidate_id].get("user_config") or {})
        card.pop("draining", None)
        if is_draining:
            card["draining"] = True
        cards[candidate_id]["user_config"] = card
    return edited
