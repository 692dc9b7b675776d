"""Step 9, registry: what was proven of a router version before it may serve.

A certificate belongs to one artifact, by the SHA-256 of its ``manifest.json``, and says by what
figures each gate was passed or failed. Two things may be wrong with one. It is *invalid*: missing,
malformed, or of another artifact; nothing excuses that. Or its *gates failed*: a person who knows
better may still promote the version.

Nothing here keeps whoever can write to the registry from writing a certificate; it keeps a version
from serving that nobody examined, or that was swapped after it was.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)

from router.errors import ArtifactError, GatesFailedError

if TYPE_CHECKING:
    from pathlib import Path

FORMAT_VERSION = 1
CERTIFICATE = "certificate.json"
"""Beside the artifact's folder, never in it: an artifact holds its own files alone."""

MAX_CERTIFICATE_BYTES = 1 << 22
REMEDY = "run the retrain job again, which writes one"

_SHA256 = re.compile(r"[0-9a-f]{64}")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Estimate(_Record):
    """A figure of held-out rows with its 95 % interval."""

    value: float
    low: float
    high: float
    effective_rows: float = Field(ge=0)
    """Rows of equal weight that would tell as much (Kish 1965); at most ``num_rows``."""

    num_rows: int = Field(ge=0)
    num_clusters: int = Field(ge=0)
    """Independent groups of rows behind it."""

    @model_validator(mode="after")
    def _in_order(self) -> Estimate:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"the interval {self.low} to {self.high} lacks {self.value}")
        return self

    def __str__(self) -> str:
        """Return the value and its interval."""
        return f"{self.value:+.4f} ({self.low:+.4f} to {self.high:+.4f})"


class Versions(_Record):
    """Who competed."""

    challenger: str
    champion: str | None = None
    """None where no version serves yet."""

    best_single: str
    """The candidate that did best on the rows that the challenger learned from."""


class Dataset(_Record):
    """On what the figures stand."""

    first_time: str | None = None
    """Of the earliest outcome, ISO 8601; None where the caller knows none."""

    last_time: str | None = None
    num_rows: int = Field(ge=0)
    """Held-out rows that were handed in."""

    num_evaluated: int = Field(ge=0)
    left_out: dict[str, int]
    """Rows that can prove nothing, by reason."""

    num_labels: int = Field(ge=0)
    num_trusted: int = Field(ge=0)
    """Evaluated rows whose labels are of a trusted class."""


class SliceDifference(_Record):
    """What the challenger gains on a part of the rows."""

    name: str
    difference: Estimate


class Calibration(_Record):
    """How far a candidate's predicted quality is from the observed one."""

    error: float = Field(ge=0)
    """Expected calibration error."""

    by_chance: float = Field(ge=0)
    """What a perfect forecast would show with as many labels."""

    num_labels: int = Field(ge=0)


class Choices(_Record):
    """How choices spread over the candidates."""

    challenger: dict[str, float]
    """Share of the rows by candidate."""

    champion: dict[str, float] | None = None
    challenger_entropy: float = Field(ge=0, le=1)
    """Of the shares, over that of equal shares."""

    champion_entropy: float | None = Field(default=None, ge=0, le=1)
    disagreement: float = Field(ge=0, le=1)
    """Share of the rows for which challenger and rival choose otherwise."""


class DecisionTime(_Record):
    """Seconds that a decision took, measured on the same queries in one process, in turns."""

    challenger_p50_s: float = Field(ge=0)
    challenger_p95_s: float = Field(ge=0)
    champion_p50_s: float | None = Field(default=None, gt=0)
    champion_p95_s: float | None = Field(default=None, gt=0)
    num_decisions: int = Field(ge=1)

    @property
    def ratio(self) -> float | None:
        """Return the challenger's median over the champion's."""
        return self.challenger_p50_s / self.champion_p50_s if self.champion_p50_s else None


class Parity(_Record):
    """Whether what was evaluated is what would be served."""

    feature_schema_hash: str
    """Of the challenger."""

    served_schema_hash: str
    num_golden: int = Field(ge=0)
    """Inputs whose features were computed again and compared with stored ones."""

    golden_difference: float | None = Field(default=None, ge=0)
    """Largest absolute difference of a feature; None where nothing was compared."""

    num_decisions: int = Field(ge=0)
    """Queries that went through the served path too, under the mask that was logged."""

    same_choice_share: float = Field(ge=0, le=1)
    """Share of them for which it chose as evaluated."""


