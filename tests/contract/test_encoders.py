"""One suite over every encoder: what ``router.features.encoder.Encoder`` promises."""

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from router.features.build import build_encoders
from router.features.extract import FeatureExtractor
from router.features.picture import PictureLimits, decode_picture
from router.features.weights import DEFAULT_FOLDER

TEXT = ("text", "question")
PICTURE = ("image", "text_density", "image_statistics")
SET = ("image_set",)


def drawn(size, color, text=""):
    """Return a picture of one colour with a text on it."""
    image = Image.new("RGB", size, color)
    ImageDraw.Draw(image).text((4, size[1] // 3), text, "black", font_size=20)
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return decode_picture(buffer.getvalue(), limits=PictureLimits())


TEXTS = [
    "How many red circles are there?",
    "Translate the sign.\nOptions: (A) exit; (B) entry",
    "word " * 5000,
    "\u5982\u56fe\uff0c\u6c42 x \U0001f600",
]
PICTURES = [
    drawn((320, 240), "white", "a line of words"),
    drawn((64, 64), "red", "ab"),
    drawn((900, 300), "white", "another, wider page of text"),
]
ODD_TEXTS = ["", " ", "\x00", "\ud800", "a" * 100_000, "\n" * 9999, "\u0301" * 300]
ODD_PICTURES = [drawn(size, "black") for size in [(1, 1), (1, 400), (400, 1), (2, 2)]]


@pytest.fixture(scope="session")
def extractor():
    """Return the default encoders, built if need be."""
    folder = Path(__file__).parents[2] / DEFAULT_FOLDER
    build_encoders(folder)
    return FeatureExtractor.load(folder)


@pytest.fixture(params=TEXT + PICTURE + SET)
def case(request, extractor):
    """Return one encoder with ordinary, distinct items and with odd ones."""
    name = request.param
    if name in TEXT:
        return extractor._text[name], TEXTS, ODD_TEXTS
    if name in PICTURE:
        return extractor._picture[name], PICTURES, ODD_PICTURES
    sets = [PICTURES[:1], PICTURES[1:2], PICTURES, []]
    return extractor._picture_set[name], sets, [[picture] for picture in ODD_PICTURES]


def test_names_its_behaviour(case):
    """Name, fingerprint and dim are set."""
    encoder, _, _ = case
    assert encoder.name
    assert len(bytes.fromhex(encoder.sha256)) == 32
    assert encoder.dim >= 1


def test_returns_finite_float32_of_its_dim(case):
    """Ordinary and odd items alike: empty, endless, single pixels, needles."""
    encoder, items, odd = case
    for item in [*items, *odd]:
        vector = encoder.encode(item)
        assert vector.shape == (encoder.dim,)
        assert vector.dtype == np.float32
        assert np.isfinite(vector).all()


def test_is_deterministic_in_any_order(case):
    """What was encoded before changes nothing, not a bit."""
    encoder, items, odd = case
    forward = [encoder.encode(item) for item in items]
    for item in odd:
        encoder.encode(item)
    backward = [encoder.encode(item) for item in reversed(items)]
    assert np.array_equal(forward, backward[::-1])


def test_tells_items_apart(case):
    """Distinct items have distinct vectors."""
    encoder, items, _ = case
    vectors = [encoder.encode(item) for item in items]
    for index, vector in enumerate(vectors):
        for other in vectors[:index]:
            assert np.abs(vector - other).max() > 1e-3


def test_serves_many_threads(case):
    """Calls at once return what calls in turn return."""
    encoder, items, _ = case
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(encoder.encode, items * 4))
    assert np.array_equal(together, [encoder.encode(item) for item in items] * 4)


def test_fingerprints_are_unique(extractor):
    """No two blocks share a fingerprint."""
    hashes = [block.sha256 for block in extractor.schema.blocks]
    assert len(set(hashes)) == len(hashes)


def test_a_long_text_costs_no_more_than_its_start(extractor):
    """Beyond 256 tokens nothing is read."""
    encode = extractor._text["text"].encode
    assert np.array_equal(encode("word " * 300), encode("word " * 3000))
