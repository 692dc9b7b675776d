"""Write the evidence of the main job: ``python -m infra.evidence.main_job --ci-log FILE``.

Run it where ``make demo`` has just ended and left the system up. It takes the demo's result, swaps
pictures, drills the pool, runs the client tests against the system, and reads CI's output; without
it the page keeps the lines on tests that it has.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra import services
from infra.demo import CONFIG, FOLDER
from infra.demo_result import DemoResult
from infra.evidence.entry import FOLDER as EVIDENCE
from infra.evidence.entry import Entry, by_line, write_page
from infra.evidence.image_decides import SwapResult, measure
from infra.evidence.parts import table, verdicts
from infra.evidence.pool_drill import Drill, run_drill
from infra.policies import PolicyRow
from infra.provenance import commit, conditions
from infra.report import COLUMNS, memory_cells, table_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_DEMO_S = 600.0
MAX_MEMORY_GB = 18.0
MIN_GAIN = 0.10
MIN_ORACLE_SHARE = 0.90
MIN_COVERAGE = 95.0
CURVE_NOISE = 0.03
"""Two standard errors of a share of 0.9 over 400 questions."""

MEASURE = "python -m infra.evidence.main_job"
TESTS = "bash .ci/run, from a clean clone"
"""What measures the lines on tests, which cannot run beside the running system."""


def read_result() -> tuple[DemoResult, float]:
    """Return what ``make demo`` wrote, and its duration with set-up."""
    raw = json.loads((FOLDER / "result.json").read_text())
    total_s = raw.pop("total_s")
    raw["rows"] = [PolicyRow(**row) for row in raw["rows"]]
    return DemoResult(**raw), total_s


def demo_entries(result: DemoResult, total_s: float) -> list[Entry]:
    """Return the lines on time, memory, quality and cost."""
    row = {r.name: r for r in result.rows}
    auto, oracle, generalist = row["auto"], row["oracle"], row["generalist"]
    gain, low, _ = result.gain
    drops = _drops(result.curve)

    def entry(line: str, figure: float, unit: str, bar: str, *, holds: bool) -> Entry:
        return Entry(
            line=line,
            figure=round(figure, 4),
            unit=unit,
            bar=bar,
            holds=holds,
            command="make demo",
            commit=result.commit,
        )

    memory_gb = result.peak_memory_mb / 1024
    saved = 1 - auto.mean_cost_usd / generalist.mean_cost_usd
    return [
        entry("A1", total_s, "s, set-up included", "at most 600", holds=total_s <= MAX_DEMO_S),
        entry("A1", memory_gb, "GB at the peak", "under 18", holds=memory_gb < MAX_MEMORY_GB),
        entry(
            "A2",
            gain * 100,
            f"points over best single (95 % from {low:.1%})",
            "10 or more",
            holds=gain >= MIN_GAIN,
        ),
        entry(
            "A2",
            auto.quality / oracle.quality * 100,
            "% of the oracle",
            "90 or more",
            holds=auto.quality >= MIN_ORACLE_SHARE * oracle.quality,
        ),
        entry("A2", saved * 100, "% cheaper than the generalist", "above 0", holds=saved > 0),
        entry(
            "A2",
            drops,
            "largest rise of quality with a higher cost weight",
            f"at most {CURVE_NOISE} (noise)",
            holds=drops <= CURVE_NOISE,
        ),
    ]


def _drops(curve: Sequence[Sequence[float]]) -> float:
    """Return how far quality rises although the cost weight does; 0 where monotone."""
    qualities = [quality for _, _, quality in curve]
    return max(0.0, *(b - a for a, b in pairwise(qualities)))


def live_entries(
    swap: SwapResult, drill: Drill, clients: str, *, clients_pass: bool
) -> list[Entry]:
    """Return the lines that were measured on the running system."""
    measured_at = commit()

    def entry(line: str, figure: float, unit: str, bar: str, *, holds: bool) -> Entry:
        return Entry(
            line=line,
            figure=round(figure, 4),
            unit=unit,
            bar=bar,
            holds=holds,
            command=MEASURE,
            commit=measured_at,
        )

    num_passed = int(found.group(1)) if (found := re.search(r"(\d+) passed", clients)) else 0
    return [
        entry(
            "A3",
            swap.answers_follow,
            "of swapped questions answered right for the picture shown",
            f"above {swap.answers_stay:.3f}, the share answered for the picture taken away",
            holds=swap.answers_follow > swap.answers_stay,
        ),
        entry(
            "A3",
            swap.routes_follow,
            "of swapped questions routed as their picture",
            f"above {swap.routes_stay:.3f}, the share routed as their wording's own picture",
            holds=swap.routes_follow > swap.routes_stay,
        ),
        entry(
            "A3",
            swap.auto_quality,
            "right on neutrally worded questions",
            f"above the best single candidate's {swap.best_single_quality:.3f}",
            holds=swap.auto_quality > swap.best_single_quality,
        ),
        entry("A4", drill.num_failed, "failed requests", "0", holds=drill.num_failed == 0),
        entry("A5", num_passed, "client tests passed", "all", holds=clients_pass),
    ]


def ci_entries(log: Path) -> list[Entry]:
    """Return the lines on tests and coverage, read from the output of ``.ci/run``."""
    text = log.read_text(errors="replace")
    closing = re.findall(r"=+ (.*\d+ passed.*) =+", text)
    covered = re.findall(r"Total coverage: ([\d.]+)%", text)
    failed = not closing or any("failed" in line or "error" in line for line in closing)
    coverage = float(covered[-1]) if covered else 0.0
    passed = re.search(r"(\d+) passed", closing[-1]) if closing else None

    def entry(figure: float, unit: str, bar: str, *, holds: bool) -> Entry:
        return Entry(
            line="A6",
            figure=figure,
            unit=unit,
            bar=bar,
            holds=holds,
            command=TESTS,
            commit=commit(),
        )

    is_whole = "== test: passed in" in text
    return [
        entry(
            float(passed.group(1)) if passed else 0.0,
            "tests passed, none failed",
            "all, and make check",
            holds=not failed and is_whole,
        ),
        entry(coverage, "% of router/ covered", "95 or more", holds=coverage >= MIN_COVERAGE),
    ]


def kept_ci_entries(page: Path = EVIDENCE / "main-job.json") -> list[Entry]:
    """Return the lines on tests as the page had them, with the commit that was tested."""
    if not page.exists():
        return []
    entries = [Entry(**row) for row in json.loads(page.read_text())]
    return [replace(entry, line="A6") for entry in entries if entry.command == TESTS]


def client_tests() -> tuple[str, bool]:
    """Run the client tests against the running system and return their output."""
    command = [sys.executable, "-m", "pytest", "-v", "--no-cov", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "tests/e2e/test_clients.py"],
        cwd=services.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout, done.returncode == 0


def page(
    result: DemoResult, swap: SwapResult, drill: Drill, clients: str, entries: Sequence[Entry]
) -> str:
    """Return the evidence page."""
    tests = "\n".join(line for line in clients.splitlines() if "::" in line or "passed" in line)
    return f"""# The main job

