"""Trainings on Ray whose worker or driver is killed at any moment, and the routers they end with.

Run as a program it is such a driver: ``python -m infra.evidence.learning.kill_training STORAGE
VERSION ADDRESS``. Only processes that the caller's own Ray started are ever killed.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import ray

from infra import services
from router.artifact import load_artifact
from router.candidate import Candidate, Price
from router.features.schema import FeatureBlock, FeatureSchema
from training.data.dataset import TrainingSet
from training.fitting.fit import fit_router
from training.fitting.fit_config import FitConfig
from training.fitting.train_job import MAX_FAILURES, TrainJob, train_on_ray

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

ROOT = services.ROOT
SCHEMA = FeatureSchema((FeatureBlock(name="text", encoder="made-up", sha256="0" * 64, dim=12),))
CANDIDATES = tuple(
    Candidate(id=name, price=Price(input_usd_per_mtok=1.0, output_usd_per_mtok=4.0))
    for name in ("aster", "birch", "cedar")
)
WORKER = "ray::RayTrainWorker"
START_S = 120.0
"""Within which a worker is there, on a busy machine too."""

ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    # A process less for each run; it watches for nodes that a cloud is about to take away.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # The default, 2 s, is also how long a dead worker is not missed.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "OMP_NUM_THREADS": "1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingKills:
    """What became of trainings whose processes were killed."""

    num_kills: int
    num_with_checkpoint: int
    """Kills that fell after a checkpoint: those from which there is something to go on."""

    num_runs: int
    num_whole: int
    """Runs that ended with the router of a training that nobody disturbed."""

    largest_difference: float
    """Of a capability token from the undisturbed one's."""


@contextlib.contextmanager
def own_ray(num_cpus: int = 2) -> Iterator[str]:
    """Start a Ray of this process and yield its address."""
    before = {name: os.environ.get(name) for name in (*ENVIRONMENT, "RAY_ADDRESS")}
    os.environ.update(ENVIRONMENT)
    os.environ.pop("RAY_ADDRESS", None)
    try:
        ray.init(num_cpus=num_cpus, include_dashboard=False, log_to_driver=False)
        yield ray.get_runtime_context().gcs_address
    finally:
        ray.shutdown()
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def made_up_job(version: str, num_rows: int = 6000, *, checkpoint_s: float = 0.5) -> TrainJob:
    """Return a training in which each candidate is good where one feature is high."""
    rng = np.random.default_rng(0)
    features_NF = rng.normal(size=(num_rows, SCHEMA.num_features)).astype(np.float32)
    chance_NM = 1 / (1 + np.exp(-2 * features_NF[:, : len(CANDIDATES)]))
    rows = TrainingSet.of_scores(
        features_NF,
        tuple(candidate.id for candidate in CANDIDATES),
        (rng.random(chance_NM.shape) < chance_NM).astype(np.float32),
        num_chars_N=np.full(num_rows, 40),
    )
    return TrainJob(
        training_set=rows,
        config=FitConfig(version=version, num_anchors=256),
        schema=SCHEMA,
        candidates=CANDIDATES,
        checkpoint_s=checkpoint_s,
    )


def undisturbed_tokens(job: TrainJob) -> NDArray[np.float32]:
    """Return the capability tokens that the job ends with here, without Ray."""
    artifact, _ = fit_router(
        job.training_set, job.config, schema=job.schema, candidates=job.candidates
    )
    return np.array([profile.token_R for profile in artifact.profiles.values()])


def saved_tokens(folder: Path) -> NDArray[np.float32]:
    """Return the capability tokens of a saved artifact."""
    profiles = load_artifact(folder, expected_schema_hash=SCHEMA.hash).profiles
    return np.array([profile.token_R for profile in profiles.values()])


def workers(root: psutil.Process) -> list[psutil.Process]:
    """Return the training workers among a process's descendants."""
    found = []
    for process in root.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if WORKER in " ".join(process.cmdline()):
                found.append(process)
    return found


