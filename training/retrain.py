"""Step 8, retrain: the Ray job that turns the outcome log into the next router version.

    ray job submit --working-dir . -- python training/retrain.py --promote auto

Reads the log, trains with Ray Train, proves the result on queries that no training ever sees, and
registers it in MLflow as ``challenger`` with its certificate. With ``--promote auto`` a version
that passes every gate becomes ``champion`` at once; else a person moves the alias. A job runs in a
copy of the working directory, so its folders come as absolute paths, by option or by environment
variable. A run that was cut off goes on when the same ``--run`` is submitted again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from router.artifact import MANIFEST, load_artifact
from router.features.extract import FeatureExtractor
from training.asking.served import served_candidates
from training.data.held_out import labelled_rows_from_log
from training.data.log_sample import Part, Sample
from training.data.outcome_rows import training_set_from_log
from training.fitting.fit_config import FitConfig
from training.fitting.search import search_settings
from training.fitting.train_job import TrainJob, train_on_ray
from training.proof.certify import Trial, certify
from training.proof.gates import GateConfig, load_gates
from training.publishing.publish import ROUTER_MODEL, Publisher

if TYPE_CHECKING:
    from router.artifact import RouterArtifact
    from router.candidate import Candidate
    from router.certificate import Certificate
    from router.features.schema import FeatureSchema

NUM_TRIALS = 12
"""Settings that ``--tune`` tries."""


class Promotion(StrEnum):
    """Whether the job itself may move the alias."""

    AUTO = "auto"
    NEVER = "never"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One retraining: where it reads, and until when, so that a resumed one sees the same rows."""

    outcome_log: str
    storage: Path
    name: str
    until: datetime
    since: datetime | None
    max_rows: int
    seed: int

    @classmethod
    def starting(
        cls,
        outcome_log: str,
        storage: Path,
        name: str | None,
        *,
        since: datetime | None,
        max_rows: int,
        seed: int,
    ) -> Run:
        """Return a run that reads up to now, named by the time where it has no name."""
        now = datetime.now(UTC)
        return cls(
            outcome_log=outcome_log,
            storage=storage,
            name=name or f"router-{now:%Y%m%d-%H%M%S}",
            until=now,
            since=None if since is None else since.replace(tzinfo=UTC),
            max_rows=max_rows,
            seed=seed,
        )

    def sample(self, part: Part) -> Sample:
        """Return which outcomes of a part are drawn."""
        return Sample(
            part=part,
            max_rows=self.max_rows,
            since=self.since,
            until=self.until,
            seed=self.seed,
        )

    def begun(self) -> Run:
        """Return the run as it began: the same where it is new, else with its own end of time."""
        path = self.storage / f"{self.name}.run.json"
        if path.exists():
            until = datetime.fromisoformat(json.loads(path.read_text())["until"])
            return dataclasses.replace(self, until=until)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"until": self.until.isoformat()}))
        return self


def trained(
    run: Run,
    config: FitConfig,
    *,
    schema: FeatureSchema,
    candidates: list[Candidate],
    num_workers: int,
    num_trials: int,
) -> tuple[Path, TrainJob]:
    """Train on the run's rows, with the settings that a search found if it is asked for."""
    training_set = training_set_from_log(
        run.outcome_log,
        schema_hash=schema.hash,
        candidate_ids=[candidate.id for candidate in candidates],
        sample=run.sample(Part.LEARN),
    )
    typer.echo(f"{len(training_set)} rows, {training_set.num_observed().tolist()} labels each")
    job = TrainJob(training_set=training_set, config=config, schema=schema, candidates=candidates)
    if num_trials:
        settings = search_settings(job, storage=run.storage, num_trials=num_trials)
        typer.echo(f"settings: {dataclasses.asdict(settings)}")
        job = dataclasses.replace(job, config=settings)
    return train_on_ray(job, storage=run.storage, num_workers=num_workers), job


def proven(
    run: Run,
    job: TrainJob,
    artifact: RouterArtifact,
    manifest_sha256: str,
    *,
    champion: RouterArtifact | None,
    gates: GateConfig,
) -> Certificate:
    """Examine a version on the run's queries that no training sees."""
    held_out = labelled_rows_from_log(
        run.outcome_log,
        schema_hash=job.schema.hash,
        candidate_ids=job.training_set.candidate_ids,
        sample=run.sample(Part.PROVE),
    )
    typer.echo(f"{len(held_out)} rows to prove it on")
    trial = Trial(
        challenger=artifact,
        manifest_sha256=manifest_sha256,
        champion=champion,
        train=job.training_set,
        held_out=held_out,
        candidates=tuple(job.candidates),
        served_schema_hash=job.schema.hash,
        first_time=run.since,
        last_time=run.until,
    )
    return certify(trial, gates, now=datetime.now(UTC))


