"""Step 7, gathered: what one request leaves behind, from its arrival to its outcome row."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING, Any

from deployments.attempts import Log
from deployments.protocol import Receipt
from monitoring.outcome import Outcome, Status, Timing, Usage
from router.features.picture import Picture, PictureLimits, decode_picture

if TYPE_CHECKING:
    from deployments.protocol import ChatCall
    from router.candidate import Candidate
    from router.features.picture import EncodedPicture
    from router.records import Decision, Pool, Routing


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One request on its way. Times are on the monotonic clock, in seconds."""

    call: ChatCall
    routing: Routing
    pool: Pool
    arrived_s: float
    deadline_s: float = inf
    """When the first byte of the answer must be there."""

    session: str | None = None
    """The session that it belongs to, if any."""

    pictures: tuple[EncodedPicture, ...] = ()
    """Not decoded where the decision reads no features."""

    decision: Decision | None = None
    timing: Timing = field(default_factory=Timing)
    log: Log = field(init=False)
    answered_by: str | None = None
    usage: Usage | None = None

    def __post_init__(self) -> None:
        """Start an empty list of attempts."""
        self.log = Log(self.arrived_s)

    @property
    def pool_age_s(self) -> float:
        """How old the pool was when the request arrived; below 0 if it was looked at again."""
        return self.arrived_s - self.pool.seen_at_s

    def elapsed_s(self) -> float:
        """Return the seconds since the request arrived."""
        return time.monotonic() - self.arrived_s

    def left_s(self) -> float:
        """Return the seconds until the deadline; 0 after it."""
        return max(0.0, self.deadline_s - time.monotonic())

    def decode_pictures(self) -> tuple[Picture, ...]:
        """Return the pictures decoded, which takes milliseconds for each that is not yet.

        Raises:
            BadImageError: If one is damaged.
        """
        refs, limits = self.call.image_refs, PictureLimits()
        return tuple(
            picture
            if isinstance(picture, Picture)
            else decode_picture(picture.data, limits=limits, field=ref.field)
            for ref, picture in zip(refs, self.pictures, strict=True)
        )

    def note_answer(self, candidate_id: str) -> None:
        """Note who answers, at its first byte."""
        self.answered_by = candidate_id
        self.timing.time_to_first_token_s = self.elapsed_s()

    def note_usage(self, usage: dict[str, Any] | None) -> None:
        """Note the tokens that the answer reports, and what they cost."""
        candidate = self._answering()
        if not usage or candidate is None:
            return
        num_input = int(usage.get("prompt_tokens") or 0)
        num_output = int(usage.get("completion_tokens") or 0)
        self.usage = Usage(
            input_tokens=num_input,
            output_tokens=num_output,
            cost_usd=candidate.price.cost_usd(num_input, num_output),
        )

    def receipt(self) -> Receipt:
        """Return what the user is told of the decision.

        Raises:
            ValueError: If nothing was decided yet.
        """
        decision = self.decision
        if decision is None:
            raise ValueError("no decision yet")
        answered_by = self.answered_by or decision.choice
        quality = None
        if decision.quality_means:
            quality = decision.quality_means[decision.candidate_ids.index(answered_by)]
        policy = decision.policy if answered_by == decision.choice else "fallback"
        return Receipt(
            decision_id=decision.decision_id,
            candidate_id=answered_by,
            router_version=decision.router_version,
            predicted_quality=quality,
            policy=str(policy),
        )

    def outcome(self, status: Status, decision: Decision) -> Outcome:
        """Return the request's outcome; the latency ends now."""
        self.timing.latency_s = self.elapsed_s()
        return Outcome(
            time=datetime.now(UTC),
            decision=decision,
            shape=self.call.shape,
            routing=self.routing,
            query_sha256=query_sha256(self.call.question_text, self.pictures),
            requested_model=self.call.model,
            pool_age_s=self.pool_age_s,
            attempts=tuple(self.log.attempts),
            answered_by=self.answered_by,
            status=status,
            timing=self.timing,
            usage=self.usage,
        )

    def _answering(self) -> Candidate | None:
        standing = self.pool.standing(self.answered_by) if self.answered_by else None
        return standing.candidate if standing else None


def query_sha256(text: str, pictures: tuple[EncodedPicture, ...]) -> str:
    """Return a hash that tells equal queries apart from others and reveals neither."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass"))
    for picture in pictures:
        digest.update(bytes.fromhex(picture.sha256))
    return digest.hexdigest()
