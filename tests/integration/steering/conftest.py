"""Routers trained on made-up rows and registered in a real MLflow on SQLite, without a server."""

from types import SimpleNamespace

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient

from deployments.versions.registry import (
    ARTIFACT_PATH,
    PROFILE_ALIAS,
    PROFILE_FILE,
    PROFILE_MODEL_PREFIX,
)
from router.artifact import save_artifact
from router.candidate import Candidate, Price
from router.features.schema import FeatureBlock, FeatureSchema
from training.data.dataset import TrainingSet
from training.fitting.fit import FitConfig, fit_router

MODEL = "pointsman-router"
SCHEMA = FeatureSchema((FeatureBlock(name="text", encoder="made-up", sha256="0" * 64, dim=8),))
CANDIDATES = tuple(
    Candidate(id=name, price=Price(input_usd_per_mtok=price, output_usd_per_mtok=price))
    for name, price in (("aster", 0.1), ("birch", 1.0))
)


def fit(version, seed=0, schema=SCHEMA):
    """Return a router for two candidates, trained on sixty made-up rows."""
    rng = np.random.default_rng(seed)
    shape = (60, len(CANDIDATES))
    rows = TrainingSet(
        features_NF=rng.normal(size=(60, schema.num_features)).astype(np.float32),
        candidate_ids=tuple(candidate.id for candidate in CANDIDATES),
        score_NM=rng.integers(0, 2, shape).astype(np.float32),
        available_NM=np.ones(shape, dtype=bool),
        propensity_NM=np.ones(shape),
        input_tokens_NM=np.full(shape, 50, dtype=np.float32),
        output_tokens_NM=np.full(shape, 5, dtype=np.float32),
        latency_s_NM=np.full(shape, 0.5, dtype=np.float32),
        ttft_s_NM=np.full(shape, 0.25, dtype=np.float32),
        num_chars_N=np.full(60, 80),
        num_images_N=np.zeros(60, dtype=np.int64),
        group_N=np.arange(60),
    )
    config = FitConfig(version=version, num_folds=2, num_kinds=2, num_anchors=16)
    return fit_router(rows, config, schema=schema, candidates=CANDIDATES)[0]


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
def store(tmp_path_factory, vouch):
    """Return an empty store."""
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # MLflow's default artifact folder is relative
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("GIT_PYTHON_REFRESH", "quiet")
        before = mlflow.get_tracking_uri()
        yield Store(folder, vouch)
        mlflow.set_tracking_uri(before)
