"""Settings of the router application: the ``args`` of its block in the Serve config."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deployments.recording.late_features import SHARE
from monitoring.outcome_log import spool_folder
from router.exploration import Draw
from router.probation import MIN_CAUTION

MAX_IN_FLIGHT = 448
"""Leaves room within what Serve lets into a replica (512), for turning others away at once."""


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

    outcome_log: str = Field(min_length=1)
    """The outcome log: a folder, or ``s3://bucket/prefix``; endpoint, region and credentials in
    the usual AWS environment variables."""

    outcome_log_spool: Path | None = None
    """Folder on a local disk for rows that are not in the log yet; ``<outcome_log>/.spool`` if
    None. Needed with ``s3://``. What lies there when an ingress dies is committed by the next one
    that uses the same folder."""

    outcome_log_spool_bytes: int = Field(default=1 << 30, ge=1 << 20)
    """Most that may lie in the spool of each ingress, of outcomes and of labels. Beyond it the
    oldest outcomes are dropped and counted, and new labels refused."""

    outcome_flush_s: float = Field(default=5.0, gt=0)
    """Seconds between segments; in an outage of the store the pause grows to a minute. A segment
    costs some 5 ms of the processor and one file, or one PUT, whatever the number of its rows."""

    label_metric_weights: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        default_factory=dict
    )
    """Weight of each named metric in a label's score, where a label states no score; equal ones
    when empty. Metrics that are not named here do not count."""

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
    """Probability of an exploring draw, for requests that do not forbid it."""

    explore_draw: Draw = Draw.UNIFORM
    """How that share is spread: ``uniform``, or ``thompson`` by the odds of being the best."""

    explore_daily_usd: float | None = Field(default=1.0, ge=0)
    """Most USD above the greedy choices that exploring may be predicted to cost in a day of UTC,
    all router replicas together; no limit if None."""

    explore_daily_quality: float | None = Field(default=50.0, ge=0)
    """Most quality that exploring may be predicted to give up in a day; 1 is one answer wrong
    instead of right. No limit if None."""

    explore_state: Path = Path(".run/exploration")
    """Folder in which router replicas keep what they spent; on several machines a shared one."""

    probation_share: float = Field(default=0.05, ge=0, le=1)
    """Share of the queries for which a newcomer is eligible of whom only the price is known. It
    grows to 1 as its profile becomes as certain as those the router was trained with."""

    probation_caution: float = Field(default=-0.5, ge=MIN_CAUTION)
    """Least standard deviations taken off a newcomer's expected quality; below 0 they are put on
    it, and it is tried where it may be the best. On the zoo, with 128 examples, half a deviation
    put on took its part of the traffic from 15 to 28 % and cost 0.4 points of quality."""

    shadow_load: float = Field(default=0.1, ge=0, le=1)
    """Most of a router replica's time for scoring the challenger on live traffic; off if 0."""

    watch_alpha: float = Field(default=0.05, gt=0, lt=1)
    """Probability of ever rolling back a new champion that is no worse than the one before."""

    watch_tolerance: float = Field(default=0.01, ge=0, le=1)
    """Quality that a new champion may earn less before it is rolled back."""

    deadline_s: float = Field(default=60.0, gt=0)
    """From a request's arrival to the first byte of its answer. A candidate that has sent nothing
    in half of it is hung: the next one is asked beside it."""

    stall_s: float = Field(default=60.0, gt=0)
    """Longest silence within a stream, after which it is ended as truncated."""

    decide_timeout_s: float = Field(default=2.0, gt=0)
    """After which the default candidate answers without a decision. Where no router replica runs
    it answers at once, as soon as a look at the pool tells."""

    max_attempts: int = Field(default=3, ge=1)
    """Most candidates called for one request."""

    retry_share: float = Field(default=0.2, ge=0, le=1)
    """Calls beyond the first, as a share of the recent requests of an ingress replica."""

    retry_min_per_s: float = Field(default=1.0, ge=0)
    """Such calls that each second allows besides, so that few requests may be retried too."""

    hedge_after_s: float | None = Field(default=None, gt=0)
    """When the next candidate is asked beside one that has sent nothing, once a request and out
    of the same budget; the first byte wins and the other call is cancelled. Only beside one that
    is hung if None."""

    eject_after_failures: int = Field(default=3, ge=1)
    """Failures in a row after which an ingress replica masks a candidate for a while. One is
    enough where it tells that the only engine is dead."""

    eject_s: float = Field(default=5.0, gt=0)
    """Length of a candidate's first ejection; each that follows soon is twice as long."""

    eject_max_share: float = Field(default=0.5, ge=0, le=1)
    """Most of the pool that is ejected at once."""

    pinned_features_share: float = Field(default=SHARE, ge=0, le=1)
    """Most of one encoder's time that goes, after the answer, into features of pinned requests, of
    which learning cannot do without. Rows beyond it are logged without features, and counted."""

    wake_regret: float | None = Field(default=1.0, gt=0)
    """Utility lost within a minute for want of a candidate's replicas, after which an ingress
    replica has Serve start one, at most as many as its block allows; a query that nobody could
    answer counts 1. Candidates that are scaled to zero start only for requests that pin them, or
    that nobody else may answer, if None."""

    wake_pause_s: float = Field(default=30.0, gt=0)
    """Least seconds between two such wishes for one candidate."""

    stickiness_max_loss: float = Field(default=0.02, ge=0)
    """Most utility given up to let a session stay with the candidate that answered it last."""

    max_in_flight: int = Field(default=256, ge=1, le=MAX_IN_FLIGHT)
    """Requests that an ingress replica works on. Above 70 % of it those of low priority are turned
    away, above 90 % those of normal priority."""

    max_in_flight_per_key: int | None = Field(default=None, ge=1)
    """Requests of one API key that a replica works on; those without a key share one. No bound
    if None."""

    api_key_header: str = Field(default="authorization", min_length=1)
    """The header by whose hash API keys are told apart."""

    allow_http_images: bool = False
    """Whether images may be fetched over plain http."""

    private_image_hosts: frozenset[str] = frozenset()
    """Hosts whose private addresses images may be fetched from; for development."""

    num_router_replicas: int = Field(default=1, ge=1)
    """Replicas of the router deployment."""

    num_ingress_replicas: int = Field(default=1, ge=1)
    """Replicas of the ingress."""

    @model_validator(mode="after")
    def _a_remote_log_has_a_local_spool(self) -> Self:
        spool_folder(self.outcome_log, self.outcome_log_spool)
        return self
