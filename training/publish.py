"""Step 9, registry: publish a router version and the candidates' profiles in MLflow."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from router.artifact import save_artifact

if TYPE_CHECKING:
    from collections.abc import Mapping

    from router.artifact import RouterArtifact
    from router.profile import Profile

ROUTER_MODEL = "pointsman-router"
PROFILE_MODEL_PREFIX = "pointsman-profile-"
EXPERIMENT = "pointsman"
ARTIFACT_PATH = "router"


def publish_router(
    artifact: RouterArtifact, *, uri: str, metrics: Mapping[str, float], params: Mapping[str, Any]
) -> str:
    """Register a router version as challenger and return its number.

    Args:
        artifact: The trained router.
        uri: MLflow's tracking URI.
        metrics: What the training measured.
        params: How it was trained.
    """
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment(EXPERIMENT)
    client = MlflowClient(tracking_uri=uri)
    with mlflow.start_run(run_name=artifact.version) as run:
        mlflow.log_params(dict(params))
        mlflow.log_metrics(dict(metrics))
        with tempfile.TemporaryDirectory() as folder:
            save_artifact(Path(folder) / ARTIFACT_PATH, artifact)
            mlflow.log_artifacts(str(Path(folder) / ARTIFACT_PATH), ARTIFACT_PATH)
    _ensure_model(client, ROUTER_MODEL, "Router versions; the alias `champion` is served.")
    version = client.create_model_version(
        ROUTER_MODEL,
        source=f"{run.info.artifact_uri}/{ARTIFACT_PATH}",
        run_id=run.info.run_id,
        tags={"feature_schema_hash": artifact.schema.hash, "name": artifact.version},
    )
    client.set_registered_model_alias(ROUTER_MODEL, "challenger", version.version)
    return str(version.version)


def promote(version: str, *, uri: str) -> None:
    """Move the alias ``champion``, which serving follows."""
    MlflowClient(tracking_uri=uri).set_registered_model_alias(ROUTER_MODEL, "champion", version)


def champion(uri: str) -> str | None:
    """Return the version that serves, or None."""
    try:
        found = MlflowClient(tracking_uri=uri).get_model_version_by_alias(ROUTER_MODEL, "champion")
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    return str(found.version)


def publish_profiles(profiles: Mapping[str, Profile], *, uri: str, router_version: str) -> None:
    """Register one profile version per candidate, with its metrics by kind of query."""
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment(EXPERIMENT)
    client = MlflowClient(tracking_uri=uri)
    for candidate_id, profile in profiles.items():
        name = f"{PROFILE_MODEL_PREFIX}{candidate_id}"
        with mlflow.start_run(run_name=f"profile {candidate_id}") as run:
            mlflow.log_metrics(profile_metrics(profile))
            mlflow.log_dict(json.loads(json.dumps(profile.to_json())), "profile/profile.json")
        _ensure_model(client, name, f"Capability profile of the candidate {candidate_id}.")
        client.create_model_version(
            name,
            source=f"{run.info.artifact_uri}/profile",
            run_id=run.info.run_id,
            tags={"router_version": router_version, "kinds_hash": profile.kinds_hash},
        )


def profile_metrics(profile: Profile) -> dict[str, float]:
    """Return a profile's figures under MLflow metric names; what is not known is left out."""
    metrics: dict[str, float] = {}
    for item in dataclasses.fields(profile):
        value = getattr(profile, item.name)
        if isinstance(value, int | float) and value == value:  # noqa: PLR0124 - NaN
            metrics[item.name] = float(value)
    for kind, (quality, count) in enumerate(
        zip(profile.quality_K, profile.num_observed_K, strict=True)
    ):
        metrics[f"kind_{kind:02d}.num_observed"] = float(count)
        if count > 0:
            metrics[f"kind_{kind:02d}.quality"] = float(quality)
    return metrics


def _ensure_model(client: MlflowClient, name: str, description: str) -> None:
    try:
        client.create_registered_model(name, description=description)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
