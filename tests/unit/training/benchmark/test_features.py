"""Features of a source: extracted once, by processes if there are many, and remembered."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from router.errors import BadImageError, InvalidInputError
from router.features.extract import FeatureExtractor
from router.features.picture import PictureLimits, decode_picture
from training.benchmark import features
from training.benchmark.features import extract_features, queries_sha256
from training.benchmark.parquet_source import read_parquet_source


@pytest.fixture
def extract(encoder_folder, tmp_path):
    """Return an extraction into a cache of its own that keeps its lines."""

    def run(source, **options):
        lines = []
        result = extract_features(
            source,
            encoder_folder=encoder_folder,
            cache_folder=tmp_path / "cache",
            report=lines.append,
            **options,
        )
        return result, lines

    return run


def cache_files(tmp_path):
    """Return what the cache holds."""
    return sorted((tmp_path / "cache").iterdir())


def test_features_are_the_extractor_s(generic, extract, encoder_folder):
    """Row by row what serving computes of the same text and pictures."""
    source = read_parquet_source(generic)
    (features_NF, schema), _ = extract(source)
    extractor = FeatureExtractor.load(encoder_folder)
    assert schema == extractor.schema
    assert features_NF.shape == (3, schema.num_features)
    assert features_NF.dtype == np.float32
    for row_F, text, images in zip(features_NF, source.questions, source.images, strict=True):
        pictures = [decode_picture(p.read_bytes(), limits=PictureLimits()) for p in images]
        assert np.array_equal(row_F, extractor.extract(text, pictures))


def test_a_second_run_reads_the_cache(generic, extract, tmp_path):
    """The file is named, its content is the same, and nothing is pickled."""
    source = read_parquet_source(generic)
    (first_NF, _), lines = extract(source)
    (again_NF, _), more = extract(source)
    assert np.array_equal(first_NF, again_NF)
    assert [line.rsplit(" in ", 1)[0] for line in lines] == ["features: 3 queries"]
    (path,) = cache_files(tmp_path)
    assert more == [f"features: 3 queries from {path}"]
    with np.load(path, allow_pickle=False) as archive:
        assert np.array_equal(archive["X"], first_NF)


def test_a_cache_of_another_schema_is_never_used(generic, extract, tmp_path):
    """Not even under the right file name."""
    source = read_parquet_source(generic)
    (first_NF, _), _ = extract(source)
    (path,) = cache_files(tmp_path)
    key = queries_sha256(source)
    np.savez(path, X=np.zeros_like(first_NF), schema='{"blocks":[]}', key=key)
    (again_NF, schema), _ = extract(source)
    assert np.array_equal(again_NF, first_NF)
    np.savez(path, X=np.zeros_like(first_NF), schema=schema.to_json(), key="0" * 64)
    assert np.array_equal(extract(source)[0].features_NF, first_NF)


def test_a_broken_cache_is_written_again(generic, extract, tmp_path):
    """With a word of warning."""
    source = read_parquet_source(generic)
    (first_NF, _), _ = extract(source)
    (path,) = cache_files(tmp_path)
    path.write_bytes(path.read_bytes()[:200])
    (again_NF, _), lines = extract(source)
    assert np.array_equal(again_NF, first_NF)
    assert "cannot be read and is written again" in lines[0]


def test_the_key_is_what_features_depend_on(generic, made_up):
    """Ids, questions, paths and image sizes change it; outcomes and names do not."""
    source = read_parquet_source(generic)
    key = queries_sha256(source)
    for change in (
        {"query_ids": ("q1", "q2", "q4")},
        {"questions": ("a", "b", "c")},
        {"images": source.images[::-1]},
    ):
        assert queries_sha256(dataclasses.replace(source, **change)) != key
    others = {"name": "other", "groups": (None,) * 3, "prices": {}}
    assert queries_sha256(dataclasses.replace(source, **others)) == key
    (generic / "images" / "a.png").write_bytes(made_up.png(size=(80, 60)))
    assert queries_sha256(source) != key


def test_a_broken_image_is_named(generic, extract):
    """The error holds the path of the file."""
    path = generic / "images" / "b.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(BadImageError, match=r"images/b.png: the image/png .*; replace the file"):
        extract(read_parquet_source(generic))


@pytest.fixture
def many(made_up, tmp_path):
    """Return ninety questions, every third with a picture."""
    path = tmp_path / "a.png"
    path.write_bytes(made_up.png(size=(40, 30)))
    source = made_up.source([(f"q{i:02}", "m", 1.0) for i in range(90)])
    return dataclasses.replace(source, images=((path,), (), ()) * 30)


def test_processes_return_what_one_does(many, extract, monkeypatch, tmp_path):
    """In the same order, down to the bit, and they tell how long it takes."""
    (alone_NF, _), _ = extract(many, num_processes=1)
    cache_files(tmp_path)[0].unlink()
    monkeypatch.setattr(features, "FEWEST_ROWS_FOR_PROCESSES", 1)
    monkeypatch.setattr(features, "REPORT_EVERY_S", 0.0)
    (together_NF, _), lines = extract(many, num_processes=2)
    assert np.array_equal(alone_NF, together_NF)
    assert [line.split(" queries")[0] for line in lines] == [
        "features: 32 of 90",
        "features: 64 of 90",
        "features: 90",
    ]
    assert lines[0].endswith("s to go")


def test_an_error_in_a_process_reaches_the_caller(many, extract, monkeypatch, tmp_path):
    """It keeps its type, and leaves no cache behind."""
    (tmp_path / "a.png").write_bytes(b"no picture")
    monkeypatch.setattr(features, "FEWEST_ROWS_FOR_PROCESSES", 1)
    with pytest.raises(BadImageError, match=r"a.png: not an image") as caught:
        extract(many, num_processes=2)
    assert caught.value.field == "image_path"
    assert not (tmp_path / "cache").exists()


def test_a_source_without_queries_is_refused(made_up, extract):
    """There would be nothing to measure."""
    with pytest.raises(InvalidInputError, match="holds no query"):
        extract(made_up.source([]))
