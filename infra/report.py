"""Lay out what the main job came to: tables for the terminal and Markdown, and a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from pathlib import Path

    from infra.demo_result import DemoResult

COLUMNS = ("policy", "quality", "cost per 1,000", "p50", "p99")


def table_cells(result: DemoResult) -> list[tuple[str, ...]]:
    """Return the result table's cells, a tuple per policy."""
    return [
        (
            row.name,
            f"{row.quality:.1%}",
            f"${row.mean_cost_usd * 1000:.4f}",
            f"{row.latency_p50_s * 1000:.0f} ms",
            f"{row.latency_p99_s * 1000:.0f} ms",
        )
        for row in result.rows
    ]


def print_table(result: DemoResult) -> None:
    """Print the result table."""
    table = Table(title=f"{result.num_questions} fresh questions through HTTP")
    for i, column in enumerate(COLUMNS):
        table.add_column(column, justify="right" if i else "left")
    for cells in table_cells(result):
        table.add_row(*cells, style="bold" if cells[0] == "auto" else None)
    Console().print(table)
    gain, low, high = result.gain
    Console().print(
        f"  auto is {gain:+.1%} against the best single candidate (95 % {low:+.1%} to {high:+.1%})"
    )


def print_memory(result: DemoResult) -> None:
    """Print which processes took what at the peak."""
    table = Table(title=f"Memory at the peak: {result.peak_memory_mb / 1024:.1f} GB")
    for i, column in enumerate(("process", "count", "MB")):
        table.add_column(column, justify="right" if i else "left")
    for kind, (count, size_mb) in memory_cells(result):
        table.add_row(kind, str(count), f"{size_mb:.0f}")
    Console().print(table)


def memory_cells(result: DemoResult) -> list[tuple[str, tuple[int, float]]]:
    """Return processes by falling size."""
    return sorted(result.memory_by_kind.items(), key=lambda item: -item[1][1])


def frontier_picture(result: DemoResult, path: Path) -> None:
    """Draw quality over cost: the router at each cost weight, and every candidate alone."""
    import matplotlib as mpl  # noqa: PLC0415 - takes a second

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - matplotlib takes a second to import

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    axes.plot(
        [cost * 1000 for _, cost, _ in result.curve],
        [quality for _, _, quality in result.curve],
        "o-",
        label="auto, cost_weight 0 to 1",
    )
    for weight, cost, quality in result.curve:
        axes.annotate(
            f"{weight:g}", (cost * 1000, quality), textcoords="offset points", xytext=(5, 5)
        )
    for row in result.rows:
        if row.name not in ("auto", "random"):
            marker = "*" if row.name == "oracle" else "s"
            axes.plot(row.mean_cost_usd * 1000, row.quality, marker, label=row.name)
    axes.set(xlabel="mean cost, USD per 1,000 questions", ylabel="share of right answers")
    axes.set_ylim(0, 1)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)
