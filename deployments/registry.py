"""Step 9, seen from serving: fetch the router version that an MLflow alias names."""

from __future__ import annotations

import tempfile
from pathlib import Path

from router.artifact import RouterArtifact, load_artifact
from router.errors import ArtifactError

ARTIFACT_PATH = "router"
"""Where a run keeps its router artifact."""


class Registry:
    """A registered model of MLflow, read only.

    Args:
        uri: MLflow's tracking URI.
        model: The registered model's name.
        alias: The alias that serves.
        cache: Folder in which versions lie while they are fetched and checked.
    """

    def __init__(self, uri: str, *, model: str, alias: str, cache: Path) -> None:
        """Make a client; nothing is fetched yet."""
        from mlflow import MlflowClient  # noqa: PLC0415 - takes a second and 200 MB

        self._client = MlflowClient(tracking_uri=uri)
        self._model = model
        self._alias = alias
        self._cache = cache

    def champion_version(self) -> str | None:
        """Return the version that the alias names; None where nothing is registered yet.

        Raises:
            mlflow.exceptions.MlflowException: If MLflow cannot be reached.
        """
        from mlflow.exceptions import MlflowException  # noqa: PLC0415 - see above

        try:
            found = self._client.get_model_version_by_alias(self._model, self._alias)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
        return str(found.version)

    def fetch(self, version: str, *, schema_hash: str) -> RouterArtifact:
        """Download and verify one version.

        Raises:
            ArtifactError: If it is incomplete, altered or of a foreign feature schema.
        """
        from mlflow.artifacts import download_artifacts  # noqa: PLC0415 - see above

        found = self._client.get_model_version(self._model, version)
        if not found.source:
            raise ArtifactError(f"version {version} of {self._model} names no source")
        self._cache.mkdir(parents=True, exist_ok=True)
        # A folder of its own: the replicas of one machine fetch a new version at the same time.
        with tempfile.TemporaryDirectory(prefix=f"{version}-", dir=self._cache) as folder:
            local = download_artifacts(
                artifact_uri=found.source,
                dst_path=folder,
                tracking_uri=self._client.tracking_uri,
            )
            return load_artifact(Path(local), expected_schema_hash=schema_hash)

    def refuse(self, version: str, reason: str) -> None:
        """Write onto a version why serving refused it, for whoever moved the alias."""
        self._client.set_model_version_tag(self._model, version, "pointsman.refused", reason[:500])
