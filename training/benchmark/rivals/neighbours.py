"""Rivals that average the scores of similar past queries.

Axis legend: N = queries, D = features, M = candidates, K = neighbours, C = clusters.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import NearestNeighbors as SklearnNeighbors

from training.benchmark.rivals.rows import Known, candidate_means, known, squared_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.benchmark.rivals.rival import RivalRows

PSEUDO_ROWS = 2.0
"""Rows with the candidate's own mean that every local average holds besides the observed ones."""

NUM_STARTS = 3
"""Starts of k-means, of which the tightest is kept."""


def _shrunk(
    total: NDArray[np.float64], count: NDArray[np.float64], mean_M: NDArray[np.float64]
) -> NDArray[np.float64]:
    shrunk: NDArray[np.float64] = (total + PSEUDO_ROWS * mean_M) / (count + PSEUDO_ROWS)
    return shrunk


@dataclass(frozen=True, slots=True, kw_only=True)
class NearestNeighbours:
    """The mean observed score among the k nearest past queries, by Euclidean distance."""

    name: str = "knn"
    """How tables call it."""

    num_neighbours: tuple[int, ...] = (8, 16, 32, 64, 128)
    """Values of k, of which the validation rows choose one by squared error."""

    def fit(self, train: RivalRows, validation: RivalRows, *, seed: int) -> FittedNeighbours:  # noqa: ARG002 - nothing is drawn
        """Choose k, then remember both sets of rows."""
        past = known(train)
        trial = FittedNeighbours.remember(past, max(self.num_neighbours))
        index_NK = trial.nearest(validation.projected_ND)
        errors = [
            squared_error(trial.average(index_NK[:, :k]), validation.score_NM)
            for k in self.num_neighbours
        ]
        best = self.num_neighbours[int(np.argmin(errors))]
        return FittedNeighbours.remember(known(train, validation), best)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FittedNeighbours:
    """Past queries with their scores."""

    index: Any
    """scikit-learn's search structure."""

    num_neighbours: int
    filled_NM: NDArray[np.float64]
    """Scores, 0 where not observed."""

    observed_NM: NDArray[np.bool_]
    mean_M: NDArray[np.float64]

    @classmethod
    def remember(cls, past: Known, num_neighbours: int) -> FittedNeighbours:
        """Index the rows; k is at most their number."""
        observed_NM = np.isfinite(past.score_NM)
        return cls(
            index=SklearnNeighbors().fit(past.feature_ND),
            num_neighbours=min(num_neighbours, len(past.feature_ND)),
            filled_NM=np.where(observed_NM, past.score_NM, 0.0),
            observed_NM=observed_NM,
            mean_M=candidate_means(past.score_NM),
        )

    def nearest(self, feature_ND: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the past rows nearest to each query, nearest first, (N, K)."""
        if not len(feature_ND):
            return np.empty((0, self.num_neighbours), dtype=np.int64)
        index_NK: NDArray[np.int64] = self.index.kneighbors(
            feature_ND, n_neighbors=self.num_neighbours, return_distance=False
        )
        return index_NK

    def average(self, index_NK: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the shrunk means of what was observed among the given past rows, (N, M)."""
        # By candidate, because the whole (N, K, M) gather takes 200 MB at M = 60.
        columns = [
            _shrunk(filled_N[index_NK].sum(axis=1), observed_N[index_NK].sum(axis=1), mean)
            for filled_N, observed_N, mean in zip(
                self.filled_NM.T, self.observed_NM.T, self.mean_M, strict=True
            )
        ]
        return np.stack(columns, axis=1)

    def quality(self, rows: RivalRows) -> NDArray[np.float64]:
        """Average over the k nearest past queries."""
        return self.average(self.nearest(rows.projected_ND))


@dataclass(frozen=True, slots=True, kw_only=True)
class KMeans:
    """The mean observed score in the query's cluster."""

    name: str = "kmeans"
    """How tables call it."""

    num_clusters: tuple[int, ...] = (8, 16, 32, 64)
    """Numbers of clusters, of which the validation rows choose one by squared error."""

    def fit(self, train: RivalRows, validation: RivalRows, *, seed: int) -> FittedKMeans:
        """Choose the number of clusters, then find them again on both sets of rows."""
        past = known(train)
        trials = [FittedKMeans.find(past, number, seed) for number in self.num_clusters]
        errors = [squared_error(t.quality(validation), validation.score_NM) for t in trials]
        best = self.num_clusters[int(np.argmin(errors))]
        return FittedKMeans.find(known(train, validation), best, seed)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FittedKMeans:
    """Clusters with their mean scores."""

    clusters: Any
    """scikit-learn's fitted k-means."""

    mean_CM: NDArray[np.float64]
    """Shrunk to the candidate's mean."""

    @classmethod
    def find(cls, past: Known, num_clusters: int, seed: int) -> FittedKMeans:
        """Cluster the rows and average their scores; at most as many clusters as rows."""
        num_clusters = min(num_clusters, len(past.feature_ND))
        clusters = SklearnKMeans(num_clusters, n_init=NUM_STARTS, random_state=seed)
        with warnings.catch_warnings():
            # Asked alike, queries leave clusters empty; those hold the candidates' means.
            warnings.simplefilter("ignore", ConvergenceWarning)
            own_NC = np.eye(num_clusters)[clusters.fit_predict(past.feature_ND)]
        observed_NM = np.isfinite(past.score_NM)
        mean_CM = _shrunk(
            own_NC.T @ np.where(observed_NM, past.score_NM, 0.0),
            own_NC.T @ observed_NM,
            candidate_means(past.score_NM),
        )
        return cls(clusters=clusters, mean_CM=mean_CM)

    def quality(self, rows: RivalRows) -> NDArray[np.float64]:
        """Look the cluster of each query up."""
        if not len(rows.projected_ND):
            return np.empty((0, self.mean_CM.shape[1]))
        quality_NM: NDArray[np.float64] = self.mean_CM[self.clusters.predict(rows.projected_ND)]
        return quality_NM
