"""Evidence of the outcome log: rows a second, what recording costs a request, the S3 protocol."""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import json
import re
import statistics
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any

from infra import services
from infra.evidence.learning.log_requests import Load, measure_requests
from infra.evidence.parts import figure, table
from monitoring.log_rate import measure_rate
from router.features.extract import FeatureExtractor

if TYPE_CHECKING:
    from pathlib import Path

    from infra.evidence.entry import Entry

ENCODERS = services.ROOT / ".cache" / "encoders"
FOLDER = services.RUN / "evidence" / "log"
TESTS = services.ROOT / "tests" / "integration"
S3_TESTS = ("test_outcome_log_store.py", "test_outcome_log_outage.py")
MIN_ROWS_PER_S = 20_000
MAX_COST_SHARE = 0.02
NUM_RATES = 3


def run() -> dict[str, Any]:
    """Measure the writer, the requests with and without it, and run the tests of the store."""
    extractor = FeatureExtractor.load(ENCODERS)
    num_features = extractor.schema.num_features
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as name:
        folder = services.ROOT / name
        rates = []
        for turn in range(NUM_RATES):
            rate = measure_rate(
                folder / f"log-{turn}", spool=folder / "spool", num_features=num_features
            )
            rates.append(dataclasses.asdict(rate) | {"rows_per_core_s": rate.rows_per_core_s})
        loads = asyncio.run(measure_requests(extractor, folder))
    return {
        "num_features": num_features,
        "rates": rates,
        "loads": [dataclasses.asdict(load) for load in loads],
        "s3": _s3_checks(),
    }


def _s3_checks() -> list[dict[str, Any]]:
    """Run each test of the log over HTTP against an S3 server, and say how it ended."""
    checks = []
    for name in S3_TESTS:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-v",
                "--no-cov",
                "-p",
                "no:cacheprovider",
                TESTS / name,
            ],
            cwd=services.ROOT,
            env=services.environment(),
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        claims = _claims(TESTS / name)
        for test, kind, status in re.findall(r"::(\w+)(?:\[(\w+)\])? (\w+)", done.stdout):
            if kind in ("", "s3") and status in ("PASSED", "FAILED", "ERROR"):
                checks.append({"claim": claims[test], "name": test, "passed": status == "PASSED"})
    return checks


def _claims(path: Path) -> dict[str, str]:
    """Return the one-sentence claim of each test of a file."""
    return {
        node.name: (ast.get_docstring(node) or node.name).partition("\n")[0]
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def _loads(result: dict[str, Any]) -> dict[str, Load]:
    return {load["name"]: Load(**load) for load in result["loads"]}


def lines(result: dict[str, Any]) -> list[Entry]:
    """Return the lines on rate, cost and store."""
    middle = statistics.median(rate["rows_per_core_s"] for rate in result["rates"])
    share = _loads(result)["picture"].cost_share
    failed = [check["name"] for check in result["s3"] if not check["passed"]]
    return [
        figure(
            "C6",
            middle,
            f"rows/s of one writer on one core, {result['num_features']} features, median of "
            f"{len(result['rates'])} turns",
            f"{MIN_ROWS_PER_S:,} or more",
            holds=middle >= MIN_ROWS_PER_S,
        ),
        figure(
            "C6",
            share * 100,
            "% of the throughput of questions with a picture, embedded and answered at once",
            "under 2",
            holds=share < MAX_COST_SHARE,
        ),
        figure(
            "C6",
            len(failed),
            f"of {len(result['s3'])} checks over the S3 protocol failed",
            "0",
            holds=bool(result["s3"]) and not failed,
        ),
    ]


def _rates_table(result: dict[str, Any]) -> str:
    return table(
        ("rows", "rows/s and core", "append, µs", "spool, µs", "commit, µs", "wall clock, s"),
        (
            (
                f"{rate['num_rows']:,}",
                f"{rate['rows_per_core_s']:,.0f}",
                *(
                    f"{rate[f'{step}_s'] / rate['num_rows'] * 1e6:.1f}"
                    for step in ("append", "spool", "commit")
                ),
                f"{rate['elapsed_s']:.1f}",
            )
            for rate in result["rates"]
        ),
    )


def _loads_table(result: dict[str, Any]) -> str:
    return table(
        ("request", "requests", "without, ms", "with, ms", "recording, µs", "share"),
        (
            (
                load.name,
                f"{load.num_requests:,}",
                f"{load.without_s / load.num_requests * 1e3:.3f}",
                f"{load.recorded_s / load.num_requests * 1e3:.3f}",
                f"{load.recording_s / load.num_requests * 1e6:.0f}",
                f"{load.cost_share:.1%}",
            )
            for load in _loads(result).values()
        ),
    )


def section(result: dict[str, Any]) -> str:
    """Tell what was written, by whom, and against what."""
    checks = table(
        ("over HTTP", "passed"),
        ((check["claim"], "yes" if check["passed"] else "**no**") for check in result["s3"]),
    )
    return f"""## The outcome log

Seconds are of the processor, of all threads of the writing process, so that other work on the
machine does not count. Each row has {result["num_features"]} normal float32.

{_rates_table(result)}

What recording costs a request: a FastAPI application in one process, called without a socket,
alternately with and without `OutcomeRecorder`, whose threads bring rows to spool and segments
meanwhile. *recording* is what the recorder's call and all threads but the application's own took.
All requests parse their body as the ingress does and answer at once. *bare* does no
more, which no request of Pointsman's is: it shows the cost at its largest. *text* embeds a
question, *picture* decodes and embeds a picture of 640 x 480 besides, neither seen before, as
every routed request must. *picture* is the denominator of the line. A real request also has an
HTTP server, two hops between processes, a decision and a candidate, so recording is a smaller
share of it. One request comes after the other, so that most rows have a frame of the spool and a
wake-up of its thread to themselves.

{_loads_table(result)}

The store over the S3 protocol, against moto's server, which is no S3: it answers one request at a
time. Each check is a test in [tests/integration](../../tests/integration).

{checks}
"""


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(), indent=1) + "\n")
