"""Step 10, hot swap: take up whatever the registry's aliases name, between requests.

The version that serves goes on serving until the next one is fetched, verified and warm; one that
is not acceptable is refused once, told in the registry, and changes nothing. The challenger, the
newcomers' profiles and the kill switch are read at the same look.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import logging
from typing import TYPE_CHECKING

import numpy as np

from deployments.metrics import DecisionMetrics
from deployments.versions.newcomers import Newcomers
from deployments.versions.registry import ACCEPT_FAILED_GATES, BEST_SINGLE
from router.artifact import MANIFEST
from router.candidate import Candidate, Price
from router.certificate import CERTIFICATE, load_certificate
from router.errors import ArtifactError, GatesFailedError
from router.probation import Stage, Terms

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from deployments.versions.registry import Pointers, Registry, Verify
    from router.artifact import RouterArtifact
    from router.features.schema import FeatureSchema
    from router.records import Pool
    from router.route import Router

logger = logging.getLogger("pointsman.router")


class HotSwap:
    """Holds the router version that serves, and the one that wants to.

    Args:
        registry: Where versions come from.
        schema: The features that a version must read.
        terms: What newcomers are held to.
        has_shadow: Whether to fetch the challenger.
        metrics: Counts what was taken up.
    """

    router: Router | None
    """The version that serves; None until one is registered. Replaced as a whole, so that a
    decision under way ends with the version it began with."""

    challenger: Router | None
    """The version that is scored in the shadow; None where there is none."""

    refused_version: str | None
    """The last version that was not acceptable as champion."""

    is_killed: bool
    """Whether the kill switch sends everything to the best single candidate."""

    def __init__(
        self,
        registry: Registry,
        schema: FeatureSchema,
        *,
        terms: Terms | None = None,
        has_shadow: bool = True,
        metrics: DecisionMetrics | None = None,
    ) -> None:
        """Start without a version."""
        self.router = None
        self.challenger = None
        self.refused_version = None
        self.is_killed = False
        self._registry = registry
        self._schema = schema
        self._has_shadow = has_shadow
        self._metrics = metrics or DecisionMetrics()
        self._newcomers = Newcomers(registry, terms or Terms(), self._metrics)
        self._champion: tuple[RouterArtifact, Router] | None = None
        self._num_joined = 0
        self._refused_challenger: str | None = None
        self._pool_ids: tuple[str, ...] = ()

    def note_pool(self, pool: Pool) -> None:
        """Note whose profiles are wanted; called with the pool of every decision."""
        self._pool_ids = tuple(candidate.id for candidate in pool.candidates)

    async def follow(self, *, period_s: float) -> None:
        """Look at the registry every period, forever. Cancel the task to stop."""
        while True:
            try:
                await asyncio.to_thread(self.swap_if_moved)
            except Exception:  # the version that serves goes on serving
                self._metrics.swapped("unreachable")
                logger.exception("the registry could not be read")
            await asyncio.sleep(period_s)

    def swap_if_moved(self) -> None:
        """Look at the registry once, and take up or refuse what it names."""
        pointers = self._registry.look()
        self._switch(pointers)
        self._swap_champion(pointers.champion)
        if self._has_shadow:
            self._swap_challenger(pointers)
        if self._champion is not None:
            artifact, router = self._champion
            try:
                self._newcomers.look(artifact, router.version, self._pool_ids)
            finally:  # what was taken up before the registry went away is kept
                if self._newcomers.num_changes != self._num_joined:
                    self.router = self._newcomers.joined(router)
                    self._num_joined = self._newcomers.num_changes

    def stages(self) -> dict[str, Stage]:
        """Return how far each candidate of the pool has come."""
        profiled = self._champion[0].profiles if self._champion else {}
        return {name: self._newcomers.stage(name, profiled) for name in self._pool_ids}

    def _switch(self, pointers: Pointers) -> None:
        """Follow the kill switch; another value than the known one is told and does nothing."""
        is_killed = pointers.kill_switch == BEST_SINGLE
        if pointers.kill_switch and not is_killed:
            logger.error("kill switch %r is unknown; use %s", pointers.kill_switch, BEST_SINGLE)
        if is_killed != self.is_killed:
            logger.warning("kill switch %s", "on: best single candidate" if is_killed else "off")
        self.is_killed = is_killed
        self._metrics.killed(is_killed=is_killed)

    def _swap_champion(self, version: str | None) -> None:
        served = self.router.version if self.router else None
        if version is None or version in (served, self.refused_version):
            return
        try:
            artifact, router = self._fetched(version, self._verified)
        except (ArtifactError, ValueError) as error:
            self.refused_version = version
            self._refuse(version, error)
            return
        self._champion = (artifact, router)
        self._newcomers.forget()
        self.router = router
        self._metrics.swapped("served")
        logger.warning("router version %s serves", version)

    def _swap_challenger(self, pointers: Pointers) -> None:
        version = pointers.challenger
        if version is None or version == pointers.champion:
            self.challenger = None
            return
        if version in (self.challenger and self.challenger.version, self._refused_challenger):
            return
        self.challenger = None
        try:
            _, self.challenger = self._fetched(version, self._verified_for_shadow)
        except (ArtifactError, ValueError) as error:
            self._refused_challenger = version
            self._refuse(version, error)
        else:
            logger.warning("router version %s is scored in the shadow", version)

    def _refuse(self, version: str, error: Exception) -> None:
        self._metrics.swapped("refused")
        logger.error("router version %s is refused: %s", version, error)
        self._registry.refuse(version, str(error))

    def _fetched(self, version: str, verify: Verify) -> tuple[RouterArtifact, Router]:
        """Return a version under its registry name, verified and warm."""
        artifact = self._registry.fetch(version, schema_hash=self._schema.hash, verify=verify)
        return artifact, self._warmed(artifact, version)

    def _verified(self, folder: Path, tags: Mapping[str, str]) -> None:
        """Refuse a champion without a certificate of its own, or whose gates failed.

        Raises:
            ArtifactError: If it may not be taken up.
        """
        self._check_certificate(folder, allow_failed_gates=bool(tags.get(ACCEPT_FAILED_GATES)))

    def _verified_for_shadow(self, folder: Path, _tags: Mapping[str, str]) -> None:
        """Take gates that failed: in the shadow a version decides nothing.

        Raises:
            ArtifactError: If the certificate is missing, malformed or another artifact's.
        """
        self._check_certificate(folder, allow_failed_gates=True)

    @staticmethod
    def _check_certificate(folder: Path, *, allow_failed_gates: bool) -> None:
        manifest_sha256 = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
        certificate = load_certificate(folder / CERTIFICATE)
        try:
            certificate.verify(manifest_sha256, allow_failed_gates=allow_failed_gates)
        except GatesFailedError as error:
            raise ArtifactError(
                f"{error}; to serve it all the same, set the version's tag {ACCEPT_FAILED_GATES} "
                "to your reason and move the alias away and back"
            ) from error

    def _warmed(self, artifact: RouterArtifact, version: str) -> Router:
        """Return the version under its registry name, after it has scored its own candidates.

        Raises:
            ArtifactError: If what it predicts is not finite.
        """
        router = dataclasses.replace(artifact.router(), version=version)
        free = Price(input_usd_per_mtok=0.0, output_usd_per_mtok=0.0)
        candidates = [Candidate(id=name, price=free) for name in artifact.profiles]
        scores = router.scorer.score(
            np.zeros(self._schema.num_features, dtype=np.float32),
            num_chars=0,
            num_images=0,
            candidates=candidates,
            profiles=artifact.profiles,
        )
        if not np.isfinite(scores.quality_mean_M).all():
            raise ArtifactError("the router predicts no finite quality; train it again")
        return router
