"""Routers trained on made-up rows and registered in a real MLflow on SQLite, without a server."""

from types import SimpleNamespace

import mlflow
import pytest
from made_up import CANDIDATES, SCHEMA, fit
from mlflow import MlflowClient

from deployments.versions.registry import (
    ARTIFACT_PATH,
    PROFILE_ALIAS,
    PROFILE_FILE,
    PROFILE_MODEL_PREFIX,
)
from router.artifact import save_artifact

MODEL = "pointsman-router"


class Store:
    """Registers versions and profiles as learning does.

    Args:
        folder: Where the database and the artifacts lie.
    """

    def __init__(self, folder, vouch):
        """Point MLflow's fluent interface at the database."""
        self._vouch = vouch
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        self._folder = folder
        mlflow.set_tracking_uri(self.uri)
        mlflow.set_experiment("steering")  # another test's may be active, of another database
        self.client = MlflowClient(tracking_uri=self.uri)

    def add_router(self, artifact, alias=None, extra=()):
        """Register a router version, with further files in its folder, and return its number."""
        local = self._folder / artifact.version / ARTIFACT_PATH
        save_artifact(local, artifact)
        self._vouch(local)
        for name, text in dict(extra).items():
            (local / name).write_text(text)
        with mlflow.start_run() as run:
            mlflow.log_artifacts(str(local), ARTIFACT_PATH)
        return self._register(
            MODEL, f"{run.info.artifact_uri}/{ARTIFACT_PATH}", {"name": artifact.version}, alias
        )

    def add_profile(self, candidate_id, text, *, router_version, serves=True):
        """Register the text of a profile on its own and return its number."""
        with mlflow.start_run() as run:
            mlflow.log_text(text, f"profile/{PROFILE_FILE}")
        return self._register(
            f"{PROFILE_MODEL_PREFIX}{candidate_id}",
            f"{run.info.artifact_uri}/profile",
            {"router_version": router_version},
            PROFILE_ALIAS if serves else None,
        )

    def _register(self, name, source, tags, alias):
        if not self.client.search_registered_models(f"name = '{name}'"):
            self.client.create_registered_model(name)
        version = str(self.client.create_model_version(name, source=source, tags=tags).version)
        if alias:
            self.client.set_registered_model_alias(name, alias, version)
        return version


@pytest.fixture(scope="session")
def made_up():
    """Return the model's name, the schema, the candidates, and what trains a router."""
    return SimpleNamespace(model=MODEL, schema=SCHEMA, candidates=CANDIDATES, fit=fit)


@pytest.fixture(scope="module")
def store(mlflow_folder, vouch):
    """Return an empty store."""
    return Store(mlflow_folder, vouch)
