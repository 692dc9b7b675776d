"""Training on real Ray Train: several workers, and one that is killed on the way."""

import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import ray

from router.artifact import load_artifact
from router.candidate import Candidate, Price
from router.features.schema import FeatureBlock, FeatureSchema
from training.dataset import TrainingSet
from training.fit_config import FitConfig
from training.train_job import TrainJob, train_on_ray

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    # Ray Data, which Ray Train configures, warns of its own defaults.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

SCHEMA = FeatureSchema((FeatureBlock(name="text", encoder="made-up", sha256="0" * 64, dim=12),))
CANDIDATES = tuple(
    Candidate(id=name, price=Price(input_usd_per_mtok=1.0, output_usd_per_mtok=4.0))
    for name in ("aster", "birch", "cedar")
)


@pytest.fixture(scope="module")
def cluster():
    """A Ray of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


def job(version, num_rows=600, **settings):
    """A training in which each candidate is good where one feature is high."""
    rng = np.random.default_rng(0)
    features_NF = rng.normal(size=(num_rows, 12)).astype(np.float32)
    chance_NM = 1 / (1 + np.exp(-2 * features_NF[:, :3]))
    shape = chance_NM.shape
    unknown_NM = np.full(shape, np.nan, dtype=np.float32)
    rows = TrainingSet(
        features_NF=features_NF,
        candidate_ids=tuple(c.id for c in CANDIDATES),
        score_NM=(rng.random(shape) < chance_NM).astype(np.float32),
        available_NM=np.ones(shape, dtype=bool),
        propensity_NM=np.ones(shape),
        input_tokens_NM=unknown_NM,
        output_tokens_NM=unknown_NM,
        latency_s_NM=unknown_NM,
        ttft_s_NM=unknown_NM,
        num_chars_N=np.full(num_rows, 40),
        num_images_N=np.zeros(num_rows, dtype=np.int64),
        group_N=np.arange(num_rows),
    )
    config = FitConfig(version=version, num_anchors=256)
    return TrainJob(
        training_set=rows, config=config, schema=SCHEMA, candidates=CANDIDATES, **settings
    )


def tokens(folder):
    """All capability tokens of a saved artifact."""
    profiles = load_artifact(folder, expected_schema_hash=SCHEMA.hash).profiles
    return np.array([profile.token_R for profile in profiles.values()])


def test_two_workers_end_with_the_router_of_one(cluster, tmp_path):
    """Shared folds change nothing but rounding."""
    one, two = (
        tokens(train_on_ray(job(f"crew-{size}"), storage=tmp_path, num_workers=size))
        for size in (1, 2)
    )
    assert np.allclose(one, two, atol=1e-3)


def train_worker():
    """Return a process of Ray Train that fits, once there is one."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for process in psutil.process_iter(["cmdline"]):
            if "ray::RayTrainWorker" in " ".join(process.info["cmdline"] or ()):
                return process
        time.sleep(0.05)
    raise AssertionError("no worker of Ray Train within a minute")


def test_a_killed_worker_goes_on_from_its_checkpoint(cluster, tmp_path):
    """The run ends with the router of a run that nobody disturbed."""
    undisturbed = tokens(train_on_ray(job("calm"), storage=tmp_path))
    killer = subprocess.Popen(
        [sys.executable, "-c", KILL_AFTER_A_CHECKPOINT, str(tmp_path / "runs" / "killed")]
    )
    folder = train_on_ray(job("killed", num_rows=6000, checkpoint_s=0.0), storage=tmp_path)
    assert killer.wait(timeout=60) == 0
    assert folder.exists()
    assert tokens(folder).shape[1] > undisturbed.shape[1] / 2


KILL_AFTER_A_CHECKPOINT = """
import pathlib, psutil, sys, time
run, deadline = pathlib.Path(sys.argv[1]), time.monotonic() + 60
while time.monotonic() < deadline:
    if list(run.glob("checkpoint_*")):
        for process in psutil.process_iter(["cmdline"]):
            if "ray::RayTrainWorker" in " ".join(process.info["cmdline"] or ()):
                process.kill()
                sys.exit(0)
    time.sleep(0.02)
sys.exit(1)
"""