class Evidence(_Record):
    """All figures about a challenger, not yet judged."""

    manifest_sha256: str
    """Identity of the challenger's artifact."""

    created_at: str
    """ISO 8601, UTC."""

    versions: Versions
    dataset: Dataset
    cost_weight: float = Field(default=0.0, ge=0)
    latency_weight: float = Field(default=0.0, ge=0)
    """Weights of the utility by which all were judged; 0 and 0 is quality alone."""

    values: dict[str, dict[str, Estimate]]
    """By policy and estimator; ``challenger``, ``champion``, ``best_single``, ``neighbours``."""

    differences: dict[str, Estimate]
    """Challenger less each other policy, paired, doubly robust."""

    clipped_difference: Estimate
    """The difference to the rival with clipped weights, its interval widened by the most bias."""

    trusted_difference: Estimate | None = None
    """The difference to the rival as trusted labels tell it; None with too few of them."""

    source_bias: dict[str, Estimate] = {}
    """By candidate: untrusted less trusted score of the same answers."""

    slices: tuple[SliceDifference, ...] = ()
    """Differences to the rival: the champion, or the best single candidate without one."""

    calibration: dict[str, Calibration] = {}
    """By candidate."""

    choices: Choices
    decision_time: DecisionTime
    parity: Parity

    @field_validator("manifest_sha256")
    @classmethod
    def _is_sha256(cls, value: str) -> str:
        if not _SHA256.fullmatch(value):
            raise ValueError("must be 64 hex digits")
        return value

    @property
    def rival(self) -> str:
        """Name of the policy that slices and trusted labels compare with."""
        return "best_single" if self.versions.champion is None else "champion"


class Gate(_Record):
    """One condition and how it came out."""

    name: str
    passed: bool
    reason: str
    """In words, with figure and limit."""


class Certificate(_Record):
    """Evidence, judged."""

    format_version: int = FORMAT_VERSION
    evidence: Evidence
    gates: tuple[Gate, ...] = Field(min_length=1)
    gate_config: dict[str, JsonValue]
    """The limits that the gates were judged by."""

    @field_validator("format_version")
    @classmethod
    def _is_known(cls, value: int) -> int:
        if value != FORMAT_VERSION:
            raise ValueError(f"is format {value}, not {FORMAT_VERSION}")
        return value

    @property
    def passed(self) -> bool:
        """Whether every gate did."""
        return all(gate.passed for gate in self.gates)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the gates that failed did."""
        return tuple(f"{gate.name}: {gate.reason}" for gate in self.gates if not gate.passed)

    def verify(self, manifest_sha256: str, *, allow_failed_gates: bool = False) -> None:
        """Refuse to vouch for another artifact, or for one that failed a gate.

        Args:
            manifest_sha256: Of the ``manifest.json`` that would serve.
            allow_failed_gates: A person has said that the version may serve all the same.

        Raises:
            GatesFailedError: If a gate failed and that is not allowed.
            ArtifactError: If the certificate is of another artifact, whatever is allowed.
        """
        own = self.evidence.manifest_sha256
        if own != manifest_sha256:
            raise ArtifactError(
                f"the certificate is of the artifact {own[:12]}, not {manifest_sha256[:12]}; "
                f"{REMEDY}"
            )
        if not self.passed and not allow_failed_gates:
            raise GatesFailedError("gates failed: " + "; ".join(self.reasons))

    def to_json(self) -> bytes:
        """Return the bytes that `from_json` reads back equal; the same for equal certificates."""
        record = self.model_dump(mode="json")
        return (json.dumps(record, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes) -> Certificate:
        """Read what `to_json` wrote.

        Raises:
            ArtifactError: If it is anything else; names the field.
        """
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            raise ArtifactError(
                f"{CERTIFICATE} is malformed: {_first_fault(error.errors()[0])}; {REMEDY}"
            ) from error


def load_certificate(path: Path) -> Certificate:
    """Read a version's certificate.

    Raises:
        ArtifactError: If it is missing, too large, or malformed.
    """
    if not path.is_file():
        raise ArtifactError(f"{CERTIFICATE} is missing: nothing is proven; {REMEDY}")
    if path.stat().st_size > MAX_CERTIFICATE_BYTES:
        raise ArtifactError(f"{CERTIFICATE} is larger than {MAX_CERTIFICATE_BYTES} bytes")
    return Certificate.from_json(path.read_bytes())


def _first_fault(fault: Any) -> str:  # noqa: ANN401 - pydantic's own record
    place = ".".join(str(part) for part in fault["loc"])
    return f"{place} {fault['msg']}" if place else str(fault["msg"])