def main(  # noqa: PLR0913 - each is an option of the command line
    *,
    outcome_log: Annotated[
        str, typer.Option(envvar="POINTSMAN_OUTCOME_LOG", help="Folder, or s3://bucket/prefix.")
    ],
    encoders: Annotated[Path, typer.Option(envvar="POINTSMAN_ENCODERS")],
    storage: Annotated[Path, typer.Option(envvar="POINTSMAN_TRAIN_STORAGE")],
    registry_uri: Annotated[str, typer.Option(help="MLflow.")] = "http://127.0.0.1:5000",
    registry_model: Annotated[str, typer.Option(help="Registered model.")] = ROUTER_MODEL,
    url: Annotated[str, typer.Option(help="The running system.")] = "http://127.0.0.1:8000",
    promotion: Annotated[Promotion, typer.Option("--promote")] = Promotion.NEVER,
    gates: Annotated[
        Path | None, typer.Option(help="YAML or JSON with limits of the gates.")
    ] = None,
    run: Annotated[
        str | None, typer.Option(help="Name of the run; one that was cut off goes on.")
    ] = None,
    since: Annotated[
        datetime | None, typer.Option(help="Leave out outcomes before it, UTC.")
    ] = None,
    max_rows: Annotated[int, typer.Option(help="Most rows to train on.")] = Sample().max_rows,
    workers: Annotated[int, typer.Option(help="Processes that share the folds.")] = 1,
    tune: Annotated[bool, typer.Option(help="Let Ray Tune look for settings.")] = False,
    seed: Annotated[int, typer.Option(help="Of folds, anchors and kinds.")] = 0,
) -> None:
    """Train a router version on the outcome log, prove it, and register it."""
    begun = Run.starting(
        outcome_log, storage.resolve(), run, since=since, max_rows=max_rows, seed=seed
    ).begun()
    registry = Publisher(registry_uri, model=registry_model)
    if (version := registry.version_named(begun.name)) is not None:
        _go_on(registry, version, begun, promotion)
        return
    limits = GateConfig() if gates is None else load_gates(gates)
    schema = FeatureExtractor.load(encoders).schema
    folder, job = trained(
        begun,
        FitConfig(version=begun.name, seed=seed),
        schema=schema,
        candidates=served_candidates(url),
        num_workers=workers,
        num_trials=NUM_TRIALS if tune else 0,
    )
    version, certificate = _published(begun, folder, job, registry, limits)
    conclude(registry, version, certificate, promotion)


def _go_on(registry: Publisher, version: str, run: Run, promotion: Promotion) -> None:
    """Do what a run that was cut off after it registered its version left undone."""
    if registry.has_concluded(run.name):
        typer.echo(f"run {run.name} has ended before, as version {version}")
        return
    typer.echo(f"run {run.name} was cut off after it registered version {version}")
    artifact, certificate = registry.published(version)
    registry.publish_profiles(artifact.profiles, router_version=version)
    conclude(registry, version, certificate, promotion)


def _published(
    run: Run, folder: Path, job: TrainJob, registry: Publisher, gates: GateConfig
) -> tuple[str, Certificate]:
    artifact = load_artifact(folder, expected_schema_hash=job.schema.hash)
    certificate = proven(
        run,
        job,
        artifact,
        sha256_of(folder / MANIFEST),
        champion=registry.comparable_champion(job.schema.hash),
        gates=gates,
    )
    version = registry.publish_router(folder, certificate, params=params_of(job.config))
    registry.publish_profiles(artifact.profiles, router_version=version)
    return version, certificate


def conclude(
    registry: Publisher, version: str, certificate: Certificate, promotion: Promotion
) -> None:
    """Tell how the gates stand, promote the version if that is wished, and note the end."""
    for gate in certificate.gates:
        typer.echo(f"  {'pass' if gate.passed else 'FAIL'} {gate.name}: {gate.reason}")
    if promotion is Promotion.AUTO and certificate.passed:
        registry.promote(version)
        typer.echo(f"version {version} is champion")
    else:
        typer.echo(f"version {version} is challenger")
        if promotion is Promotion.AUTO:
            typer.echo("not promoted: " + "; ".join(certificate.reasons))
    registry.conclude(version)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def params_of(config: FitConfig) -> dict[str, str | int | float | bool]:
    """Return the settings that MLflow shows."""
    return dataclasses.asdict(config)


if __name__ == "__main__":
    typer.run(main)
