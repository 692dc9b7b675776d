"""Step 9, registry: publish a router version and the candidates' profiles in MLflow."""

from __future__ import annotations

import dataclasses
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


class Publisher:
    """Writes to MLflow's registry.

    Args:
        uri: MLflow's tracking URI.
        model: The registered model that holds the router versions.
    """

    def __init__(self, uri: str, *, model: str = ROUTER_MODEL) -> None:
        """Point MLflow's fluent interface at the server too; runs are logged through it."""
        mlflow.set_tracking_uri(uri)
        mlflow.set_experiment(EXPERIMENT)
        self._client = MlflowClient(tracking_uri=uri)
        self._model = model

    def publish_router(
        self, artifact: RouterArtifact, *, metrics: Mapping[str, float], params: Mapping[str, Any]
    ) -> str:
        """Register a router version as challenger and return its number.

        Args:
            artifact: The trained router.
            metrics: What the training measured.
            params: How it was trained.
        """
        with mlflow.start_run(run_name=artifact.version) as run:
            mlflow.log_params(dict(params))
            mlflow.log_metrics(dict(metrics))
            with tempfile.TemporaryDirectory() as folder:
                save_artifact(Path(folder) / ARTIFACT_PATH, artifact)
                mlflow.log_artifacts(str(Path(folder) / ARTIFACT_PATH), ARTIFACT_PATH)
        self._ensure_model(self._model, "Router versions; the alias `champion` is served.")
        version = self._client.create_model_version(
            self._model,
            source=f"{run.info.artifact_uri}/{ARTIFACT_PATH}",
            run_id=run.info.run_id,
            tags={"feature_schema_hash": artifact.schema.hash, "name": artifact.version},
        )
        self._client.set_registered_model_alias(self._model, "challenger", version.version)
        return str(version.version)

    def promote(self, version: str) -> None:
        """Move the alias ``champion``, which serving follows."""
        self._client.set_registered_model_alias(self._model, "champion", version)

    def champion(self) -> str | None:
        """Return the version that serves, or None."""
        try:
            found = self._client.get_model_version_by_alias(self._model, "champion")
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
        return str(found.version)

    def publish_profiles(self, profiles: Mapping[str, Profile], *, router_version: str) -> None:
        """Register one profile version per candidate, with its metrics by kind of query."""
        for candidate_id, profile in profiles.items():
            name = f"{PROFILE_MODEL_PREFIX}{candidate_id}"
            with mlflow.start_run(run_name=f"profile {candidate_id}") as run:
                mlflow.log_metrics(profile_metrics(profile))
                mlflow.log_dict(profile.to_json(), "profile/profile.json")
            self._ensure_model(name, f"Capability profile of the candidate {candidate_id}.")
            self._client.create_model_version(
                name,
                source=f"{run.info.artifact_uri}/profile",
                run_id=run.info.run_id,
                tags={"router_version": router_version, "kinds_hash": profile.kinds_hash},
            )

    def _ensure_model(self, name: str, description: str) -> None:
        try:
            self._client.create_registered_model(name, description=description)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


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
