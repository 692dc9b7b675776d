"""The raw features of a source's queries, extracted by processes and remembered.

Axis legend: N = queries, F = raw features.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import time
import zipfile
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from router.errors import BadImageError, InvalidInputError
from router.features.build import build_encoders
from router.features.extract import FeatureExtractor
from router.features.picture import PictureLimits, decode_picture

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from router.features.picture import Picture
    from router.features.schema import FeatureSchema
    from training.benchmark.source_table import Report, SourceTable

CHUNK_ROWS = 32
"""Queries a process is given at once; two seconds of work, so that progress is seen."""

FEWEST_ROWS_FOR_PROCESSES = 200
"""Below, starting processes takes longer than it saves: each loads the encoders anew, in 3 s."""

REPORT_EVERY_S = 10.0

_CACHED_VECTORS = 256
"""Enough for neighbours that share a picture; a larger memory is of no use in one pass."""

Query = tuple[str, tuple["Path", ...]]
"""A question with its images."""


class Features(NamedTuple):
    """Raw features with their layout."""

    features_NF: NDArray[np.float32]
    schema: FeatureSchema


def extract_features(
    source: SourceTable,
    *,
    encoder_folder: Path,
    cache_folder: Path,
    report: Report,
    num_processes: int = 2,
) -> Features:
    """Return the features of all queries, from the cache if they were extracted before.

    A cache file belongs to one feature schema and one list of queries with their questions, image
    paths and image sizes; one of another schema is never used. An image that was replaced by one
    of the same path and number of bytes goes unnoticed: empty the folder then.

    Args:
        source: The queries.
        encoder_folder: Holds the encoders, or will: they are built if need be.
        cache_folder: Where features are kept.
        report: Told the progress with the time to go.
        num_processes: How many extract at the same time; 1 starts none.

    Raises:
        BadImageError: If an image cannot be read; the message names the file.
    """
    if len(source) == 0:
        raise InvalidInputError(f"{source.name} holds no query", "queries")
    build_encoders(encoder_folder)
    extractor = FeatureExtractor.load(encoder_folder, cache_size=_CACHED_VECTORS)
    schema = extractor.schema
    key = queries_sha256(source)
    path = cache_folder / f"features-{schema.hash[:12]}-{key[:12]}.npz"
    cached_NF = _read_cache(path, schema, key, report)
    if cached_NF is not None:
        report(f"features: {len(source)} queries from {path}")
        return Features(cached_NF, schema)
    queries = list(zip(source.questions, source.images, strict=True))
    if num_processes == 1 or len(queries) < FEWEST_ROWS_FOR_PROCESSES:
        chunks = (_extract(extractor, chunk) for chunk in _chunks(queries))
    else:
        chunks = _in_processes(queries, encoder_folder, num_processes)
    features_NF = _gather(chunks, len(queries), schema.num_features, report)
    _write_cache(path, features_NF, schema, key)
    return Features(features_NF, schema)


def queries_sha256(source: SourceTable) -> str:
    """Return the hash of what the features depend on, besides the encoders."""
    digest = hashlib.sha256()
    columns = (source.query_ids, source.questions, source.images)
    for query_id, question, images in zip(*columns, strict=True):
        files = [[str(image), image.stat().st_size] for image in images]
        digest.update(json.dumps([query_id, question, files]).encode())
    return digest.hexdigest()


def _chunks(queries: Sequence[Query]) -> Iterator[Sequence[Query]]:
    """Yield the queries in runs of ``CHUNK_ROWS``."""
    for start in range(0, len(queries), CHUNK_ROWS):
        yield queries[start : start + CHUNK_ROWS]


def _in_processes(
    queries: Sequence[Query], encoder_folder: Path, num_processes: int
) -> Generator[NDArray[np.float32]]:
    """Yield the features of each chunk in turn; what is left is dropped at the first error."""
    pool = ProcessPoolExecutor(
        num_processes,
        # Forked copies of a process that runs ONNX threads may hang.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_open_extractor,
        initargs=(encoder_folder,),
    )
    try:
        yield from pool.map(_extract_here, _chunks(queries))
    finally:
        pool.shutdown(cancel_futures=True)


_EXTRACTORS: list[FeatureExtractor] = []
"""The one extractor of a started process; empty in every other."""


def _open_extractor(encoder_folder: Path) -> None:
    """Load the encoders, once a process."""
    _EXTRACTORS.append(FeatureExtractor.load(encoder_folder, cache_size=_CACHED_VECTORS))


def _extract_here(queries: Sequence[Query]) -> NDArray[np.float32]:
    """Return the features of a chunk in a started process."""
    return _extract(_EXTRACTORS[0], queries)


def _extract(extractor: FeatureExtractor, queries: Sequence[Query]) -> NDArray[np.float32]:
    """Return the features of a chunk, (rows, F)."""
    return np.stack(
        [
            extractor.extract(question, [_picture(image) for image in images])
            for question, images in queries
        ]
    )


def _picture(path: Path) -> Picture:
    """Return a file as a picture, or an error that names the file."""
    try:
        return decode_picture(path.read_bytes(), limits=PictureLimits(), field="image_path")
    except BadImageError as error:
        raise BadImageError(
            f"{path}: {error}; replace the file or leave out the query", error.field
        ) from error


def _gather(
    chunks: Iterator[NDArray[np.float32]], num_rows: int, num_features: int, report: Report
) -> NDArray[np.float32]:
    """Return all chunks as one array, and tell how it goes."""
    features_NF = np.empty((num_rows, num_features), dtype=np.float32)
    started = reported = time.monotonic()
    done = 0
    for chunk_NF in chunks:
        features_NF[done : done + len(chunk_NF)] = chunk_NF
        done += len(chunk_NF)
        now = time.monotonic()
        if now - reported >= REPORT_EVERY_S and done < num_rows:
            left_s = (now - started) * (num_rows - done) / done
            report(f"features: {done} of {num_rows} queries, {left_s:.0f} s to go")
            reported = now
    report(f"features: {num_rows} queries in {time.monotonic() - started:.0f} s")
    return features_NF


def _read_cache(
    path: Path, schema: FeatureSchema, key: str, report: Report
) -> NDArray[np.float32] | None:
    """Return what was extracted before; None, with a word, if the file is of no use."""
    if not path.exists():
        return None
    try:
        # Opened here: numpy leaves a file open that it cannot read.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            features_NF = np.asarray(archive["X"], dtype=np.float32)
            is_ours = (str(archive["schema"]), str(archive["key"])) == (schema.to_json(), key)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        report(f"features: {path} cannot be read and is written again: {error}")
        return None
    return features_NF if is_ours else None


def _write_cache(
    path: Path, features_NF: NDArray[np.float32], schema: FeatureSchema, key: str
) -> None:
    """Write a file so that a reader sees all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez(file, X=features_NF, schema=schema.to_json(), key=key)
    part.replace(path)
