"""Evidence of scale: reading and training on logs of ever more rows, time and memory.

Run as a program it reads and trains once, in a process of its own, and prints what it took:
``python -m infra.evidence.learning.scale ROOT``.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from infra import services
from infra.evidence.learning.scale_log import CANDIDATES, NUM_DAYS, NUM_PINNED, write_log
from infra.evidence.parts import figure, table
from router.candidate import Candidate, Price
from router.features.extract import FeatureExtractor
from training.data.log_sample import Part, Sample
from training.data.outcome_rows import training_set_from_log
from training.fitting.fit import fit_router
from training.fitting.fit_config import FitConfig

if TYPE_CHECKING:
    from infra.evidence.entry import Entry

ENCODERS = services.ROOT / ".cache" / "encoders"
FOLDER = services.RUN / "evidence" / "scale"
SIZES = "10000,100000,1000000"
MAX_PEAK_GB = 2.0
DISK_RESERVE_BYTES = 5 << 30
PART = Part.LEARN


def run(*, rows: str = SIZES) -> dict[str, Any]:
    """Write a log of each size, train on it in a fresh process, and delete it."""
    sizes = [int(size) for size in rows.split(",")]
    schema = FeatureExtractor.load(ENCODERS).schema
    FOLDER.mkdir(parents=True, exist_ok=True)
    _check_room(max(sizes), schema.num_features)
    runs = []
    for size in sizes:
        with tempfile.TemporaryDirectory(dir=FOLDER, prefix=f"log-{size}-") as root:
            began_s = time.monotonic()
            num_bytes = write_log(
                root, size, num_features=schema.num_features, schema_hash=schema.hash
            )
            typer.echo(
                f"{size:,} rows, {num_bytes / 1e9:.2f} GB, {time.monotonic() - began_s:.0f} s"
            )
            found = _in_a_fresh_process(root)
        typer.echo(f"  {found}")
        runs.append({"num_logged": size, "num_bytes": num_bytes, **found})
    return {
        "num_features": schema.num_features,
        "num_candidates": len(CANDIDATES),
        "runs": runs,
    }


def _check_room(num_rows: int, num_features: int) -> None:
    """Refuse a log that the disk has no room for."""
    free = shutil.disk_usage(FOLDER).free - DISK_RESERVE_BYTES
    wanted = num_rows * num_features * 4
    if free < wanted:
        raise SystemExit(
            f"{num_rows:,} rows of {num_features} features take {wanted / 1e9:.0f} GB, and "
            f"{FOLDER} has {max(free, 0) / 1e9:.0f} GB to spare: free some, or take fewer --rows"
        )


def _in_a_fresh_process(root: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", __name__, root],
        cwd=services.ROOT,
        env=services.environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def lines(result: dict[str, Any]) -> list[Entry]:
    """Return the lines on memory and growth."""
    runs = result["runs"]
    largest = runs[-1]
    peak_gb = largest["peak_mb"] / 1024
    told = [
        figure(
            "C6",
            peak_gb,
            f"GB at the peak of reading and training on {largest['num_logged']:,} outcomes "
            f"of {result['num_features']} features",
            "under 2",
            holds=peak_gb < MAX_PEAK_GB,
        )
    ]
    for key, what in (("total_s", "time"), ("peak_mb", "memory")):
        steps = [b[key] / a[key] / (b["num_logged"] / a["num_logged"]) for a, b in pairwise(runs)]
        worst = max(steps, default=0.0)
        sizes = " to ".join(f"{step['num_logged']:,}" for step in runs)
        told.append(
            figure(
                "C6",
                worst,
                f"of linear growth of {what}, {sizes} rows, steepest step",
                "at most 1",
                holds=worst <= 1,
            )
        )
    return told


def section(result: dict[str, Any]) -> str:
    """Tell what was read, and what it took."""
    rows = (
        (
            f"{one['num_logged']:,}",
            f"{one['num_bytes'] / 1e9:.2f}",
            f"{one['num_rows']:,}",
            f"{one['num_labels']:,}",
            f"{one['read_s']:.1f}",
            f"{one['fit_s']:.1f}",
            f"{one['start_mb']:.0f}",
            f"{one['read_peak_mb']:.0f}",
            f"{one['peak_mb']:.0f}",
        )
        for one in result["runs"]
    )
    header = (
        "outcomes", "GB on disk", "training rows", "labels in them", "reading, s", "training, s",
        "MB at start", "MB at the peak of reading", "MB at the peak",
    )  # fmt: skip
    return f"""## Retraining on a long log

Outcomes of {result["num_candidates"]} candidates over {NUM_DAYS} days, each with the
{result["num_features"]} features that the encoders make, normal and so as large on disk as any
can be; nine tenths have a label, a tenth of these a second
one, {NUM_PINNED} questions were asked of every candidate. A fresh process reads the
`{PART}` part and trains, one thread, with the settings of a retrain:
`training_set_from_log`, then `fit_router`. Memory is the largest resident set of that process,
encoders loaded; a retrain on Ray holds the training set in the object store besides. A retrain
learns from {Sample().max_rows:,} rows at most, which is why training stops growing.

{table(header, rows)}
"""


def peak_mb() -> float:
    """Return the largest resident set of this process so far.

    ``ru_maxrss`` would count the parent's at the fork.
    """
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else float("nan")


def main(root: str) -> None:
    """Read and train once, and print what it took."""
    schema = FeatureExtractor.load(ENCODERS).schema
    start_mb, began_s = peak_mb(), time.monotonic()
    training_set = training_set_from_log(
        root, schema_hash=schema.hash, candidate_ids=CANDIDATES, sample=Sample(part=PART)
    )
    read_s, read_peak_mb = time.monotonic() - began_s, peak_mb()
    candidates = [
        Candidate(id=name, price=Price(input_usd_per_mtok=0.1, output_usd_per_mtok=0.4 + m))
        for m, name in enumerate(CANDIDATES)
    ]
    fit_router(training_set, FitConfig(version="scale"), schema=schema, candidates=candidates)
    total_s = time.monotonic() - began_s
    found = {
        "num_rows": len(training_set),
        "num_labels": int(training_set.num_observed().sum()),
        "read_s": read_s,
        "fit_s": total_s - read_s,
        "total_s": total_s,
        "start_mb": start_mb,
        "read_peak_mb": read_peak_mb,
        "peak_mb": peak_mb(),
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