class WorkerKiller:
    """Kills a run's worker, while the run goes on, each time after a while.

    Args:
        run: Folder of the run, in which checkpoints appear.
        waits_s: How long each worker may live once it is there; a negative wait is one for its
            first checkpoint.
    """

    def __init__(self, run: Path, waits_s: list[float]) -> None:
        """Start at once."""
        self._run, self._waits_s = run, waits_s
        self._root = psutil.Process()
        self._stopped = threading.Event()
        self.num_kills = 0
        self.num_with_checkpoint = 0
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Kill no more."""
        self._stopped.set()
        self._thread.join()

    def _work(self) -> None:
        dead: set[int] = set()
        for wait_s in self._waits_s:
            while not (alive := [w for w in workers(self._root) if w.pid not in dead]):
                if self._stopped.wait(0.05):
                    return
            while wait_s < 0 and not has_checkpoint(self._run):
                if self._stopped.wait(0.05):
                    return
            if self._stopped.wait(max(wait_s, 0.0)):
                return
            with contextlib.suppress(psutil.NoSuchProcess):
                alive[0].kill()
                dead.add(alive[0].pid)
                self.num_kills += 1
                self.num_with_checkpoint += has_checkpoint(self._run)


def has_checkpoint(run: Path) -> bool:
    """Return whether a run has anything to go on from."""
    return any(run.glob("checkpoint_*"))


def kill_workers(storage: Path, *, num_kills: int) -> TrainingKills:
    """Kill workers of as many runs as it takes; Ray must be up, as `own_ray` starts it.

    Args:
        storage: An empty folder.
        num_kills: In all; a run is given `MAX_FAILURES` at most, which is what it survives. A
            worker's life is drawn below what a whole run takes, measured first.
    """
    chance, killed, resumed = random.Random(7), 0, 0  # noqa: S311 - moments, no secrets
    differences: list[float] = []
    calm = undisturbed_tokens(made_up_job("calm"))
    began_s = time.monotonic()
    train_on_ray(made_up_job("calm"), storage=storage)
    life_s = time.monotonic() - began_s
    while killed < num_kills:
        version = f"worker-{len(differences)}"
        count = min(MAX_FAILURES, num_kills - killed)
        waits_s = [chance.uniform(0.0, life_s) for _ in range(count)]
        killer = WorkerKiller(storage / "runs" / version, waits_s)
        began_s = time.monotonic()
        folder = train_on_ray(made_up_job(version), storage=storage)
        killer.stop()
        if not killer.num_kills:  # the machine may have been busier when life was measured
            life_s = min(life_s, time.monotonic() - began_s)
        killed += killer.num_kills
        resumed += killer.num_with_checkpoint
        differences.append(difference(saved_tokens(folder), calm))
    return _found(killed, resumed, differences)


def kill_drivers(storage: Path, address: str, *, num_kills: int) -> TrainingKills:
    """Kill drivers, each start of a run going on where the last one was cut, then let it end.

    Args:
        storage: An empty folder.
        address: Of the Ray that they connect to.
        num_kills: In all. A driver's life is drawn below what a whole one takes, measured first.
    """
    chance, killed, resumed = random.Random(7), 0, 0  # noqa: S311 - moments, no secrets
    differences: list[float] = []
    calm = undisturbed_tokens(made_up_job("calm"))
    began_s = time.monotonic()
    _start_driver(storage, "calm", address).wait()
    life_s = time.monotonic() - began_s
    while killed < num_kills:
        version = f"driver-{len(differences)}"
        while True:
            driver = _start_driver(storage, version, address)
            wait_s = chance.uniform(0.0, life_s) if killed < num_kills else None
            with contextlib.suppress(subprocess.TimeoutExpired):
                driver.wait(wait_s)
            if driver.poll() is None:
                driver.kill()
                driver.wait()
                killed += 1
                resumed += has_checkpoint(storage / "runs" / version)
            elif driver.returncode == 0:
                break
            else:
                said = (storage / f"{version}.log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"the driver of {version} failed by itself: {said}")
        differences.append(difference(saved_tokens(storage / version), calm))
    return _found(killed, resumed, differences)


def _start_driver(storage: Path, version: str, address: str) -> subprocess.Popen[bytes]:
    log = (storage / f"{version}.log").open("ab")
    with log:
        return subprocess.Popen(
            [sys.executable, "-m", __name__, str(storage), version, address],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=log,
        )


def difference(found: NDArray[np.float32], calm: NDArray[np.float32]) -> float:
    """Return the largest difference of two routers' tokens; infinite if of other shape."""
    return float(np.abs(found - calm).max()) if found.shape == calm.shape else float("inf")


MAX_DIFFERENCE = 1e-3
"""A run that goes on starts its next solution from nothing instead of from the one before, which
moves a token within the solver's tolerance."""


def _found(killed: int, resumed: int, differences: list[float]) -> TrainingKills:
    return TrainingKills(
        num_kills=killed,
        num_with_checkpoint=resumed,
        num_runs=len(differences),
        num_whole=sum(value <= MAX_DIFFERENCE for value in differences),
        largest_difference=max(differences),
    )


def main(storage: str, version: str, address: str) -> None:
    """Train as a driver of its own."""
    began_s = time.monotonic()
    ray.init(address=address, log_to_driver=False)
    train_on_ray(made_up_job(version), storage=Path(storage))
    sys.stdout.write(f"{version} whole after {time.monotonic() - began_s:.1f} s\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
