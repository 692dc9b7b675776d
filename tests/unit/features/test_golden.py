"""Pinned numbers: a change of preprocessing, runtime or weights cannot pass unnoticed.

To renew ``golden/embeddings.npz`` after a wanted change: raise the version in the encoder's
fingerprint, delete the file, run the test once (it writes the file and fails), look, commit.
"""

from pathlib import Path

import numpy as np
import pytest

from router.features.extract import FeatureExtractor

GOLDEN = Path(__file__).parent / "golden" / "embeddings.npz"
TEXTS = {
    "short": "How many circles are in the image?",
    "choices": "Which bike is most expensive?\nOptions: (A) A; (B) B; (C) C; (D) D",
    "chinese": "\u5982\u56fe\uff0c\u76f4\u7ebf l1\u2225l2\uff0c\u2220 1\uff1d50\u00b0",
    "long": "Read the table and explain each row step by step. " * 60,
}


@pytest.fixture(scope="module")
def found(encoder_folder, pictures):
    """Return every block of every fixed text and drawn picture, by name."""
    extractor = FeatureExtractor.load(encoder_folder)
    vectors = {
        f"{name}/{key}": encoder.encode(text)
        for name, encoder in extractor._text.items()
        for key, text in TEXTS.items()
    }
    return vectors | {
        f"{name}/{key}": encoder.encode(picture)
        for name, encoder in extractor._picture.items()
        for key, picture in pictures.items()
    }


def test_embeddings_match_the_golden_ones(found):
    """Every vector has a cosine of at least 0.999 with the stored one, and the same length."""
    if not GOLDEN.exists():
        np.savez_compressed(GOLDEN, **{k: v.astype(np.float16) for k, v in found.items()})
        pytest.fail(f"wrote {GOLDEN.name}; look at it and commit it")
    with np.load(GOLDEN) as golden:
        assert set(golden.files) == set(found)
        for key, vector in found.items():
            stored = golden[key].astype(np.float32)
            lengths = np.linalg.norm(vector), np.linalg.norm(stored)
            assert lengths[0] == pytest.approx(lengths[1], rel=0.01, abs=1e-3), key
            if min(lengths) > 1e-3:
                assert vector @ stored / lengths[0] / lengths[1] >= 0.999, key


def test_meaning_orders_the_embeddings(encoder_folder):
    """A paraphrase is nearer than another subject: the numbers are not only stable but sane."""
    encode = FeatureExtractor.load(encoder_folder)._text["text"].encode
    asked, same, other = map(
        encode,
        ("How many circles are there?", "Count the circles.", "Translate the sign into French."),
    )
    assert asked @ same > asked @ other + 0.3
