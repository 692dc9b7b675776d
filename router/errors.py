"""The error tree of Pointsman.

PointsmanError
├── InvalidInputError          a caller's bad value; carries the field and the remedy
│   ├── BadImageError          bytes that are not an acceptable image
│   │   └── ImageUnreachableError  an image that its address does not give
│   ├── RequestTooLargeError   a request body over the cap
│   └── UnknownModelError      neither auto nor a candidate's id; carries the name
├── CandidateReplyError        a candidate's answer that OpenAI's protocol does not know
├── NoCandidateError           every candidate is masked; carries the refusals
├── ArtifactError              a router on disk that must not be served
│   └── GatesFailedError       an intact one that was not proven good enough
└── EncoderError               an encoder's weights are missing or altered
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class PointsmanError(Exception):
    """Root of every error raised on purpose."""


class InvalidInputError(PointsmanError, ValueError):
    """A value from outside is not acceptable.

    Args:
        message: What is wrong and how to mend it.
        field: Path of the offending field, such as ``messages.0.content``.
    """

    def __init__(self, message: str, field: str = "") -> None:
        """Keep both arguments in ``args`` so that the error survives pickling."""
        super().__init__(message, field)
        self.message = message
        self.field = field

    def __str__(self) -> str:
        """Return the message alone; the field has its own attribute."""
        return self.message


class BadImageError(InvalidInputError):
    """Bytes are not an image, or not one within the limits."""


class ImageUnreachableError(BadImageError):
    """An image could not be had from its URL: refused, absent, or too slow."""


class RequestTooLargeError(InvalidInputError):
    """A request body is over the cap."""


class UnknownModelError(InvalidInputError):
    """A request names a model that is neither ``auto`` nor a candidate.

    Args:
        model: The name as asked for.
    """

    def __init__(self, model: str) -> None:
        """Keep the name alone in ``args`` so that the error survives pickling."""
        message = f"model {model[:100]!r} does not exist; use auto or an id from GET /v1/models"
        super().__init__(message, "model")
        self.model = model
        self.args = (model,)


class CandidateReplyError(PointsmanError):
    """A candidate answered something that is not OpenAI's protocol."""


class NoCandidateError(PointsmanError):
    """No candidate may serve the query now.

    Args:
        refusals: Reason by candidate id.
        retry_after_s: When asking again may succeed, in seconds.
    """

    def __init__(self, refusals: Mapping[str, str], retry_after_s: float = 5.0) -> None:
        """Keep both arguments in ``args`` so that the error survives pickling."""
        super().__init__(dict(refusals), retry_after_s)
        self.refusals = dict(refusals)
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        """Name each candidate with its reason."""
        reasons = ", ".join(f"{name}: {reason}" for name, reason in self.refusals.items())
        return f"no candidate is available ({reasons or 'the pool is empty'})"


class ArtifactError(PointsmanError):
    """A router artifact is incomplete, altered or of a foreign schema."""


class GatesFailedError(ArtifactError):
    """A router artifact is intact, but failed a gate; a person may let it serve all the same."""


class EncoderError(PointsmanError):
    """An encoder's weights are missing or do not match their hash."""
