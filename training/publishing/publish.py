"""Step 9, registry: publish a router version and the candidates' profiles in MLflow."""

from __future__ import annotations

import dataclasses
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from router.artifact import load_artifact
from router.certificate import CERTIFICATE, load_certificate
from router.errors import ArtifactError
from training.publishing.certificate_page import certificate_page

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from matplotlib.figure import Figure

    from router.artifact import RouterArtifact
    from router.certificate import Certificate
    from router.profile import Profile

ROUTER_MODEL = "pointsman-router"
PROFILE_MODEL_PREFIX = "pointsman-profile-"
EXPERIMENT = "pointsman"
ARTIFACT_PATH = "router"
MODEL_DESCRIPTION = "Router versions; the alias `champion` is served."
MAX_PROFILES = 1000
"""As many as MLflow returns at once."""

SERVING_ALIAS = "serving"
"""On the profile version that is meant to be used beside the champion."""

CONCLUDED = "concluded"
"""Tag of a version whose run did all it had to."""


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
        self, folder: Path, certificate: Certificate, *, params: Mapping[str, Any]
    ) -> str:
        """Register a router version as challenger and return its number.

        Args:
            folder: The trained router, as `save_artifact` wrote it.
            certificate: Of that artifact; goes into the version beside it, as a page into its run.
            params: How it was trained.
        """
        artifact = load_artifact(folder)
        with mlflow.start_run(run_name=artifact.version) as run:
            mlflow.log_params(dict(params))
            mlflow.log_metrics(
                _numbers(artifact.training_summary) | certificate_metrics(certificate)
            )
            mlflow.log_artifacts(str(folder), ARTIFACT_PATH)
            mlflow.log_text(certificate.to_json().decode(), f"{ARTIFACT_PATH}/{CERTIFICATE}")
            mlflow.log_text(certificate_page(certificate), "certificate.html")
        self._ensure_model(self._model, MODEL_DESCRIPTION)
        version = self._client.create_model_version(
            self._model,
            source=f"{run.info.artifact_uri}/{ARTIFACT_PATH}",
            run_id=run.info.run_id,
            tags={
                "feature_schema_hash": artifact.schema.hash,
                "name": artifact.version,
                "gates": "passed" if certificate.passed else "; ".join(certificate.reasons)[:500],
            },
        )
        self._client.set_registered_model_alias(self._model, "challenger", version.version)
        return str(version.version)

    def promote(self, version: str) -> None:
        """Move the alias ``champion``, which serving follows."""
        self._client.set_registered_model_alias(self._model, "champion", version)

    def has_concluded(self, name: str) -> bool:
        """Return whether the run of that name registered a version and did all it had to."""
        version = self.version_named(name)
        if version is None:
            return False
        return CONCLUDED in self._client.get_model_version(self._model, version).tags

    def conclude(self, version: str) -> None:
        """Note that nothing is left to do for a version."""
        self._client.set_model_version_tag(self._model, version, CONCLUDED, "true")

    def published(self, version: str) -> tuple[RouterArtifact, Certificate]:
        """Return a registered router and its certificate, both verified.

        Raises:
            ArtifactError: If either is incomplete or altered.
        """
        with self._downloaded(version) as folder:
            return load_artifact(folder), load_certificate(folder / CERTIFICATE)

    def version_named(self, name: str) -> str | None:
        """Return the number under which a trained router was registered, or None."""
        try:
            found = self._client.search_model_versions(
                f"name = '{self._model}' and tags.name = '{name}'"
            )
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return str(found[0].version) if found else None

    def tag(self, key: str) -> str | None:
        """Return a tag of the registered model; None where there is none, or no such model."""
        found = self._client.search_registered_models(f"name = '{self._model}'")
        return found[0].tags.get(key) if found else None

    def set_tag(self, key: str, value: str) -> None:
        """Set a tag of the registered model."""
        self._ensure_model(self._model, MODEL_DESCRIPTION)
        self._client.set_registered_model_tag(self._model, key, value)

    def profiles(self) -> dict[str, bool]:
        """Return the candidates with a profile; True where one was published on its own."""
        found = self._client.search_registered_models(
            f"name LIKE '{PROFILE_MODEL_PREFIX}%'", max_results=MAX_PROFILES
        )
        return {
            model.name.removeprefix(PROFILE_MODEL_PREFIX): SERVING_ALIAS in model.aliases
            for model in found
        }

    def comparable_champion(self, schema_hash: str) -> RouterArtifact | None:
        """Return the router that serves; None where none does, or it reads other features."""
        if self.champion() is None:
            return None
        _, artifact = self.champion_artifact()
        return artifact if artifact.schema.hash == schema_hash else None

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
        """Register one profile version per candidate, with its metrics by kind of query.

        Those that a run registered before it was cut off are left alone.
        """
        found = self._client.search_model_versions(f"tags.router_version = '{router_version}'")
        known = {version.name for version in found}
        for profile in profiles.values():
            if f"{PROFILE_MODEL_PREFIX}{profile.candidate_id}" not in known:
                self._register_profile(profile, router_version, figure=None)

    def publish_profile(
        self, profile: Profile, *, router_version: str, figure: Figure | None = None
    ) -> str:
        """Register one candidate's profile under the alias ``serving`` and return its number.

        Args:
            profile: Counted under the kinds of that router version.
            router_version: Number of the router version.
            figure: Picture of the profile, stored beside it.
        """
        name, version = self._register_profile(profile, router_version, figure=figure)
        self._client.set_registered_model_alias(name, SERVING_ALIAS, version)
        return version

    def champion_artifact(self) -> tuple[str, RouterArtifact]:
        """Return the number of the version that serves, and its router, verified.

        Raises:
            ArtifactError: If there is none, or it is incomplete or altered.
        """
        version = self.champion()
        if version is None:
            raise ArtifactError(
                f"{self._model} has no champion; train a router and give it the alias first"
            )
        with self._downloaded(version) as folder:
            return version, load_artifact(folder)

    @contextmanager
    def _downloaded(self, version: str) -> Iterator[Path]:
        source = self._client.get_model_version(self._model, version).source
        with tempfile.TemporaryDirectory() as folder:
            local = mlflow.artifacts.download_artifacts(
                artifact_uri=source, dst_path=folder, tracking_uri=self._client.tracking_uri
            )
            yield Path(local)

    def _register_profile(
        self, profile: Profile, router_version: str, *, figure: Figure | None
    ) -> tuple[str, str]:
        name = f"{PROFILE_MODEL_PREFIX}{profile.candidate_id}"
        with mlflow.start_run(run_name=f"profile {profile.candidate_id}") as run:
            mlflow.log_metrics(profile_metrics(profile))
            mlflow.log_dict(profile.to_json(), "profile/profile.json")
            if figure is not None:
                mlflow.log_figure(figure, "profile/kinds.png")
        self._ensure_model(name, f"Capability profile of the candidate {profile.candidate_id}.")
        version = self._client.create_model_version(
            name,
            source=f"{run.info.artifact_uri}/profile",
            run_id=run.info.run_id,
            tags={"router_version": router_version, "kinds_hash": profile.kinds_hash},
        )
        return name, str(version.version)

    def _ensure_model(self, name: str, description: str) -> None:
        try:
            self._client.create_registered_model(name, description=description)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def certificate_metrics(certificate: Certificate) -> dict[str, float]:
    """Return values and differences with their lower bounds, under MLflow metric names."""
    evidence = certificate.evidence
    metrics = {"gates_passed": float(certificate.passed)}
    for policy, estimates in evidence.values.items():
        for estimator, estimate in estimates.items():
            metrics[f"proof.{policy}.{estimator}"] = estimate.value
    for policy, estimate in evidence.differences.items():
        metrics[f"proof.over_{policy}"] = estimate.value
        metrics[f"proof.over_{policy}.low"] = estimate.low
    return metrics


def _numbers(summary: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in summary.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


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
