"""Step 8, one candidate's profile as a picture: quality by kind of query, with intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import beta

if TYPE_CHECKING:
    from router.profile import Profile

CONFIDENCE = 0.95


def quality_interval(
    quality: float, num_observed: float, *, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Return Jeffreys' interval of a mean quality from an effective number of outcomes.

    For labels of 0 and 1 it is the equal-tailed posterior under the prior Beta(1/2, 1/2); labels
    between them spread less, so that it is then wider than need be. Without an outcome it is
    nearly all of 0 to 1.
    """
    tail = (1 - confidence) / 2
    wins, losses = quality * num_observed + 0.5, (1 - quality) * num_observed + 0.5
    low, high = beta.ppf([tail, 1 - tail], wins, losses)
    return min(float(low), quality), max(float(high), quality)


def profile_figure(profile: Profile, *, router_version: str) -> Figure:
    """Return the picture of a profile: a dot and an interval for each kind, and its outcomes.

    Kinds without an outcome have an interval and no dot.
    """
    # A figure of its own, not pyplot's: nothing global is left open.
    figure = Figure(figsize=(max(5.0, 0.45 * profile.num_kinds + 2.0), 3.6), layout="constrained")
    axes = figure.add_subplot()
    kinds = np.arange(profile.num_kinds)
    quality_K, count_K = np.array(profile.quality_K), np.array(profile.num_observed_K)
    low_K, high_K = np.transpose(
        [quality_interval(q, n) for q, n in zip(quality_K, count_K, strict=True)]
    )
    seen_K = count_K > 0
    axes.vlines(kinds, low_K, high_K, color=np.where(seen_K, "tab:blue", "lightgrey"))
    axes.plot(kinds[seen_K], quality_K[seen_K], "o", color="tab:blue", label="observed mean")
    axes.axhline(profile.quality, color="grey", linestyle=":", label="over all kinds")
    labels = [f"{kind}\n{count:.0f}" for kind, count in zip(kinds, count_K, strict=True)]
    axes.set_xticks(kinds, labels)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("kind of query, and its effective number of outcomes")
    axes.set_ylabel(f"quality, {CONFIDENCE:.0%} interval")
    axes.set_title(f"{profile.candidate_id}, under router version {router_version}")
    axes.legend(loc="lower right", fontsize="small")
    return figure
