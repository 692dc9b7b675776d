"""Real encoders, built once into the folder that the product uses too, and drawn pictures."""

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from router.features.build import build_encoders
from router.features.picture import PictureLimits, decode_picture
from router.features.weights import DEFAULT_FOLDER

LIMITS = PictureLimits()


@pytest.fixture(scope="session")
def encoder_folder():
    """Return the built encoder folder."""
    folder = Path(__file__).parents[3] / DEFAULT_FOLDER
    build_encoders(folder)
    return folder


def _page():
    image = Image.new("RGB", (320, 240), "white")
    draw = ImageDraw.Draw(image)
    for row in range(7):
        draw.text(
            (10, 10 + 30 * row), f"line {row} of a page", "black", ImageFont.load_default(16)
        )
    return image


def _shapes():
    image = Image.new("RGB", (200, 320), (30, 60, 120))
    draw = ImageDraw.Draw(image)
    draw.ellipse((20, 20, 120, 120), "red")
    draw.rectangle((90, 150, 180, 300), "yellow")
    return image


def _shading():
    return Image.merge(
        "RGB",
        [Image.linear_gradient("L"), Image.radial_gradient("L")] * 1
        + [Image.linear_gradient("L").rotate(90)],
    ).resize((64, 64))


def encode(image, kind="PNG", **options):
    """Return the encoded bytes of an image."""
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def pictures():
    """Return a page of text, a drawing and a shading, by name."""
    drawn = {"page": _page(), "shapes": _shapes(), "shading": _shading()}
    return {name: decode_picture(encode(image), limits=LIMITS) for name, image in drawn.items()}