Measured at commit `{result.commit}` on {conditions()}, with `make demo` and then
`{MEASURE}` in the same clean clone.{_tested_at(entries)}

{verdicts(entries)}

{_demo_section(result)}
{_swap_section(swap)}
{_drill_section(drill)}
## Clients

```
{tests}
```
"""


def _tested_at(entries: Sequence[Entry]) -> str:
    commits = sorted({f"`{entry.commit}`" for entry in entries if entry.command == TESTS})
    return f" Tests: `.ci/run` at {', '.join(commits)}." if commits else ""


def _demo_section(result: DemoResult) -> str:
    memory = table(
        ("process", "count", "MB"),
        ((kind, str(count), f"{mb:.0f}") for kind, (count, mb) in memory_cells(result)),
    )
    curve = table(
        ("cost_weight", "mean cost per 1,000", "quality"),
        ((f"{w:g}", f"${c * 1000:.4f}", f"{q:.1%}") for w, c, q in result.curve),
    )
    return f"""## Time and memory

Proportional set size (a page shared by n processes counts 1/n in each), sampled every 5 s from
the first process to the result table; the peak.

{memory}

## Quality, cost and latency

{result.num_questions} fresh questions, each asked of `auto` (`cost_weight` 0) and of every
candidate through HTTP, four at a time. `random` and `oracle` are computed from the candidates' own
answers; the oracle takes the cheapest right answer. Prices are those of the local config.

{table(COLUMNS, table_cells(result))}

{curve}

![Quality over cost](main-job-frontier.png)
"""


def _swap_section(swap: SwapResult) -> str:
    return f"""## The image decides

{swap.num_swapped} neutrally worded questions ("What is the answer?"), each asked with its own
picture and with one from another speciality. {swap.answers_follow:.1%} of the swapped questions
are answered right for the picture shown, {swap.answers_stay:.1%} as if the old picture were still
there. Of the {swap.num_differing} swaps whose two own questions go to different candidates,
{swap.routes_follow:.1%} are routed as the picture's own question and {swap.routes_stay:.1%} as the
wording's. With their own pictures, neutral questions are answered right in {swap.auto_quality:.1%}
of cases by `auto`, {swap.best_single_quality:.1%} by the best single candidate
({swap.best_single}), {swap.oracle_quality:.1%} by the oracle.
"""


def _drill_section(drill: Drill) -> str:
    acts = table(("second", "act"), ((f"{at:.0f}", what) for at, what in drill.phases))
    states = table(
        ("from s", "to s", "state", "requests"),
        ((f"{a:.1f}", f"{b:.1f}", state, str(n)) for a, b, state, n in drill.states()),
    )
    return f"""## A pool that moves

`{drill.candidate}` was scaled to zero and back, removed and added again by editing the YAML and
`serve deploy`, while 5 requests/s went to `auto`: {len(drill.served)} requests,
{drill.num_failed} failed, {sum(s.num_attempts > 1 for s in drill.served)} answered after a
fallback, slowest {max(s.latency_s for s in drill.served):.2f} s.

{acts}

How the candidate stood, by the receipts of the requests sent in that time:

{states}
"""


def main(ci_log: Annotated[Path | None, typer.Option(help="Output of .ci/run.")] = None) -> None:
    """Measure on the running system and write docs/evidence/main-job.md and .json."""
    result, total_s = read_result()
    swap = measure()
    clients, clients_pass = client_tests()
    drill = run_drill(CONFIG)
    entries: list[Any] = demo_entries(result, total_s)
    entries += live_entries(swap, drill, clients, clients_pass=clients_pass)
    entries += ci_entries(ci_log) if ci_log else kept_ci_entries()
    entries = by_line(entries)
    write_page("main-job", page(result, swap, drill, clients, entries), entries)
    shutil.copy(FOLDER / "frontier.png", EVIDENCE / "main-job-frontier.png")
    for entry in entries:
        mark = "✓" if entry.holds else "✗"
        typer.echo(f"{mark} {entry.line}  {entry.figure:g} {entry.unit}  ({entry.bar})")
    if not all(entry.holds for entry in entries):
        raise SystemExit(1)


if __name__ == "__main__":
    typer.run(main)
