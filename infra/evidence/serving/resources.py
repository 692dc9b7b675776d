"""What long-lived processes hold over time: memory, descriptors, threads, and their slopes."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import psutil

from infra import services
from infra.memory import MB

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

ROLES = (
    ("ServeReplica:router:ingress", "ingress"),
    ("ServeReplica:router:router", "router"),
    ("ServeReplica:candidate", "candidate replica"),
    ("VLLM::EngineCore", "candidate engine"),
    ("ServeController", "Serve controller"),
    ("haproxy", "HAProxy"),
)
"""Who serves, by a piece of the command line."""

OURS = ("ingress", "router")
"""Roles whose code is Pointsman's own."""

SAMPLE_EVERY_S = 5.0
WARM_UP_S = 60.0
"""From a process's first sample; imports and caches fill meanwhile."""

MIN_SAMPLES = 6


@dataclass(frozen=True, slots=True)
class Sample:
    """One process at one time."""

    time_s: float
    rss_mb: float
    num_fds: int
    num_threads: int


@dataclass(slots=True)
class Resources:
    """Samples the processes of each role in the background."""

    samples: dict[str, dict[int, list[Sample]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    """By role and process."""

    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Start sampling."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop sampling."""
        self._stop.set()
        if self._thread:
            self._thread.join()

    def slopes(self) -> dict[str, dict[str, float]]:
        """Return each role's growth a minute of memory in MB, descriptors and threads."""
        return {
            role: {
                "rss_mb_per_min": 60 * slope(lives.values(), "rss_mb"),
                "fds_per_min": 60 * slope(lives.values(), "num_fds"),
                "threads_per_min": 60 * slope(lives.values(), "num_threads"),
                "num_processes": len(lives),
                "last_rss_mb": max(life[-1].rss_mb for life in lives.values()),
            }
            for role, lives in self.samples.items()
        }

    def levels(self) -> dict[str, list[dict[str, float]]]:
        """Return each role's mean levels in the quarters of its longest life, after its start."""
        return {
            role: quarters(max(lives.values(), key=lambda life: life[-1].time_s - life[0].time_s))
            for role, lives in self.samples.items()
        }

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_EVERY_S):
            for process in services.processes("ray"):
                with suppress(psutil.Error, FileNotFoundError):
                    self._take(process)

    def _take(self, process: psutil.Process) -> None:
        command = " ".join(process.cmdline())
        role = next((role for piece, role in ROLES if piece in command), None)
        if role is None:
            return
        with process.oneshot():
            sample = Sample(
                time.monotonic(),
                process.memory_info().rss / MB,
                process.num_fds(),
                process.num_threads(),
            )
        self.samples[role][process.pid].append(sample)


def quarters(life: list[Sample]) -> list[dict[str, float]]:
    """Return one process's mean levels in each quarter of what follows its warm-up."""
    told = [s for s in life if s.time_s - life[0].time_s >= WARM_UP_S] or life
    return [
        {
            name: float(np.mean([getattr(told[i], name) for i in part]))
            for name in ("rss_mb", "num_fds", "num_threads")
        }
        for part in np.array_split(np.arange(len(told)), 4)
        if len(part)
    ]


def slope(lives: Iterable[list[Sample]], name: str) -> float:
    """Return the growth per second of one figure, after each process's warm-up.

    Least squares with a level of its own for each process:

        slope = sum (t - mean t of its process) (y - mean y of its process) / sum (t - mean t)^2

    0 where no process lived long enough.
    """
    covariance = variance = 0.0
    for life in lives:
        told = [s for s in life if s.time_s - life[0].time_s >= WARM_UP_S]
        if len(told) < MIN_SAMPLES:
            continue
        time_S = np.array([s.time_s for s in told])
        value_S = np.array([getattr(s, name) for s in told], dtype=float)
        time_S -= time_S.mean()
        covariance += float(time_S @ (value_S - value_S.mean()))
        variance += float(time_S @ time_S)
    return covariance / variance if variance else 0.0
