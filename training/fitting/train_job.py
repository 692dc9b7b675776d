"""Step 8, retrain: the fit as a Ray Train run, on one worker or several, resumed where it was cut.

Workers share the folds of the cross-validation, which is nearly all of the work, and add their
predictions up through torch's process group. A checkpoint holds the errors found so far: a worker
that is killed, or a driver that starts again under the same name, goes on from there.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
import torch
from ray import PlacementGroupID, train
from ray.train import ControllerError
from ray.train.torch import TorchTrainer
from ray.util.placement_group import (
    PlacementGroup,
    placement_group_table,
    remove_placement_group,
)
from tenacity import RetryCallState, retry, retry_if_exception_type, stop_after_attempt

from router.artifact import RouterArtifact, save_artifact
from training.fitting.crossfit import Crew
from training.fitting.fit import fit_router
from training.fitting.metrics import training_metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from router.candidate import Candidate
    from router.features.schema import FeatureSchema
    from training.data.dataset import TrainingSet
    from training.fitting.fit_config import FitConfig

CHECKPOINT_S = 5.0
"""A checkpoint waits 0.8 s for Ray Train's controller."""

MAX_FAILURES = 3
"""Workers that may be lost before a run is given up."""

STATE = "search.json"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrainJob:
    """What every worker is told."""

    training_set: TrainingSet
    config: FitConfig
    schema: FeatureSchema
    candidates: Sequence[Candidate]
    checkpoint_s: float = CHECKPOINT_S
    """Least seconds between checkpoints."""


def train_on_ray(job: TrainJob, *, storage: Path, num_workers: int = 1) -> Path:
    """Train on Ray and return the artifact's folder, ``<storage>/<version>``.

    Args:
        job: What to train on; its config's version names the run, and a run of that name that was
            cut off is resumed.
        storage: Folder that the driver and all workers reach.
        num_workers: Processes that share the folds; more than there are folds is a waste.
    """
    folder = storage / job.config.version
    # By reference: the run's own config is written out as JSON for Ray's dashboard.
    shared = ray.put(job)

    def worker() -> None:
        fit_as_worker(ray.get(shared), folder)

    # A worker that dies while Ray sets its group up is a failure of Ray's controller, which Ray
    # does not retry; a run of the same name goes on from its last checkpoint.
    @retry(
        retry=retry_if_exception_type(ControllerError),
        stop=stop_after_attempt(1 + MAX_FAILURES),
        before_sleep=_free_reserved,
        reraise=True,
    )
    def fit() -> None:
        TorchTrainer(
            worker,
            scaling_config=train.ScalingConfig(
                num_workers=num_workers, resources_per_worker={"CPU": 1}
            ),
            run_config=train.RunConfig(
                name=job.config.version,
                storage_path=str(storage / "runs"),
                failure_config=train.FailureConfig(max_failures=MAX_FAILURES),
            ),
        ).fit()

    fit()
    return folder


def _free_reserved(_: RetryCallState) -> None:
    """Free what this job has reserved: Ray keeps the group whose set-up failed.

    With two such groups on two cores the next attempt waited forever.
    """
    job_id = ray.get_runtime_context().get_job_id()
    for name, found in placement_group_table().items():
        if name.endswith(job_id) and found["state"] != "REMOVED":  # an id ends with its job's
            remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(name))))


def fit_as_worker(job: TrainJob, folder: Path) -> None:
    """Fit as one of a run's workers; the first one saves the artifact."""
    context = train.get_context()
    crew = _crew(context.get_world_rank(), context.get_world_size(), job.checkpoint_s)
    artifact, report = fit_router(
        job.training_set,
        job.config,
        schema=job.schema,
        candidates=job.candidates,
        on_stage=print if crew.rank == 0 else lambda _: None,
        crew=crew,
    )
    metrics = training_metrics(report)
    if crew.rank == 0:
        summary = {**artifact.training_summary, **metrics}
        _save(folder, dataclasses.replace(artifact, training_summary=summary))
    train.report(metrics)


def _save(folder: Path, artifact: RouterArtifact) -> None:
    """Save under a passing name first: a folder of the right name is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".saving-") as passing:
        save_artifact(Path(passing) / "router", artifact)
        if not folder.exists():
            (Path(passing) / "router").rename(folder)


def _crew(rank: int, size: int, checkpoint_s: float) -> Crew:
    errors = _resumed_errors()
    last_s = [time.monotonic()]

    def add_up(array_NM: NDArray[np.float32]) -> NDArray[np.float32]:
        if size == 1:
            return array_NM
        total = torch.from_numpy(np.ascontiguousarray(array_NM))
        torch.distributed.all_reduce(total)
        return total.numpy()

    def on_error() -> None:
        waited_s = add_up(np.array([time.monotonic() - last_s[0]], dtype=np.float32))
        # A report takes all workers, so all must agree that it is time.
        if waited_s[0] / size >= checkpoint_s:
            _report(errors, is_first=rank == 0)
            last_s[0] = time.monotonic()

    return Crew(rank=rank, size=size, add_up=add_up, errors=errors, on_error=on_error)


def _report(errors: dict[str, float], *, is_first: bool) -> None:
    metrics: dict[str, Any] = {"num_penalties_tried": len(errors)}
    if not is_first:
        train.report(metrics)
        return
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / STATE).write_text(json.dumps(errors))
        train.report(metrics, checkpoint=train.Checkpoint.from_directory(folder))


def _resumed_errors() -> dict[str, float]:
    checkpoint = train.get_checkpoint()
    if checkpoint is None:
        return {}
    with checkpoint.as_directory() as folder:
        errors: dict[str, float] = json.loads((Path(folder) / STATE).read_text())
    return errors
