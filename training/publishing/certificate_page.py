"""Step 8, retrain: a certificate as one HTML page that needs nothing else.

Equal certificates give equal pages, to the byte.
"""

from __future__ import annotations

import io
from html import escape
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from router.certificate import Certificate, Estimate, Evidence

PASSED, FAILED = "#1a7f37", "#b42318"

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #1f2328; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1.5rem; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #d8dee4;
         vertical-align: top; overflow-wrap: anywhere; }
th { font-weight: 600; }
.passed { color: #1a7f37; font-weight: 600; } .failed { color: #b42318; font-weight: 600; }
svg { max-width: 100%; height: auto; }
"""


def certificate_page(certificate: Certificate) -> str:
    """Return the page."""
    found = certificate.evidence
    verdict = "passed" if certificate.passed else "failed"
    title = f"Certificate of {found.versions.challenger}"
    body = [
        f"<h1>{escape(title)}: <span class='{verdict}'>{verdict}</span></h1>",
        _summary(found),
        "<h2>Gates</h2>",
        _gates(certificate),
        f"<h2>Gain over the {escape(found.rival.replace('_', ' '))} and by slice</h2>",
        interval_figure(_gains(found), "gain of quality, 95 % interval"),
        "<h2>Values by estimator</h2>",
        _values(found),
        "<h2>Choices</h2>",
        _choices(found),
        "<h2>Calibration</h2>",
        _calibration(found),
        "<h2>Limits</h2>",
        _table(("limit", "value"), ((k, str(v)) for k, v in certificate.gate_config.items())),
    ]
    return (
        f"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>{escape(title)}"
        f"</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def interval_figure(estimates: Sequence[tuple[str, Estimate]], label: str) -> str:
    """Draw estimates with their intervals, one below the other, as SVG."""
    figure = Figure(figsize=(8, 1 + 0.3 * len(estimates)), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    for place, (_, found) in enumerate(estimates):
        colour = PASSED if found.low > 0 else FAILED if found.high < 0 else "#57606a"
        axes.plot([found.low, found.high], [place, place], color=colour, linewidth=2)
        axes.plot([found.value], [place], "o", color=colour, markersize=5)
    axes.axvline(0, color="#1f2328", linewidth=0.8)
    axes.set_yticks(range(len(estimates)), [name for name, _ in estimates], parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel(label)
    axes.grid(visible=True, axis="x", alpha=0.25)
    axes.spines[["top", "right", "left"]].set_visible(False)
    with mpl.rc_context({"svg.hashsalt": "pointsman", "svg.fonttype": "none"}):
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    text = drawn.getvalue()
    return text[text.index("<svg") :]


def _gains(found: Evidence) -> list[tuple[str, Estimate]]:
    gains = [(f"over {name.replace('_', ' ')}", gain) for name, gain in found.differences.items()]
    gains.append((f"over {found.rival.replace('_', ' ')}, clipped", found.clipped_difference))
    if found.trusted_difference is not None:
        gains.append(("by trusted labels", found.trusted_difference))
    return gains + [(part.name, part.difference) for part in found.slices]


def _summary(found: Evidence) -> str:
    data, times, parity = found.dataset, found.decision_time, found.parity
    left_out = ", ".join(f"{reason} {n}" for reason, n in data.left_out.items() if n) or "none"
    compared = "" if times.ratio is None else f", {times.ratio:.2f} of the champion's"
    slowest = f"95th percentile {times.challenger_p95_s * 1e3:.3f} ms"
    golden = "not compared" if parity.golden_difference is None else (
        f"{parity.num_golden} inputs, largest difference {parity.golden_difference:.2g}"
    )  # fmt: skip
    return _table(
        (),
        (
            ("artifact", found.manifest_sha256),
            ("created", found.created_at),
            ("champion", found.versions.champion or "none serves yet"),
            ("best single candidate", found.versions.best_single),
            ("held-out rows", f"{data.num_rows}, of which {data.num_evaluated} can tell policies"),
            ("left out", left_out),
            ("labels", f"{data.num_labels}; {data.num_trusted} rows with a trusted one"),
            ("from, to", f"{data.first_time or 'unknown'}, {data.last_time or 'unknown'}"),
            ("weights", f"cost {found.cost_weight:g}, latency {found.latency_weight:g}"),
            (
                "decision time",
                f"median {times.challenger_p50_s * 1e3:.3f} ms{compared}; {slowest}",
            ),
            ("golden features", golden),
            ("feature schema", parity.feature_schema_hash),
        ),
    )


def _gates(certificate: Certificate) -> str:
    rows = (
        f"<tr><td class='{'passed' if gate.passed else 'failed'}'>"
        f"{'passed' if gate.passed else 'failed'}</td><td>{escape(gate.name)}</td>"
        f"<td>{escape(gate.reason)}</td></tr>"
        for gate in sorted(certificate.gates, key=lambda gate: gate.passed)
    )
    return (
        "<table><tr><th></th><th>gate</th><th>figure and limit</th></tr>"
        + "".join(rows)
        + "</table>"
    )


def _values(found: Evidence) -> str:
    return _table(
        ("policy", "estimator", "value", "95 % interval", "effective rows"),
        (
            (
                name.replace("_", " "),
                estimator.upper(),
                f"{value.value:.4f}",
                f"{value.low:.4f} to {value.high:.4f}",
                f"{value.effective_rows:.0f} of {value.num_rows}",
            )
            for name, by_estimator in found.values.items()
            for estimator, value in by_estimator.items()
        ),
    )


def _choices(found: Evidence) -> str:
    champion: Mapping[str, float] = found.choices.champion or {}
    bias = found.source_bias
    rows = [
        (
            name,
            f"{share:.1%}",
            f"{champion[name]:.1%}" if name in champion else "",
            str(bias[name]) if name in bias else "",
        )
        for name, share in found.choices.challenger.items()
    ]
    heads = ("candidate", "challenger", "champion", "untrusted less trusted score")
    return _table(heads, rows)


def _calibration(found: Evidence) -> str:
    return _table(
        ("candidate", "error", "by chance", "labels"),
        (
            (name, f"{c.error:.4f}", f"{c.by_chance:.4f}", str(c.num_labels))
            for name, c in found.calibration.items()
        ),
    )


def _table(heads: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    lines = (
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>" for cells in rows
    )
    return "<table>" + (f"<tr>{head}</tr>" if head else "") + "".join(lines) + "</table>"
