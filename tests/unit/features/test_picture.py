"""Whatever the bytes, the answer is a sound picture or BadImageError."""

import hashlib
import pickle
import struct
import zlib
from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from router.errors import BadImageError
from router.features.picture import (
    THUMBNAIL_SIDE,
    Picture,
    PictureLimits,
    check_picture,
    decode_picture,
)

LIMITS = PictureLimits()
KINDS = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
}


def encode(image, kind="PNG", **options):
    """Return the encoded bytes of an image."""
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decode(data, **limits):
    """Decode under the default limits with some changed."""
    return decode_picture(data, limits=PictureLimits(**limits), field="messages.0")


def halves(mode="RGB", size=(40, 20)):
    """Return an image that is red on the left and blue on the right."""
    image = Image.new("RGB", size, "red")
    image.paste("blue", (size[0] // 2, 0, *size))
    return image.convert(mode)


@pytest.mark.parametrize("kind", KINDS)
def test_every_allowed_format_is_read(kind):
    """Each format keeps its size, its bytes and its colours."""
    data = encode(halves(), kind)
    picture = decode(data)
    assert (picture.width, picture.height, picture.media_type) == (40, 20, KINDS[kind])
    assert picture.data == data
    assert picture.sha256 == hashlib.sha256(data).hexdigest()
    assert picture.thumbnail.shape == (20, 40, 3)
    left, right = picture.thumbnail[10, 5].astype(int), picture.thumbnail[10, 35].astype(int)
    assert np.abs(left - (255, 0, 0)).max() < 12
    assert np.abs(right - (0, 0, 255)).max() < 12


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("1", "PNG"), ("L", "PNG"), ("LA", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("P", "GIF"),
     ("CMYK", "JPEG"), ("L", "JPEG"), ("RGBA", "WEBP"), ("L", "BMP")],
)  # fmt: skip
def test_every_pixel_mode_becomes_rgb(mode, kind):
    """Red stays brighter than blue in any mode, at full size and reduced."""
    for size in ((40, 20), (1400, 700)):
        thumbnail = decode(encode(halves(mode, size), kind)).thumbnail
        assert thumbnail.dtype == np.uint8
        assert thumbnail[5, 2].sum() >= thumbnail[5, -3].sum()


def test_sixteen_bits_are_scaled_not_cut_off():
    """A 16-bit grey ramp stays a ramp."""
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(1, 256).repeat(4, axis=0)
    thumbnail = decode(encode(Image.fromarray(ramp))).thumbnail
    assert np.abs(thumbnail[0, :, 0].astype(int) - np.arange(256)).max() <= 1


@pytest.mark.parametrize("size", [(10, 10), (1500, 1500)])
def test_transparency_shows_white(size):
    """Transparent pixels look white, whatever colour they hide."""
    clear = encode(Image.new("RGBA", size, (0, 0, 0, 0)))
    assert (decode(clear).thumbnail == 255).all()


def test_a_transparent_palette_entry_shows_white():
    """Palette and key-colour transparency count too."""
    keyed = encode(Image.new("RGB", (8, 8), (1, 2, 3)), transparency=(1, 2, 3))
    palette = encode(Image.new("P", (8, 8), 0), "GIF", transparency=0)
    assert (decode(keyed).thumbnail == 255).all()
    assert (decode(palette).thumbnail == 255).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (9000, 3), (321, 320)])
@pytest.mark.parametrize("kind", KINDS)
def test_any_shape_has_a_thumbnail(size, kind):
    """Single pixels and needles work; the longer side is within the limit."""
    picture = decode(encode(Image.new("RGB", size), kind))
    assert (picture.width, picture.height) == size
    assert max(picture.thumbnail.shape) == min(THUMBNAIL_SIDE, max(size)) or size == (1, 1)
    assert min(picture.thumbnail.shape) >= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    """The thumbnail equals Pillow's own upright version, and sides swap when turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = halves(size=(48, 16))
    image.paste("white", (0, 0, 8, 8))
    picture = decode(encode(image, exif=exif))
    assert (picture.width, picture.height) == ((16, 48) if orientation >= 5 else (48, 16))
    turned = image.copy()
    turned.getexif()[0x0112] = orientation
    from PIL import ImageOps  # noqa: PLC0415 - of this test alone

    assert (picture.thumbnail == np.asarray(ImageOps.exif_transpose(turned))).all()


def test_a_broken_exif_block_is_ignored():
    """A picture with damaged metadata is still a picture."""
    data = encode(halves(), "JPEG", exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\xff\xff\x01")
    assert decode(data).width == 40
    # One entry: the orientation, as the ASCII string "up" where a number belongs.
    entry = struct.pack(">HHI4s", 0x0112, 2, 3, b"up\x00")
    exif = b"Exif\x00\x00MM\x00*" + struct.pack(">IH", 8, 1) + entry + bytes(4)
    assert decode(encode(halves(), "JPEG", exif=exif)).width == 40


@pytest.mark.parametrize(
    "blocks",
    [b"\x00" * 1000, b"\x21\xfe" + b"\x01x" * 300_000 + b"\x00;", b"\x21\xfe\x05", b";"],
)
def test_a_gif_of_empty_talk_is_refused_at_once(blocks):
    """No frame, no end, or myriads of tiny blocks: refused before Pillow reads it."""
    with pytest.raises(BadImageError, match="gif header is damaged"):
        decode(b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0, 0, 0) + blocks)


def test_myriads_of_empty_parts_are_refused():
    """Pillow stops reading after a bounded number of chunks or segments."""
    png, jpeg = encode(halves()), encode(halves(), "JPEG")
    chunk = struct.pack(">I", 0) + b"prVt" + struct.pack(">I", zlib.crc32(b"prVt"))
    for data in (png[:33] + chunk * 100_000 + png[33:], jpeg[:2] + b"\xff\xfe\x00\x02" * 200_000):
        with pytest.raises(BadImageError, match="too many parts"):
            decode(data)


def test_a_large_jpeg_looks_like_its_reduced_self():
    """Draft decoding and averaging give what plain resizing gives, to within a few levels."""
    grid = np.indices((1200, 1600)).sum(axis=0) // 200 % 2 * 200
    image = Image.fromarray(grid.astype(np.uint8)).convert("RGB")
    plain = np.asarray(image.resize((320, 240), Image.Resampling.BICUBIC)).astype(int)
    for kind in ("JPEG", "PNG"):
        thumbnail = decode(encode(image, kind)).thumbnail.astype(int)
        assert np.abs(thumbnail - plain).mean() < 3


def png_header(width, height):
    """Return a PNG that claims a size and holds no pixels."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(6400, 6400), (20000, 20000), (2**30, 2**30)])
