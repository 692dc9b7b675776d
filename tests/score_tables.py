"""A router that decides by a table of scores; for any test."""

from __future__ import annotations

import numpy as np

from router.candidate import Candidate, Price
from router.floor import DROPS_L, SLACKS_S, Floor
from router.profile import Profile
from router.records import Pool, QueryShape, Routing, Standing
from router.route import Router, route
from router.scores import Scores
from router.utility import Reference

FEATURES_F = np.array([0.5, -1.0], dtype=np.float32)
SHAPE = QueryShape(num_chars=80, num_images=1)
SCHEMA_HASH = "f" * 64


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


def standing(name, refusal=None, *, usd_per_mtok=1.0, **fields):
    """Return one candidate's standing."""
    price = Price(input_usd_per_mtok=usd_per_mtok, output_usd_per_mtok=usd_per_mtok)
    return Standing(candidate=Candidate(id=name, price=price, **fields), refusal=refusal)


def floor(slack):
    """Return a floor under which all is safe up to a slack and nothing beyond it."""
    risk_SL = np.repeat(SLACKS_S[:, None] > slack, len(DROPS_L), axis=1).astype(np.float32)
    return Floor(risk_SL=risk_SL, num_queries=99)


def router(table, *, profiled=None, reference=None, stds=(), floor=None):
    """Return a router that scores from a table and knows all in it, or only ``profiled``."""
    names = table if profiled is None else profiled
    return Router(
        version="7",
        feature_schema_hash=SCHEMA_HASH,
        scorer=TableScorer(table, stds),
        profiles={name: profile(name) for name in names},
        reference=reference or Reference(),
        floor=floor,
    )


def decide(one, standings, *, seed=0, **wishes):
    """Route the standard query."""
    return route(
        one,
        FEATURES_F,
        SHAPE,
        pool=Pool(standings=tuple(standings)),
        routing=Routing(**wishes),
        decision_id="d1",
        seed=seed,
    )


TABLE = {"a": (0.4, 0.001, 1.0), "b": (0.9, 0.004, 4.0), "c": (0.7, 0.002, 2.0)}
"""Quality, cost in USD and latency in seconds."""

ABC = tuple(standing(name) for name in TABLE)
"""Three candidates that are available."""
