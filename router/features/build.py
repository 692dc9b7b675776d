"""Puts the encoders' weights into one folder: ``python -m router.features.build --out DIR``."""

from __future__ import annotations

import argparse
import fcntl
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from router.errors import EncoderError
from router.features.weights import (
    ALL_WEIGHTS,
    DEFAULT_FOLDER,
    MANIFEST,
    Weights,
    built_bytes,
    manifest_json,
    shipped_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def build_encoders(folder: Path) -> bool:
    """Make ``folder`` hold every file that serving loads; False if it already did.

    Safe to call from several processes: one builds, the others wait for it.

    Raises:
        EncoderError: If a package is absent or ships other weights than the pinned ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        if is_built(folder):
            return False
        for weights in ALL_WEIGHTS:
            _write(folder / weights.file, _served_bytes(weights))
        _write(folder / MANIFEST, manifest_json(folder).encode())
    return True


def is_built(folder: Path) -> bool:
    """Return whether every file is there and unaltered; reads 50 MB, imports no torch."""
    try:
        for weights in ALL_WEIGHTS:
            built_bytes(folder, weights)
    except EncoderError:
        return False
    return True


def _served_bytes(weights: Weights) -> bytes:
    """Return what serving reads: the shipped file or its export."""
    shipped = shipped_bytes(weights)
    if not weights.is_exported:
        return shipped
    # Imported here because torch takes seconds and only the first build needs it.
    from router.features.export import export_efficientnet  # noqa: PLC0415 - torch is only there to build with

    return export_efficientnet(shipped)


def _write(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees all of it or nothing."""
    part = path.with_suffix(".part")
    part.write_bytes(data)
    part.replace(path)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the kernel frees it if this process dies."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(arguments: Sequence[str] | None = None) -> None:
    """Build from the command line."""
    parser = argparse.ArgumentParser(prog="python -m router.features.build", description=__doc__)
    parser.add_argument("--out", type=Path, default=DEFAULT_FOLDER, help="default: %(default)s")
    folder: Path = parser.parse_args(arguments).out
    verb = "built" if build_encoders(folder) else "already built"
    sys.stdout.write(f"encoders {verb} in {folder}\n")


if __name__ == "__main__":  # pragma: no cover - main() is tested
    main()