def test_too_many_pixels_are_refused_by_the_header(size):
    """A bomb is refused by what it claims, before a pixel is decoded."""
    with pytest.raises(BadImageError, match=r"pixels; send 1 to 40000000|header is damaged"):
        decode(png_header(*size))


def test_too_many_bytes_are_refused_unread():
    """Length alone refuses."""
    with pytest.raises(BadImageError, match="101 bytes; send at most 100") as caught:
        decode(b"x" * 101, max_bytes=100)
    assert caught.value.field == "messages.0"


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_shows_its_first_frame(kind):
    """Few frames pass, too many are refused."""
    frames = [Image.new("RGB", (8, 8), (40 * n, 0, 255 - 40 * n)) for n in range(5)]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    assert abs(int(decode(data).thumbnail[4, 4, 2]) - 255) < 5
    assert decode(data, max_frames=5).width == 8
    with pytest.raises(BadImageError, match="more than 4 frames"):
        decode(data, max_frames=4)


@pytest.mark.parametrize("data", [b"", b"GIF8", b"<svg/>", b"%PDF-1.7", b"II*\x00rest"])
def test_other_bytes_are_not_images(data):
    """Foreign formats and scraps are refused."""
    with pytest.raises(BadImageError):
        decode(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_a_cut_image_is_refused(kind):
    """Half a file is damaged, not a picture with a grey half."""
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), kind)
    with pytest.raises(BadImageError, match="damaged"):
        decode(data[: len(data) // 2])


def test_pictures_are_equal_by_content_and_cross_processes():
    """Equality is that of the original bytes; a pickled copy is equal and complete."""
    picture = decode(encode(halves()))
    copy = pickle.loads(pickle.dumps(picture))  # noqa: S301 - our own bytes
    assert copy == picture
    assert (copy.thumbnail == picture.thumbnail).all()
    assert picture != decode(encode(halves(size=(42, 20))))
    assert not picture.thumbnail.flags.writeable


SAMPLES = [encode(halves(), kind) for kind in KINDS]


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_or_read(data):
    """Nothing but BadImageError comes out of random bytes, even behind a valid signature."""
    for sample in SAMPLES:
        for start in (0, 12, 30):
            with suppress(BadImageError):
                decode(sample[:start] + data)


@settings(max_examples=300)
@given(
    st.sampled_from(SAMPLES),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_altered_images_are_refused_or_read(sample, changes):
    """Nothing but BadImageError comes out of an image with bytes changed."""
    data = bytearray(sample)
    for position, value in changes:
        data[position % len(data)] = value
    try:
        picture = decode(bytes(data), max_pixels=1_000_000)
    except BadImageError:
        return
    assert max(picture.thumbnail.shape) <= THUMBNAIL_SIDE


def check(data, **limits):
    """Check under the default limits with some changed."""
    return check_picture(data, limits=PictureLimits(**limits), field="messages.0")


@pytest.mark.parametrize("kind", KINDS)
def test_a_check_tells_what_decoding_tells(kind):
    """Type, bytes and hash; where a format's end says nothing, the pixels as well."""
    data = encode(halves(), kind)
    checked, decoded = check(data), decode(data)
    assert (checked.media_type, checked.data) == (decoded.media_type, decoded.data)
    assert checked.sha256 == decoded.sha256
    assert isinstance(checked, Picture) is (kind not in {"PNG", "JPEG"})


@pytest.mark.parametrize("kind", KINDS)
def test_a_check_refuses_what_is_cut_short(kind):
    """Every cut, as decoding does."""
    data = encode(halves(), kind)
    for length in range(0, len(data) - 1, 7):
        with suppress(BadImageError):
            decode(data[:length])
            continue
        with pytest.raises(BadImageError):
            check(data[:length])


def test_a_check_keeps_the_limits():
    """Bytes, pixels and frames stand in the header."""
    data = encode(halves())
    for limits in ({"max_bytes": 20}, {"max_pixels": 799}):
        with pytest.raises(BadImageError):
            check(data, **limits)
    frames = [halves(), halves().rotate(180), halves()]
    moving = encode(frames[0], "PNG", save_all=True, append_images=frames[1:])
    with pytest.raises(BadImageError, match="frames"):
        check(moving, max_frames=2)
