"""VL-RouterBench's outcomes, from its archive or folder, in the generic form.

Read off the published tools and data card (github.com/K1nght/VL-RouterBench,
``vlm_router_data.tar.gz``). Both layouts are taken: the one that is published (``vl_workbooks``)
and the one that the benchmark's tools build of it (``vl_matrices``). It is converted once, into
the cache folder, and read from there.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tarfile
import tempfile
import zipfile
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import yaml

from router.candidate import Price
from router.errors import InvalidInputError
from training.benchmark.generic_form import NOTES, ImageStore
from training.benchmark.parquet_source import read_parquet_source
from training.benchmark.vl_matrices import SCORES, convert_matrices
from training.benchmark.vl_workbooks import EVALUATION, convert_workbooks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from training.benchmark.source_table import Report, SourceTable

PRICES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "Janus-Pro-1B": (0.05, 0.05),
        "deepseek_vl2_tiny": (0.05, 0.05),
        "SmolVLM2": (0.06, 0.06),
        "Kimi-VL-A3B-Thinking-2506": (0.20, 0.25),
        "Phi-3.5-Vision": (0.10, 0.10),
        "deepseek_vl2": (0.35, 0.50),
        "Janus-Pro-7B": (0.18, 0.25),
        "MiMo-VL-7B-RL": (0.20, 0.30),
        "llava_next_vicuna_7b": (0.20, 0.20),
        "Qianfan-VL-8B": (0.18, 0.25),
        "Pixtral-12B": (0.25, 0.35),
        "Gemma3-27B": (0.35, 0.50),
        "Qwen2.5-VL-32B-Instruct": (0.40, 0.60),
        "Qwen2.5-VL-72B-Instruct": (0.80, 1.20),
        "InternVL2_5-78B": (1.00, 1.50),
        "GeminiFlash2-5": (0.30, 2.40),
        "GPT4o": (2.50, 10.00),
    }
)
"""USD per million input and output tokens, by folder name, from the benchmark's README; a file
``config/pricing.yaml`` in the folder overrides it."""

_PRICING = "config/pricing.yaml"
_CONVERTED_SUFFIXES = frozenset({".xlsx", ".parquet", ".tsv", ".jsonl", ".csv", ".yaml"})


def read_vl_router_bench(path: Path, *, cache_folder: Path, report: Report) -> SourceTable:
    """Read the archive (``.tar.gz`` or ``.zip``) or the unpacked folder.

    Args:
        path: Of the archive or folder.
        cache_folder: Where the converted form is kept, about as large as the images.
        report: Told how the conversion goes; it takes minutes.

    Raises:
        InvalidInputError: If it is neither of the two layouts, or broken.
    """
    into = cache_folder / f"vl-router-bench-{_content_key(path)}"
    if not into.exists():
        cache_folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_folder) as scratch:
            root = _unpacked(path, Path(scratch) / "unpacked")
            converted = Path(scratch) / "converted"
            _convert(root, converted, report)
            converted.rename(into)
    notes = tuple((into / NOTES).read_text(encoding="utf-8").splitlines())
    return dataclasses.replace(read_parquet_source(into), name="vl-router-bench", notes=notes)


def _content_key(path: Path) -> str:
    """Return a hash of names and sizes, so that another archive is converted anew."""
    if not path.exists():
        raise InvalidInputError(f"{path} does not exist; give the archive or its folder", "path")
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    listed = [
        (str(file.relative_to(path)), file.stat().st_size)
        for file in sorted(files)
        if file == path or file.suffix in _CONVERTED_SUFFIXES
    ]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:12]


def _unpacked(path: Path, into: Path) -> Path:
    """Return the folder itself, or the archive's content; no member may leave ``into``."""
    if path.is_dir():
        return path
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                archive.extractall(into)  # noqa: S202 - zipfile itself drops .. and roots
        else:
            with tarfile.open(path) as tar:
                tar.extractall(into, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError) as error:
        raise InvalidInputError(f"{path} is no sound archive: {error}", "path") from error
    return into


def _convert(path: Path, into: Path, report: Report) -> None:
    """Write what a folder holds in the generic form."""
    into.mkdir()
    store = ImageStore(into)
    for root in _folders(path):
        prices = _prices(root)
        if (root / SCORES).is_dir():
            convert_matrices(root, store, report).write(into, prices)
            return
        if (root / EVALUATION).is_dir():
            convert_workbooks(root, store, prices, report).write(into, prices)
            return
    raise InvalidInputError(f"{path} holds neither {SCORES} nor {EVALUATION}", "path")


def _folders(path: Path) -> Iterator[Path]:
    """Yield the folder and those directly within: archives wrap their content once."""
    yield path
    yield from sorted(child for child in path.iterdir() if child.is_dir())


def _prices(root: Path) -> dict[str, Price]:
    """Return the prices by model, as published or as the folder's own file says."""
    pairs = dict(PRICES)
    path = root / _PRICING
    try:
        listed = yaml.safe_load(path.read_text())["pricing"] if path.exists() else {}
        pairs |= {
            model: (float(entry["input_price_per_1m"]), float(entry["output_price_per_1m"]))
            for model, entry in listed.items()
            if "input_price_per_1m" in entry
        }
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInputError(f"{path} is no table of prices: {error!r}", "pricing") from error
    return {
        model: Price(input_usd_per_mtok=input_, output_usd_per_mtok=output)
        for model, (input_, output) in pairs.items()
    }
