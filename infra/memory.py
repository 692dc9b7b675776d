"""Measure the memory of all processes that belong to the running system."""

from __future__ import annotations

import threading
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

from infra import services

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

MB = 2**20
SAMPLE_EVERY_S = 5.0
"""Reading the shared pages of 50 processes takes about 0.1 s of one core."""

KINDS = (
    ("VLLM::EngineCore", "candidate: engine core"),
    ("VLLM::Worker", "candidate: worker"),
    ("ServeReplica:candidate", "candidate: replica"),
    ("ServeReplica:router:ingress", "ingress"),
    ("ServeReplica:router:router", "router"),
    ("ServeController", "Serve controller"),
    ("ProxyActor", "Serve proxy"),
    ("haproxy", "HAProxy"),
    ("mlflow", "MLflow"),
    ("RayTrain", "training"),
    ("TrainController", "training"),
    ("training/retrain.py", "training"),
    ("JobSupervisor", "training"),
    ("build_serve_application", "Serve: building applications"),
    ("ray::IDLE", "Ray: idle workers"),
    ("dashboard", "Ray dashboard and agents"),
    ("Dashboard", "Ray dashboard and agents"),
    ("Agent", "Ray dashboard and agents"),
    ("gcs_server", "Ray core"),
    ("raylet", "Ray core"),
    ("/ray/", "Ray core"),
    ("ray start", "Ray core"),
    ("ray.util.client", "Ray core"),
    ("multiprocessing", "Python's multiprocessing"),
)
"""What a process is, by a piece of its command line; the first that fits counts."""


@dataclass(slots=True)
class MemoryPeak:
    """Samples memory in the background and keeps the peak.

    Proportional set size: a page shared by n processes counts 1/n in each, so that the sum is what
    the machine really gave.
    """

    total_mb: float = 0.0
    by_kind: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Number of processes and megabytes of each kind, at the peak."""

    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Start sampling."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop sampling."""
        self._stop.set()
        if self._thread:
            self._thread.join()

    def _run(self) -> None:
        while True:
            self.sample()
            if self._stop.wait(SAMPLE_EVERY_S):
                return

    def sample(self) -> None:
        """Measure once."""
        found: dict[str, list[float]] = defaultdict(list)
        processes = [p for s in ("ray", "mlflow") for p in services.processes(s)]
        for process in (*processes, psutil.Process()):
            with suppress(psutil.Error, FileNotFoundError):
                command = " ".join(process.cmdline())
                found[_kind(command)].append(process.memory_full_info().pss / MB)
        total_mb = sum(sum(sizes) for sizes in found.values())
        if total_mb > self.total_mb:
            self.total_mb = total_mb
            self.by_kind = {kind: (len(sizes), sum(sizes)) for kind, sizes in found.items()}


def _kind(command: str) -> str:
    for piece, kind in KINDS:
        if piece in command:
            return kind
    return "demo" if "infra." in command else "other"
