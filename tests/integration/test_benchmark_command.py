"""The benchmark's command line on a small folder of real pictures."""

import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
NUM_QUERIES = 60

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return a folder in the generic form: red pictures suit one model, blue ones the other."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    ids = [f"q{i}" for i in range(NUM_QUERIES)]
    is_red = rng.random(NUM_QUERIES) < 0.5
    for name, red in zip(ids, is_red, strict=True):
        buffer = BytesIO()
        Image.new("RGB", (32, 32), "red" if red else "blue").save(buffer, "PNG")
        (folder / "images" / f"{name}.png").write_bytes(buffer.getvalue())
    queries = {
        "query_id": ids,
        "question": ["Which colour is shown?"] * NUM_QUERIES,
        "image_path": [f"images/{name}.png" for name in ids],
    }
    outcomes = {
        "query_id": [*ids, *ids],
        "model": ["a"] * NUM_QUERIES + ["b"] * NUM_QUERIES,
        "score": [*is_red.astype(float), *(~is_red).astype(float)],
        "cost_usd": [0.001] * NUM_QUERIES + [0.004] * NUM_QUERIES,
    }
    pq.write_table(pa.table(queries), folder / "queries.parquet")
    pq.write_table(pa.table(outcomes), folder / "outcomes.parquet")
    return folder


def run(*arguments):
    """Run the command and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "training.benchmark", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_a_report_holds_the_router_against_rivals(data, tmp_path):
    """JSON, Markdown and a frontier are written, and the router sees what the picture shows."""
    printed = run("--data", data, "--rival", "knn", "--seeds", 1, "--out", tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"report.md", "report.json", "results.json"} <= names
    assert any(name.endswith(".png") for name in names)
    assert "**pointsman** | 100.0" in printed


def test_features_are_dumped_without_pickle(data, tmp_path):
    """Anybody can run another router on the same inputs."""
    run("--data", data, "--dump-features", tmp_path / "inputs.npz")
    with np.load(tmp_path / "inputs.npz", allow_pickle=False) as arrays:
        assert arrays["X"].shape[0] == NUM_QUERIES
        assert arrays["score"].shape == (NUM_QUERIES, 2)
        assert arrays["models"].tolist() == ["a", "b"]
