"""Training on real Ray Train: several workers, and one that is killed on the way."""

import pytest

from infra.evidence.learning.kill_training import (
    MAX_DIFFERENCE,
    WorkerKiller,
    difference,
    made_up_job,
    own_ray,
    saved_tokens,
    undisturbed_tokens,
)
from training.fitting.train_job import train_on_ray

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    # Ray Data, which Ray Train configures, warns of its own defaults.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """A Ray of its own."""
    with own_ray(num_cpus=3):
        yield


def test_two_workers_end_with_the_router_of_one(tmp_path):
    """Shared folds change nothing but rounding."""
    job = made_up_job("crew", num_rows=600)
    folder = train_on_ray(job, storage=tmp_path, num_workers=2)
    assert difference(saved_tokens(folder), undisturbed_tokens(job)) <= MAX_DIFFERENCE


def test_a_killed_worker_goes_on_from_its_checkpoint(tmp_path):
    """The run ends with the router of a run that nobody disturbed."""
    job = made_up_job("killed", num_rows=600, checkpoint_s=0.0)
    killer = WorkerKiller(tmp_path / "runs" / "killed", waits_s=[-1.0])
    folder = train_on_ray(job, storage=tmp_path)
    killer.stop()
    assert (killer.num_kills, killer.num_with_checkpoint) == (1, 1)
    assert difference(saved_tokens(folder), undisturbed_tokens(job)) <= MAX_DIFFERENCE
