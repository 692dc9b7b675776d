"""A scorer that looks candidates up in a table, and profiles to go with it; for any test."""

from __future__ import annotations

import numpy as np

from router.profile import Profile
from router.scores import Scores


class TableScorer:
    """Scores each candidate from a table: quality, cost in USD and latency in seconds by id."""

    def __init__(self, table, stds=()):
        """Take the tables; no call yet."""
        self.table = table
        self.stds = dict(stds)
        self.calls = []

    def score(self, features_F, *, num_chars, num_images, candidates, profiles):
        """Look the candidates up and note what was asked."""
        assert all(candidate.id in profiles for candidate in candidates)
        self.calls.append((features_F, num_chars, num_images, candidates))
        rows_M3 = np.array([self.table[candidate.id] for candidate in candidates]).reshape(-1, 3)
        return Scores(
            quality_mean_M=rows_M3[:, 0],
            quality_std_M=np.array([self.stds.get(c.id, 0.1) for c in candidates]),
            cost_usd_M=rows_M3[:, 1],
            latency_s_M=rows_M3[:, 2],
        )


def profile(name):
    """Return the profile of a candidate of whom nothing was seen."""
    return Profile(
        candidate_id=name,
        kinds_hash="k",
        quality_K=(0.5,),
        num_observed_K=(0.0,),
        output_tokens_K=(128.0,),
        token_R=(0.0,),
        token_std_K=(0.1,),
    )
