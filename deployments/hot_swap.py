"""Step 10, hot swap: take up whatever router version the registry's alias names, between requests.

The version that serves goes on serving until the next one is fetched, verified and warm; one that
is not acceptable is refused once, told in the registry, and changes nothing.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from typing import TYPE_CHECKING

import numpy as np
from ray.serve.metrics import Counter

from router.candidate import Candidate, Price
from router.errors import ArtifactError

if TYPE_CHECKING:
    from deployments.registry import Registry
    from router.artifact import RouterArtifact
    from router.features.schema import FeatureSchema
    from router.route import Router

logger = logging.getLogger("pointsman.router")


class HotSwap:
    """Holds the router version that serves.

    Args:
        registry: Where versions come from.
        schema: The features that a version must read.
    """

    router: Router | None
    """The version that serves; None until one is registered. Replaced as a whole, so that a
    decision under way ends with the version it began with."""

    refused_version: str | None
    """The last version that was not acceptable."""

    def __init__(self, registry: Registry, schema: FeatureSchema) -> None:
        """Start without a version."""
        self.router = None
        self.refused_version = None
        self._registry = registry
        self._schema = schema
        self._swaps = Counter(
            "pointsman_router_swaps_total",
            description="Router versions taken up or refused.",
            tag_keys=("result",),
        )

    async def follow(self, *, period_s: float) -> None:
        """Look at the alias every period, forever. Cancel the task to stop."""
        while True:
            try:
                await asyncio.to_thread(self.swap_if_moved)
            except Exception:  # the version that serves goes on serving
                self._swaps.inc(tags={"result": "unreachable"})
                logger.exception("the registry could not be read")
            await asyncio.sleep(period_s)

    def swap_if_moved(self) -> None:
        """Look at the alias once, and take up or refuse the version that it names."""
        version = self._registry.champion_version()
        served = self.router.version if self.router else None
        if version is None or version in (served, self.refused_version):
            return
        try:
            artifact = self._registry.fetch(version, schema_hash=self._schema.hash)
            self.router = self._warmed(artifact, version)
        except (ArtifactError, ValueError) as error:
            self.refused_version = version
            self._swaps.inc(tags={"result": "refused"})
            logger.error("router version %s is refused: %s", version, error)  # noqa: TRY400
            self._registry.refuse(version, str(error))
        else:
            self._swaps.inc(tags={"result": "served"})
            logger.warning("router version %s serves", version)

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
