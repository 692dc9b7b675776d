"""Settings of the router application: the ``args`` of its block in the Serve config."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class RouterSettings(BaseModel):
    """What the ingress and the router deployment are told.

    Relative folders are relative to where ``ray start`` was run.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    default_candidate: str | None = None
    """Who answers when no router can decide; the dearest available candidate when None."""

    registry_uri: str
    """MLflow's tracking URI."""

    registry_model: str = "pointsman-router"
    """The registered model whose alias names the router version that serves."""

    registry_alias: str = "champion"
    """The alias that serves; moving it in MLflow promotes."""

    registry_poll_s: float = Field(default=5.0, gt=0)
    """Seconds between looks at the alias."""

    outcome_log: Path
    """Folder of the outcome log."""

    outcome_flush_s: float = Field(default=2.0, gt=0)
    """Seconds between segments; what a killed ingress loses at most."""

    encoders: Path
    """Folder that ``python -m router.features.build`` filled."""

    router_versions: Path = Path(".run/routers")
    """Folder for fetched router versions."""

    serve_api: str = "http://127.0.0.1:8265"
    """Base URL of Ray's dashboard, which tells the pool."""

    pool_poll_s: float = Field(default=0.5, gt=0)
    """Seconds between looks at the pool."""

    cost_weight: float = Field(default=0.0, ge=0)
    """For requests that name none."""

    latency_weight: float = Field(default=0.0, ge=0)
    """For requests that name none."""

    explore_share: float = Field(default=0.0, ge=0, le=1)
    """Probability of a uniform draw, for requests that do not forbid exploring."""

    deadline_s: float = Field(default=60.0, gt=0)
    """From a request's arrival to the first byte of its answer."""

    decide_timeout_s: float = Field(default=5.0, gt=0)
    """After which the default candidate answers without a decision."""

    max_attempts: int = Field(default=3, ge=1)
    """Most candidates called for one request."""

    allow_http_images: bool = False
    """Whether images may be fetched over plain http."""

    private_image_hosts: frozenset[str] = frozenset()
    """Hosts whose private addresses images may be fetched from; for development."""

    num_router_replicas: int = Field(default=1, ge=1)
    """Replicas of the router deployment."""

    num_ingress_replicas: int = Field(default=1, ge=1)
    """Replicas of the ingress."""
