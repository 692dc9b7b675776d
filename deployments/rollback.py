"""Step 10, back: let the earlier router version serve again if the new one earns less.

    python -m deployments.rollback --outcome-log <log> --registry-uri <mlflow> --act

Run as often as you like: it keeps nothing, reads the labels in the order in which they came, and
the error of its test holds over all readings. Without ``--act`` it only tells.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from deployments.versions.registry import Registry
from monitoring.drift import MIN_REFERENCE, DriftTest, population_stability_index
from monitoring.earned import earned, versions_served
from monitoring.watch import Verdict, Watch
from router.candidate import Candidate, Price
from router.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from numpy.typing import NDArray

    from monitoring.earned import Earned
    from router.artifact import RouterArtifact

NO_CANDIDATE_EXPECTED = 0.5
"""Expected of a query for which the earlier version knew nobody who was available."""

FREE = Price(input_usd_per_mtok=0.0, output_usd_per_mtok=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """By what a champion is judged."""

    alpha: float = 0.05
    tolerance: float = 0.01
    drift_alpha: float = 0.01


def expected_quality(artifact: RouterArtifact, rows: Sequence[Earned]) -> NDArray[np.float64]:
    """Return what a version expects of the best candidate available for each query."""
    if not rows:
        return np.empty(0)
    names = tuple(artifact.profiles)
    quality_NM = artifact.scorer().quality(
        np.array([row.features_F for row in rows]),
        candidates=[Candidate(id=name, price=FREE) for name in names],
        profiles=artifact.profiles,
    )
    available_NM = np.array([[name in row.available_ids for name in names] for row in rows])
    best_N = np.where(available_NM, quality_NM, -np.inf).max(axis=1)
    return np.where(np.isfinite(best_N), best_N, NO_CANDIDATE_EXPECTED)


def judge(
    before: Sequence[Earned], after: Sequence[Earned], earlier: RouterArtifact, terms: Terms
) -> dict[str, Any]:
    """Return the verdict on a champion, and what it stands on.

    Args:
        before: Labelled answers of the version before.
        after: Those of the champion.
        earlier: The version before: what it expects of a query is the control variate.
        terms: Error rates and tolerance.

    Raises:
        InvalidInputError: If the version before has too few labels.
    """
    expected_before_N, expected_after_N = (expected_quality(earlier, r) for r in (before, after))
    watch = Watch(
        [row.score for row in before],
        expected_before_N,
        alpha=terms.alpha,
        tolerance=terms.tolerance,
    )
    verdict = watch.extend([row.score for row in after], expected_after_N)
    report = {
        "verdict": verdict.value,
        "num_before": len(before),
        "num_after": len(after),
        "num_read": watch.num_seen,
        "log_capital": watch.log_capital,
        "mean_before": float(np.mean([row.score for row in before])),
        "mean_after": float(np.mean([row.score for row in after])) if after else None,
    }
    if len(after) >= MIN_REFERENCE:
        drift = DriftTest(
            expected_before_N, alpha=terms.drift_alpha, generator=np.random.default_rng(0)
        )
        report["has_drifted"] = drift.extend(expected_after_N)
        report["stability_index"] = population_stability_index(expected_before_N, expected_after_N)
    return report


def main(  # noqa: PLR0913 - each is an option of the command line
    *,
    outcome_log: Annotated[str, typer.Option(envvar="POINTSMAN_OUTCOME_LOG")],
    registry_uri: Annotated[str, typer.Option(help="MLflow.")] = "http://127.0.0.1:5000",
    registry_model: Annotated[str, typer.Option(help="Registered model.")] = "pointsman-router",
    registry_alias: Annotated[str, typer.Option(help="The alias that serves.")] = "champion",
    earlier: Annotated[str, typer.Option(help="Version to hold it against; by the log.")] = "",
    alpha: Annotated[float, typer.Option(help="Chance of a false rollback, ever.")] = 0.05,
    tolerance: Annotated[float, typer.Option(help="Quality it may earn less.")] = 0.01,
    max_labels: Annotated[int, typer.Option(help="Most of each version.")] = 20_000,
    days: Annotated[int, typer.Option(help="How far back the log is read.")] = 60,
    act: Annotated[bool, typer.Option("--act", help="Roll back if it earns less.")] = False,
    cache: Annotated[Path, typer.Option(help="For fetched versions.")] = Path(".run/routers"),
) -> None:
    """Judge the champion by the labels of its answers; print the verdict as JSON."""
    registry = Registry(registry_uri, model=registry_model, alias=registry_alias, cache=cache)
    champion = registry.look().champion
    if champion is None:
        raise InvalidInputError(f"{registry_model} has no {registry_alias}", "registry_alias")
    since = (datetime.now(UTC) - timedelta(days=days)).date()
    target = earlier or _version_before(outcome_log, champion, since)
    artifact = registry.fetch(target, schema_hash=None)
    before, after = (
        earned(
            outcome_log,
            version,
            schema_hash=artifact.schema.hash,
            max_labels=max_labels,
            from_start=version == champion,
            since=since,
        )
        for version in (target, champion)
    )
    report = judge(before, after, artifact, Terms(alpha=alpha, tolerance=tolerance))
    report |= {"champion": champion, "earlier": target, "rolled_back": False}
    if act and report["verdict"] == Verdict.REGRESSED:
        reason = (
            f"earned {report['mean_after']:.3f} after {report['num_read']} labels, version "
            f"{target} {report['mean_before']:.3f}; alpha {alpha}"
        )
        report["rolled_back"] = registry.rollback(champion, to=target, reason=reason)
    typer.echo(json.dumps(report))


def _version_before(outcome_log: str, champion: str, since: date) -> str:
    others = [name for name in versions_served(outcome_log, since=since) if name != champion]
    if not others:
        raise InvalidInputError(
            "no other version decided in the days that are read; name one by --earlier", "earlier"
        )
    return others[-1]


if __name__ == "__main__":
    typer.run(main)
