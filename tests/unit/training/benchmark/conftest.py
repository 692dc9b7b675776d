"""Small made-up sources, written as files, with real pictures."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from router.features.build import build_encoders
from router.features.schema import FeatureBlock, FeatureSchema
from router.features.weights import DEFAULT_FOLDER
from training.benchmark.source_table import Outcomes, SourceTable

ROOT = Path(__file__).parents[4]

SCHEMA = FeatureSchema(
    (
        FeatureBlock(name="text", encoder="made-up", sha256="0" * 64, dim=2),
        FeatureBlock(name="image", encoder="made-up", sha256="1" * 64, dim=1),
    )
)


def png(color="red", size=(8, 6)):
    """Return the bytes of a picture of one colour."""
    buffer = BytesIO()
    Image.new("RGB", size, color).save(buffer, "PNG")
    return buffer.getvalue()


def write_table(path, **columns):
    """Write columns as Parquet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def make_source(answers, *, groups=(), datasets=(), prices=None, **columns):
    """Return a source of text queries.

    Args:
        answers: (query, model, score) by name; queries and models in order of their names.
        groups: One for each query.
        datasets: One for each query.
        prices: By model.
        columns: Other measures, a value for each answer.
    """
    query_ids = sorted({answer[0] for answer in answers})
    models = sorted({answer[1] for answer in answers})
    names = ("input_tokens", "output_tokens", "cost_usd", "latency_s")
    unknown = [np.nan] * len(answers)
    return SourceTable(
        name="made-up",
        query_ids=tuple(query_ids),
        questions=tuple(f"question {name}" for name in query_ids),
        images=((),) * len(query_ids),
        datasets=tuple(datasets) or ("set",) * len(query_ids),
        groups=tuple(groups) or (None,) * len(query_ids),
        models=tuple(models),
        outcomes=Outcomes(
            query_O=np.array([query_ids.index(answer[0]) for answer in answers]),
            model_O=np.array([models.index(answer[1]) for answer in answers]),
            score_O=np.array([answer[2] for answer in answers], dtype=float),
            **{f"{name}_O": np.array(columns.get(name, unknown), dtype=float) for name in names},
        ),
        prices=prices or {},
    )


@pytest.fixture(scope="session")
def made_up():
    """Return the makers of pictures, files and sources, and a small schema."""
    return SimpleNamespace(png=png, write_table=write_table, source=make_source, schema=SCHEMA)


@pytest.fixture(scope="session")
def encoder_folder():
    """Return the built encoder folder, the one that the product uses too."""
    folder = ROOT / DEFAULT_FOLDER
    build_encoders(folder)
    return folder


@pytest.fixture(scope="session")
def routing_data():
    """Return the folder of published outcomes, or skip: it may not be redistributed."""
    default = ROOT.parent / "shared" / "data" / "routing"
    folder = Path(os.environ.get("POINTSMAN_ROUTING_DATA", default))
    if not (folder / "queries.parquet").is_file():
        pytest.skip(f"{folder} is absent; set POINTSMAN_ROUTING_DATA to the published outcomes")
    return folder


@pytest.fixture
def generic(tmp_path):
    """Return a folder in the generic form: three questions, two models, six answers."""
    folder = tmp_path / "mine"
    write_table(
        folder / "queries.parquet",
        query_id=["q1", "q2", "q3"],
        question=["What is shown?", "Are they alike?", "How much is 1 + 1?"],
        image_path=pa.array([["images/a.png"], ["images/a.png", "images/b.png"], None]),
        group_id=["photo", "photo", None],
        dataset=["shop", "shop", "sums"],
    )
    write_table(
        folder / "outcomes.parquet",
        query_id=["q1", "q1", "q2", "q2", "q3", "q3"],
        model=["small", "large"] * 3,
        score=[0.0, 1.0, 0.25, 0.75, 1.0, 1.0],
        prompt_tokens=[100, 110, None, 210, 20, 21],
        output_tokens=[5, 50, 6, 60, 7, 70],
        cost_usd=[None, 0.5, None, None, None, None],
        latency_s=[0.1, 1.0, 0.1, 1.1, 0.2, None],
    )
    (folder / "models.csv").write_text(
        "model,input_usd_per_mtok,output_usd_per_mtok\nsmall,1,2\nlarge,10,20\n"
    )
    (folder / "images").mkdir()
    (folder / "images" / "a.png").write_bytes(png("red"))
    (folder / "images" / "b.png").write_bytes(png("blue"))
    return folder
