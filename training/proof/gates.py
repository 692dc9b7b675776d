"""Step 8, retrain: whether the evidence about a challenger is good enough. Pure.

Each gate is one condition with one limit. What cannot be judged for want of data fails, with a
reason that says what is wanting, except where the limit says that nothing is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from router.certificate import Certificate, Gate
from router.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from router.certificate import Estimate, Evidence


class GateConfig(BaseModel):
    """Limits that a challenger must keep to. Qualities are differences on a scale of 0 to 1."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    min_gain_over_champion: float = Field(default=0.0, ge=-1, le=1)
    """Least low end of the 95 % interval of the gain over the champion. 0 asks for *better*; a
    little below 0 asks for *no worse than that*."""

    min_gain_over_best_single: float = Field(default=0.0, ge=-1, le=1)
    """The same against the best single candidate, where a champion serves."""

    min_gain_over_neighbours: float = Field(default=-0.05, ge=-1, le=1)
    """The same against the mean of the nearest neighbours, where it was computed."""

    max_loss_without_champion: float = Field(default=0.05, ge=0, le=1)
    """A first version may not be significantly worse than the best single candidate by more."""

    min_effective_rows: float = Field(default=50.0, ge=2)
    """Of the challenger's value, inverse propensities counted."""

    min_trusted_gain: float = Field(default=-0.03, ge=-1, le=1)
    """Least low end of the gain over the rival by trusted labels. As wide as their number makes
    it; what users say cannot move it."""

    min_trusted_rows: float = Field(default=30.0, ge=2)
    """Effective number of trusted rows on which challenger and rival choose otherwise."""

    needs_trusted_labels: bool = True
    """Whether a version without enough trusted labels fails."""

    max_source_bias: float = Field(default=0.1, ge=0, le=1)
    """Most by which untrusted labels may, significantly, flatter one candidate more than they do
    all."""

    max_slice_loss: float = Field(default=0.05, ge=0, le=1)
    """No slice may be significantly worse than the rival by more."""

    max_calibration_error: float = Field(default=0.1, ge=0, le=1)
    """Of any candidate, beyond what chance gives a perfect forecast."""

    min_calibration_labels: int = Field(default=50, ge=1)
    """Labels of a candidate from which its calibration is judged."""

    max_entropy_drop: float = Field(default=0.5, ge=0, le=1)
    """Most by which the spread of choices may fall against the champion's; 1 is all."""

    max_decision_time_ratio: float = Field(default=1.5, gt=0)
    """Challenger's median decision time over the champion's."""

    max_decision_p95_s: float = Field(default=0.05, gt=0)
    """Of the challenger's decision time."""

    min_same_choice_share: float = Field(default=0.999, ge=0, le=1)
    """Of queries for which the served path must choose as evaluated."""

    max_golden_difference: float = Field(default=0.02, ge=0)
    """Of any feature of the golden inputs."""


def load_gates(path: Path) -> GateConfig:
    """Read limits from YAML or JSON; what is not named keeps its default.

    Raises:
        InvalidInputError: If the file holds something else; names the field.
    """
    try:
        return GateConfig.model_validate(yaml.safe_load(path.read_text()) or {})
    except yaml.YAMLError as error:
        raise InvalidInputError(f"{path.name} is no YAML: {error}", "gates") from error
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise InvalidInputError(
            f"{path.name}: {place} {fault['msg']}", f"gates.{place}"
        ) from error


