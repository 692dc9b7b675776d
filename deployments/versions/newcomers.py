"""Step 10, newcomers: take up the profile of a candidate that came after the router was trained.

No new router version is needed: the profile was estimated under the champion's own kinds and
basis, registered on its own, and is verified here before a single query is scored by it.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from router.candidate import Candidate, Price
from router.errors import ArtifactError, PointsmanError
from router.probation import Probation, Stage, Terms, cap, spread

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from deployments.metrics import DecisionMetrics
    from deployments.versions.registry import Registry
    from router.artifact import RouterArtifact
    from router.profile import Profile
    from router.route import Router

logger = logging.getLogger("pointsman.router")


@dataclass(frozen=True, slots=True)
class _Newcomer:
    version: str
    profile: Profile
    cap: float


class Newcomers:
    """Keeps the profiles that were registered on their own.

    Args:
        registry: Where they come from.
        terms: What newcomers are held to.
        metrics: Counts what was taken up or refused.
    """

    num_changes: int
    """Rises with every change; tells whether a router made by `joined` is still current."""

    def __init__(self, registry: Registry, terms: Terms, metrics: DecisionMetrics) -> None:
        """Know nobody."""
        self._registry = registry
        self._terms = terms
        self._metrics = metrics
        self.num_changes = 0
        self._known: dict[str, _Newcomer] = {}
        self._refused: dict[str, str] = {}
        self._registered: set[str] = set()

    def forget(self) -> None:
        """Verify all again; called when another router version serves."""
        self._known, self._refused = {}, {}
        self.num_changes += 1

    def look(self, artifact: RouterArtifact, version: str, candidate_ids: Collection[str]) -> None:
        """Look once for the profiles of candidates that the artifact does not know.

        Args:
            artifact: The champion.
            version: Its number in the registry.
            candidate_ids: The pool.
        """
        for name in candidate_ids:
            if name not in artifact.profiles:
                self._look_for(name, artifact, version)

    def joined(self, router: Router) -> Router:
        """Return the router with the newcomers' profiles, as a new object."""
        profiles = {name: one.profile for name, one in self._known.items()}
        probation = {
            name: Probation(cap=one.cap, caution=self._terms.caution)
            for name, one in self._known.items()
            if one.cap < 1.0
        }
        return dataclasses.replace(
            router, profiles={**profiles, **router.profiles}, probation=probation
        )

    def stage(self, candidate_id: str, profiled: Collection[str]) -> Stage:
        """Return how far a candidate has come.

        Args:
            candidate_id: Whom.
            profiled: Those that the artifact knows.
        """
        if candidate_id in profiled:
            return Stage.FULL
        if (one := self._known.get(candidate_id)) is not None:
            return Stage.PROBATION if one.cap < 1.0 else Stage.FULL
        return Stage.PROFILING if candidate_id in self._registered else Stage.NEW

    def _look_for(self, name: str, artifact: RouterArtifact, version: str) -> None:
        pointer = self._registry.profile_pointer(name)
        if pointer is None:
            self._registered.discard(name)
        else:
            self._registered.add(name)
        if pointer is None or pointer.version is None:
            if self._known.pop(name, None) is not None:
                self.num_changes += 1
                logger.warning("the profile of %s is withdrawn", name)
            return
        known = self._known.get(name)
        if pointer.version in (known.version if known else None, self._refused.get(name)):
            return
        try:
            profile, tags = self._registry.fetch_profile(name, pointer.version)
            check_fit(name, profile, artifact, tags, version)
        except (PointsmanError, ValueError) as error:
            self._refused[name] = pointer.version
            self._metrics.newcomer(name, "refused")
            logger.error("profile %s of %s is refused: %s", pointer.version, name, error)  # noqa: TRY400 - the reason is in the message
            self._registry.refuse_profile(name, pointer.version, str(error))
            return
        share = _cap(profile, artifact, self._terms)
        self._known[name] = _Newcomer(pointer.version, profile, share)
        self.num_changes += 1
        self._metrics.newcomer(name, "taken_up", share)
        logger.warning("profile %s of %s serves, cap %.3f", pointer.version, name, share)


def check_fit(
    name: str,
    profile: Profile,
    artifact: RouterArtifact,
    tags: Mapping[str, str],
    version: str,
) -> None:
    """Refuse a profile that the champion cannot score by.

    A token's weights mean something under the basis of one router version alone, so the version
    must be the very one, by its number or its name.

    Raises:
        ArtifactError: If it is of another candidate, version, kinds or basis, or not finite.
    """
    estimated_for = tags.get("router_version", "")
    if estimated_for not in (version, artifact.version):
        raise ArtifactError(
            f"it was estimated for router version {estimated_for!r}, not {version!r}; "
            "estimate it again"
        )
    if profile.candidate_id != name or profile.kinds_hash != artifact.kinds.hash:
        raise ArtifactError(
            f"it is of {profile.candidate_id!r} under kinds {profile.kinds_hash}, not of {name!r} "
            f"under {artifact.kinds.hash}; estimate it again"
        )
    widths = (len(profile.token_R), profile.num_kinds)
    if widths != (len(artifact.queries.difficulty_R), artifact.kinds.num_kinds):
        raise ArtifactError(f"its token and kinds have widths {widths}; estimate it again")
    scores = artifact.scorer().score(
        np.zeros(artifact.schema.num_features, dtype=np.float32),
        num_chars=0,
        num_images=0,
        candidates=[
            Candidate(id=name, price=Price(input_usd_per_mtok=0.0, output_usd_per_mtok=0.0))
        ],
        profiles={name: profile},
    )
    if not all(np.isfinite(getattr(scores, column)).all() for column in scores.__slots__):
        raise ArtifactError("it predicts what is not finite; estimate it again")


def _cap(profile: Profile, artifact: RouterArtifact, terms: Terms) -> float:
    """Return the newcomer's cap, measured by those the router was trained with."""
    nothing_NR = np.empty((0, len(artifact.queries.difficulty_R)), dtype=np.float32)
    nobody_N = np.empty(0, dtype=np.float32)
    _, prior_std_K = artifact.queries.estimate_token(nothing_NR, nobody_N, nobody_N, None)
    usual = [spread(known.token_std_K) for known in artifact.profiles.values()]
    return cap(
        spread(profile.token_std_K),
        prior_std=spread(prior_std_K.tolist()),
        usual_std=float(np.median(usual)) if usual else 0.0,
        terms=terms,
    )
