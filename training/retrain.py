"""Step 8, retrain: the Ray job that turns the outcome log into the next router version.

    ray job submit --working-dir . -- python training/retrain.py --promote auto

Reads the log, trains with Ray Train, and registers the result in MLflow as ``challenger``. With
``--promote auto`` a version that is the first, or beats the best single candidate on held-out
rows, becomes ``champion`` at once; else a person moves the alias. A job runs in a copy of the
working directory, so its folders come as absolute paths, by option or by environment variable.
"""

from __future__ import annotations

import dataclasses
import math
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import httpx
import typer

from router.artifact import load_artifact, save_artifact
from router.candidate import Candidate, Price
from router.features.extract import FeatureExtractor
from training.fit import fit_router
from training.fit_config import FitConfig
from training.outcome_rows import training_set_from_log
from training.publish import ROUTER_MODEL, Publisher

if TYPE_CHECKING:
    from router.features.schema import FeatureSchema
    from training.dataset import TrainingSet
    from training.fit import FitReport


class Promotion(StrEnum):
    """Whether the job itself may move the alias."""

    AUTO = "auto"
    NEVER = "never"


def served_candidates(url: str) -> list[Candidate]:
    """Return the candidates that the running system lists, with their prices."""
    with httpx.Client(trust_env=False, timeout=30) as client:
        models = client.get(f"{url}/v1/models").raise_for_status().json()["data"]
    return [
        Candidate(
            id=model["id"],
            price=Price(
                input_usd_per_mtok=model["pointsman"]["input_usd_per_mtok"],
                output_usd_per_mtok=model["pointsman"]["output_usd_per_mtok"],
            ),
            modalities=frozenset(model["pointsman"]["modalities"]),
            max_images=model["pointsman"]["max_images"],
            context_window=model["pointsman"]["context_window"],
        )
        for model in models
        if model["id"] != "auto"
    ]


def train_on_ray(
    training_set: TrainingSet,
    config: FitConfig,
    *,
    schema: FeatureSchema,
    candidates: list[Candidate],
    storage: Path,
) -> Path:
    """Train on a Ray Train worker and return the artifact's folder."""
    import ray  # noqa: PLC0415 - only the job needs Ray
    from ray import train  # noqa: PLC0415
    from ray.train.torch import TorchTrainer  # noqa: PLC0415

    artifact_folder = storage / config.version
    shared = ray.put((training_set, schema, candidates))

    def worker(_: dict[str, Any]) -> None:
        rows, layout, pool = ray.get(shared)
        artifact, fit_report = fit_router(
            rows, config, schema=layout, candidates=pool, on_stage=typer.echo
        )
        summary = {**artifact.training_summary, **validation_metrics(fit_report)}
        save_artifact(artifact_folder, dataclasses.replace(artifact, training_summary=summary))
        train.report(validation_metrics(fit_report))

    TorchTrainer(
        worker,
        scaling_config=train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
        run_config=train.RunConfig(name=config.version, storage_path=str(storage / "runs")),
    ).fit()
    return artifact_folder


def validation_metrics(report: FitReport) -> dict[str, float]:
    """Return what training measured on held-out rows, under MLflow metric names."""
    metrics: dict[str, float] = {
        "num_rows": report.num_rows,
        "num_labels": report.num_labels,
        "difficulty_penalty": report.difficulty_penalty,
        "token_penalty": report.token_penalty,
        "noise_std": report.noise_std,
    }
    for policy, value in report.values.items():
        if math.isfinite(value.quality):
            metrics[f"validation.{policy}.quality"] = value.quality
            metrics[f"validation.{policy}.utility"] = value.utility
    return metrics


def may_promote(metrics: dict[str, float]) -> bool:
    """Return whether a version is better than sending everything to the best single candidate."""
    router = metrics.get("validation.router.utility", -math.inf)
    return router > metrics.get("validation.best_single.utility", math.inf)


def main(  # noqa: PLR0913 - each is an option of the command line
    *,
    outcome_log: Annotated[Path, typer.Option(envvar="POINTSMAN_OUTCOME_LOG")],
    encoders: Annotated[Path, typer.Option(envvar="POINTSMAN_ENCODERS")],
    storage: Annotated[Path, typer.Option(envvar="POINTSMAN_TRAIN_STORAGE")],
    registry_uri: Annotated[str, typer.Option(help="MLflow.")] = "http://127.0.0.1:5000",
    registry_model: Annotated[str, typer.Option(help="Registered model.")] = ROUTER_MODEL,
    url: Annotated[str, typer.Option(help="The running system.")] = "http://127.0.0.1:8000",
    promotion: Annotated[Promotion, typer.Option("--promote")] = Promotion.NEVER,
    seed: Annotated[int, typer.Option(help="Of folds, anchors and kinds.")] = 0,
) -> None:
    """Train a router version on the outcome log and register it."""
    candidates = served_candidates(url)
    schema = FeatureExtractor.load(encoders).schema
    training_set = training_set_from_log(
        outcome_log, schema_hash=schema.hash, candidate_ids=[c.id for c in candidates]
    )
    typer.echo(f"{len(training_set)} rows, {training_set.num_observed().tolist()} labels each")
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    config = FitConfig(version=f"router-{stamp}", seed=seed)
    folder = train_on_ray(
        training_set, config, schema=schema, candidates=candidates, storage=storage.resolve()
    )
    artifact = load_artifact(folder, expected_schema_hash=schema.hash)
    metrics = {
        name: float(value)
        for name, value in artifact.training_summary.items()
        if isinstance(value, int | float)
    }
    params = {k: v for k, v in dataclasses.asdict(config).items() if not isinstance(v, dict)}
    registry = Publisher(registry_uri, model=registry_model)
    version = registry.publish_router(artifact, metrics=metrics, params=params)
    registry.publish_profiles(artifact.profiles, router_version=version)
    is_first = registry.champion() is None
    if promotion is Promotion.AUTO and (is_first or may_promote(metrics)):
        registry.promote(version)
        typer.echo(f"version {version} is champion")
    else:
        typer.echo(f"version {version} is challenger")
    for name, value in metrics.items():
        typer.echo(f"  {name} {value:.4g}")


if __name__ == "__main__":
    typer.run(main)