@dataclass(frozen=True, slots=True)
class Verdict:
    """All gates, in a fixed order."""

    gates: tuple[Gate, ...]

    @property
    def passed(self) -> bool:
        """Whether every gate did."""
        return all(gate.passed for gate in self.gates)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the gates that failed did."""
        return tuple(f"{gate.name}: {gate.reason}" for gate in self.gates if not gate.passed)


def judge(evidence: Evidence, config: GateConfig) -> Verdict:
    """Hold the evidence against the limits.

    Without a champion there is nothing to beat and no spread or time to compare with: those gates
    are left out, and the best single candidate is the rival.
    """
    return Verdict(tuple(gate for part in _PARTS for gate in part(evidence, config)))


def certified(evidence: Evidence, config: GateConfig) -> Certificate:
    """Return the evidence with its verdict."""
    return Certificate(
        evidence=evidence,
        gates=judge(evidence, config).gates,
        gate_config=config.model_dump(mode="json"),
    )


def _gains(evidence: Evidence, config: GateConfig) -> Iterator[Gate]:
    found = evidence.differences
    if evidence.versions.champion is None:
        limit = -config.max_loss_without_champion
        yield _no_worse("gain_over_best_single", found.get("best_single"), limit)
        return
    limits = {
        "champion": config.min_gain_over_champion,
        "best_single": config.min_gain_over_best_single,
        "neighbours": config.min_gain_over_neighbours,
    }
    for name, limit in limits.items():
        if name in found or name != "neighbours":
            yield _above(f"gain_over_{name}", found.get(name), limit)


def _rows(evidence: Evidence, config: GateConfig) -> Iterator[Gate]:
    found = evidence.values["challenger"]["dr"].effective_rows
    yield Gate(
        name="effective_rows",
        passed=found >= config.min_effective_rows,
        reason=f"{found:.0f} effective rows, at least {config.min_effective_rows:.0f} are asked "
        "for; log more queries or explore more",
    )


def _trusted(evidence: Evidence, config: GateConfig) -> Iterator[Gate]:
    found = evidence.trusted_difference
    if found is not None or config.needs_trusted_labels:
        yield _trusted_gain(evidence, config)
    common = _pooled(evidence.source_bias)
    for name, bias in evidence.source_bias.items():
        beyond = max(bias.low - common, common - bias.high)
        yield Gate(
            name=f"source_bias[{name}]",
            passed=beyond <= config.max_source_bias,
            reason=f"untrusted less trusted score {bias}, {common:+.4f} over all candidates; "
            f"at most {config.max_source_bias} beyond that",
        )


def _trusted_gain(evidence: Evidence, config: GateConfig) -> Gate:
    """Judge the gain by trusted labels.

    A quality lies in 0 to 1, so policies that choose otherwise on a share of the rows differ by at
    most that share, whatever any label says.
    """
    name, found = "trusted_labels", evidence.trusted_difference
    share = evidence.choices.disagreement
    if share <= -config.min_trusted_gain:
        return Gate(name=name, passed=True, reason=f"choices differ on {share:.2%} of rows alone")
    if found is not None and found.effective_rows < config.min_trusted_rows:
        return Gate(
            name=name,
            passed=False,
            reason=f"{found.effective_rows:.0f} effective trusted rows on which choices differ, "
            f"at least {config.min_trusted_rows:.0f} are asked for; calibrate more, or check "
            "explored answers by hand",
        )
    return _above(name, found, config.min_trusted_gain)


def _pooled(bias: dict[str, Estimate]) -> float:
    """Return the median of the candidates' biases, which one poisoned candidate does not move."""
    values = sorted(found.value for found in bias.values())
    if not values:
        return 0.0
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def _slices(evidence: Evidence, config: GateConfig) -> Iterator[Gate]:
    for part in evidence.slices:
        yield _no_worse(f"slice[{part.name}]", part.difference, -config.max_slice_loss)


def _calibration(evidence: Evidence, config: GateConfig) -> Iterator[Gate]:
    for name, found in evidence.calibration.items():
        if found.num_labels >= config.min_calibration_labels:
            beyond = found.error - found.by_chance
            yield Gate(
                name=f"calibration[{name}]",
                passed=beyond <= config.max_calibration_error,
                reason=f"error {found.error:.3f}, {found.by_chance:.3f} of it by chance; at most "
                f"{config.max_calibration_error} beyond chance",
            )


def _spread(evidence: Evidence, config: GateConfig) -> Iterator[Gate]:
    before, after = evidence.choices.champion_entropy, evidence.choices.challenger_entropy
    if before is not None:
        yield Gate(
            name="entropy",
            passed=before - after <= config.max_entropy_drop,
            reason=f"spread of choices {after:.3f}, champion's {before:.3f}; may fall by at most "
            f"{config.max_entropy_drop}",
        )


def _speed(evidence: Evidence, config: GateConfig) -> Iterator[Gate]:
    found = evidence.decision_time
    if found.ratio is not None:
        yield Gate(
            name="decision_time_ratio",
            passed=found.ratio <= config.max_decision_time_ratio,
            reason=f"median decision takes {found.ratio:.2f} of the champion's; at most "
            f"{config.max_decision_time_ratio}",
        )
    yield Gate(
        name="decision_time_p95",
        passed=found.challenger_p95_s <= config.max_decision_p95_s,
        reason=f"{found.challenger_p95_s * 1e3:.2f} ms; at most "
        f"{config.max_decision_p95_s * 1e3:.2f} ms",
    )


def _parity(evidence: Evidence, config: GateConfig) -> Iterator[Gate]:
    found = evidence.parity
    yield Gate(
        name="feature_schema",
        passed=found.feature_schema_hash == found.served_schema_hash,
        reason=f"trained on features {found.feature_schema_hash[:12]}, served are "
        f"{found.served_schema_hash[:12]}",
    )
    if found.golden_difference is not None:
        yield Gate(
            name="golden_features",
            passed=found.golden_difference <= config.max_golden_difference,
            reason=f"{found.num_golden} inputs differ by {found.golden_difference:.2g}; at most "
            f"{config.max_golden_difference}",
        )
    yield Gate(
        name="same_choice",
        passed=found.same_choice_share >= config.min_same_choice_share,
        reason=f"{found.same_choice_share:.2%} of {found.num_decisions} decisions of the served "
        f"path are as evaluated; at least {config.min_same_choice_share:.2%}",
    )


def _above(name: str, found: Estimate | None, limit: float) -> Gate:
    if found is None:
        return Gate(name=name, passed=False, reason="too few rows to tell; label more")
    return Gate(
        name=name, passed=found.low > limit, reason=f"{found}; its low end must exceed {limit:+}"
    )


def _no_worse(name: str, found: Estimate | None, limit: float) -> Gate:
    if found is None:
        return Gate(name=name, passed=False, reason="too few rows to tell; label more")
    return Gate(
        name=name, passed=found.high >= limit, reason=f"{found}; its high end must reach {limit:+}"
    )


_PARTS: tuple[Callable[[Evidence, GateConfig], Iterator[Gate]], ...] = (
    _gains,
    _rows,
    _trusted,
    _slices,
    _calibration,
    _spread,
    _speed,
    _parity,
)
