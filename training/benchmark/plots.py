"""Results of the protocol come in, a picture of each pool's frontiers goes out.

Axis legend: L = cost weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from training.benchmark.metrics import envelope

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from training.benchmark.metrics import CostKind, CurvePoint
    from training.benchmark.protocol import PoolResult

PANELS: tuple[tuple[CostKind, str], ...] = (
    ("realised_usd", "realised"),
    ("predicted_usd", "predicted"),
)
_LABEL_GAP = 0.045
"""Least distance of two labels, as a share of the height."""

_REFERENCES = {"best_single", "oracle"}
"""Rivals that are drawn as the protocol's own two points."""


class _Curve(NamedTuple):
    """One policy's line, and the point at which its name is tied."""

    name: str
    cost: list[float]
    quality: list[float]
    colour: object


def frontier_figure(result: PoolResult, router: str) -> Figure:
    """Draw quality over cost of every rival, once for each kind of cost.

    A line is the envelope of the sweep, whose points are means over the seeds at one cost weight;
    the router under test is the heavy one. Crosses mark the best single candidate and the oracle.

    Args:
        result: Of a pool with costs.
        router: Name of the rival under test.
    """
    figure = Figure(figsize=(13, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (kind, title) in zip(figure.subplots(1, 2, sharey=True), PANELS, strict=True):
        curves = _curves(result, kind)
        for curve in curves:
            is_router = curve.name == router
            axes.plot(
                np.multiply(curve.cost, 1000),
                np.multiply(curve.quality, 100),
                marker="X" if curve.name in _REFERENCES else "o",
                markersize=9 if curve.name in _REFERENCES else 3,
                linewidth=2.8 if is_router else 1.2,
                zorder=3 if is_router else 2,
                color=curve.colour,
            )
        _label(axes, curves, router)
        if _spans_a_decade(curves):
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set(title=f"{result.pool}, {title} cost", xlabel="mean cost, USD per 1,000 queries")
        axes.grid(visible=True, alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("mean quality, %")
    return figure


def write_frontiers(results: Sequence[PoolResult], router: str, folder: Path) -> list[Path]:
    """Write ``frontier-<pool>.png`` for each pool with costs; return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for result in results:
        if result.has_costs:
            paths.append(folder / f"frontier-{result.pool}.png")
            frontier_figure(result, router).savefig(paths[-1], dpi=120)
    return paths


def _curves(result: PoolResult, kind: CostKind) -> list[_Curve]:
    # Even places of the palette are strong, odd ones pale: the strong first.
    palette = [mpl.colormaps["tab20"](i) for i in (*range(0, 20, 2), *range(1, 20, 2))]
    curves = []
    names = [rival.name for rival in result.seeds[0].rivals]
    for place, name in enumerate(names):
        if name in _REFERENCES:
            continue
        sweeps = [seed.rivals[place].sweep for seed in result.seeds]
        means = [_mean_point(at_weight, kind) for at_weight in zip(*sweeps, strict=True)]
        cost_P, quality_P = envelope(*zip(*means, strict=True))
        colour = palette[place % len(palette)]
        curves.append(_Curve(name, cost_P.tolist(), quality_P.tolist(), colour))
    for name in sorted(_REFERENCES):
        points = [getattr(seed, name).point for seed in result.seeds]
        cost, quality = _mean_point(points, kind)
        curves.append(_Curve(name, [cost], [quality], "black"))
    return curves


def _mean_point(points: Sequence[CurvePoint], kind: CostKind) -> tuple[float, float]:
    return (
        float(np.mean([getattr(point, kind) for point in points])),
        float(np.mean([point.quality for point in points])),
    )


def _spans_a_decade(curves: Sequence[_Curve]) -> bool:
    """Tell whether costs need a logarithmic axis, and have one."""
    costs = [cost for curve in curves for cost in curve.cost]
    return min(costs) > 0 and max(costs) / min(costs) > 10  # noqa: PLR2004 - one decade


def _label(axes: Axes, curves: Sequence[_Curve], router: str) -> None:
    """Write each name to the right, tied to the dearest point of its line, none upon another."""
    low, high = axes.get_ylim()
    wanted = [(100 * curve.quality[-1] - low) / (high - low) for curve in curves]
    for curve, height in zip(curves, spread(wanted, _LABEL_GAP), strict=True):
        axes.annotate(
            curve.name,
            (1000 * curve.cost[-1], 100 * curve.quality[-1]),
            xytext=(1.03, height),
            textcoords="axes fraction",
            va="center",
            fontsize=9,
            fontweight="bold" if curve.name == router else "normal",
            color=curve.colour,
            arrowprops={"arrowstyle": "-", "color": curve.colour, "lw": 0.5, "alpha": 0.6},
        )


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Return heights near the wanted ones, in their order, no two closer than ``gap``.

    Runs of labels that would touch are centred on the mean of what they want.
    """
    order = np.argsort(wanted, kind="stable")
    runs: list[list[float]] = []
    for height in np.asarray(wanted, dtype=float)[order]:
        runs.append([height])
        while len(runs) > 1 and _top(runs[-2], gap) + gap > _bottom(runs[-1], gap):
            last = runs.pop()
            runs[-1] += last
    placed = [_bottom(run, gap) + gap * i for run in runs for i in range(len(run))]
    heights = np.empty(len(placed))
    heights[order] = placed
    return heights.tolist()


def _bottom(run: Sequence[float], gap: float) -> float:
    return float(np.mean(run)) - gap * (len(run) - 1) / 2


def _top(run: Sequence[float], gap: float) -> float:
    return float(np.mean(run)) + gap * (len(run) - 1) / 2
