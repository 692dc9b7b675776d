"""Step 8, retrain: the rows a router learns from, as arrays.

What was *available* and what was *observed* are two things: of the candidates that might have
answered, one-outcome-per-request logs hold a score for the one that did.

Axis legend: N = queries, F = raw features, M = candidates.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from router.errors import InvalidInputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


_USAGE_COLUMNS = ("input_tokens_NM", "output_tokens_NM", "latency_s_NM", "ttft_s_NM")
_SEEN_COLUMNS = ("score_NM", "propensity_NM", *_USAGE_COLUMNS)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingSet:
    """Outcomes by query and candidate."""

    features_NF: NDArray[np.float32]
    """Raw features, in the order of the feature schema; finite."""

    candidate_ids: tuple[str, ...]
    """Names of the M columns; unique."""

    score_NM: NDArray[np.float32]
    """Quality labels, 0 to 1; NaN where not observed."""

    available_NM: NDArray[np.bool_]
    """True where the candidate might have answered; everything observed was available."""

    propensity_NM: NDArray[np.float64]
    """Chance with which an observed candidate was chosen, above 0 to 1; 1 in full-information
    rows; ignored (NaN) elsewhere."""

    input_tokens_NM: NDArray[np.float32]
    """Prompt tokens as counted; NaN where not seen."""

    output_tokens_NM: NDArray[np.float32]
    """Reply tokens; NaN where not seen."""

    latency_s_NM: NDArray[np.float32]
    """Seconds to the whole answer; NaN where not seen."""

    ttft_s_NM: NDArray[np.float32]
    """Seconds to the first token; NaN where not seen."""

    num_chars_N: NDArray[np.int64]
    """Characters of text in each query."""

    num_images_N: NDArray[np.int64]
    """Images in each query."""

    group_N: NDArray[np.int64]
    """Rows of one group (same image, same conversation) never lie on both sides of a split."""

    def __post_init__(self) -> None:
        """Refuse shapes, labels and propensities that contradict each other."""
        num_rows, num_candidates = len(self.features_NF), len(self.candidate_ids)
        for item in dataclasses.fields(self):
            name = item.name
            shape = {"M": (num_rows, num_candidates), "N": (num_rows,)}.get(name[-1])
            if shape is not None and getattr(self, name).shape != shape:
                raise InvalidInputError(
                    f"{name} must have shape {shape}, got {getattr(self, name).shape}", name
                )
        if len(set(self.candidate_ids)) != num_candidates:
            raise InvalidInputError("candidate ids must be unique", "candidate_ids")
        if self.features_NF.ndim != 2 or not np.isfinite(self.features_NF).all():  # noqa: PLR2004 - rows and columns
            raise InvalidInputError("features must be finite and (N, F)", "features_NF")
        observed_NM = self.observed()
        if (observed_NM & ~self.available_NM).any():
            raise InvalidInputError("an observed candidate must be available", "available_NM")
        scores = self.score_NM[observed_NM]
        if not ((scores >= 0) & (scores <= 1)).all():
            raise InvalidInputError("scores must lie in 0 to 1", "score_NM")
        chances = self.propensity_NM[observed_NM]
        if not ((chances > 0) & (chances <= 1)).all():
            raise InvalidInputError(
                "the propensity of an observed candidate must be above 0 and at most 1; rows "
                "that were pinned or fell back carry none and must be left out",
                "propensity_NM",
            )

    @classmethod
    def of_scores(
        cls,
        features_NF: NDArray[np.float32],
        candidate_ids: tuple[str, ...],
        score_NM: NDArray[np.float32],
        **known: NDArray[Any],
    ) -> TrainingSet:
        """Return rows of which little but the scores is known.

        Args:
            features_NF: As the column of that name.
            candidate_ids: As the column of that name.
            score_NM: As the column of that name; who was observed was asked for certain.
            known: Other columns. Without them nothing was seen of tokens and times, queries have
                neither text nor images, and each is a group of its own.

        Raises:
            InvalidInputError: If columns contradict each other.
        """
        num_rows, unseen_NM = len(features_NF), np.full(score_NM.shape, np.nan, dtype=np.float32)
        zero_N = np.zeros(num_rows, dtype=np.int64)
        is_observed_NM = np.isfinite(score_NM)
        columns: dict[str, Any] = {
            "available_NM": is_observed_NM,
            "propensity_NM": np.where(is_observed_NM, 1.0, np.nan),
            **dict.fromkeys(_USAGE_COLUMNS, unseen_NM),
            "num_chars_N": zero_N,
            "num_images_N": zero_N,
            "group_N": np.arange(num_rows),
        }
        return cls(
            features_NF=features_NF,
            candidate_ids=candidate_ids,
            score_NM=score_NM,
            **(columns | known),
        )

    def __len__(self) -> int:
        """Return the number of queries."""
        return len(self.features_NF)

    def observed(self) -> NDArray[np.bool_]:
        """Return where a score was observed, shape (N, M)."""
        return np.asarray(np.isfinite(self.score_NM))

    def full_information(self) -> NDArray[np.bool_]:
        """Return the rows in which every available candidate was observed for sure, (N,)."""
        observed_NM = self.observed()
        certain_NM = np.where(observed_NM, self.propensity_NM, 0.0) == 1.0
        return np.asarray(
            (certain_NM | ~self.available_NM).all(axis=1) & self.available_NM.any(axis=1)
        )

    def num_observed(self) -> NDArray[np.int64]:
        """Return the number of observed scores of each candidate, shape (M,)."""
        return self.observed().sum(axis=0).astype(np.int64)

    def subset(self, rows: ArrayLike) -> TrainingSet:
        """Return the chosen rows, by index or by mask."""
        index = np.asarray(rows)
        columns = {
            item.name: getattr(self, item.name)[index]
            for item in dataclasses.fields(self)
            if item.name != "candidate_ids"
        }
        return TrainingSet(candidate_ids=self.candidate_ids, **columns)

    def joined(self, other: TrainingSet) -> TrainingSet:
        """Return these rows followed by another set's of the same columns."""
        columns = {
            item.name: np.concatenate([getattr(self, item.name), getattr(other, item.name)])
            for item in dataclasses.fields(self)
            if item.name != "candidate_ids"
        }
        return TrainingSet(candidate_ids=self.candidate_ids, **columns)

    def without_candidate(self, candidate_id: str) -> TrainingSet:
        """Return the set without one column."""
        keep_M = np.array([name != candidate_id for name in self.candidate_ids])
        columns = {
            item.name: getattr(self, item.name)[:, keep_M]
            for item in dataclasses.fields(self)
            if item.name.endswith("_NM")
        }
        names = tuple(name for name in self.candidate_ids if name != candidate_id)
        rest = {
            item.name: getattr(self, item.name)
            for item in dataclasses.fields(self)
            if item.name not in columns and item.name != "candidate_ids"
        }
        return TrainingSet(candidate_ids=names, **rest, **columns)

    def with_observed(self, seen_NM: NDArray[np.bool_]) -> TrainingSet:
        """Return the set as if only the given entries had been observed."""
        columns: dict[str, Any] = {
            name: np.where(seen_NM, getattr(self, name), np.nan).astype(getattr(self, name).dtype)
            for name in _SEEN_COLUMNS
        }
        return dataclasses.replace(self, **columns)

    def masked_features(self, keeps_F: NDArray[np.bool_]) -> TrainingSet:
        """Return the set with all other features at 0, as if their encoders were absent."""
        if keeps_F.all():
            return self
        blanked_NF = np.where(keeps_F, self.features_NF, np.float32(0.0))
        return dataclasses.replace(self, features_NF=blanked_NF)

    def split(
        self, *, train: float, validation: float, seed: int
    ) -> tuple[TrainingSet, TrainingSet, TrainingSet]:
        """Split whole groups into train, validation and the rest (test).

        Args:
            train: Share of the groups, above 0.
            validation: Share of the groups; together at most 1.
            seed: Seed of the shuffle.

        Raises:
            InvalidInputError: If the shares are out of bounds.
        """
        if not (train > 0 and validation >= 0 and train + validation <= 1 + 1e-9):
            raise InvalidInputError(
                f"shares must be above 0 and sum to at most 1, got {train} and {validation}",
                "train",
            )
        groups = np.unique(self.group_N)
        shuffled = np.random.default_rng(seed).permutation(groups)
        first = max(round(train * len(groups)), 1)
        second = min(first + round(validation * len(groups)), len(groups))
        parts = (shuffled[:first], shuffled[first:second], shuffled[second:])
        one, two, three = (self.subset(np.isin(self.group_N, part)) for part in parts)
        return one, two, three

    def folds(self, num_folds: int, seed: int) -> NDArray[np.int64]:
        """Return a fold of 0 to ``num_folds`` - 1 for each row; a group lies in one fold."""
        groups, place_N = np.unique(self.group_N, return_inverse=True)
        fold_of_group = np.random.default_rng(seed).permutation(len(groups)) % num_folds
        return fold_of_group[place_N].astype(np.int64)
