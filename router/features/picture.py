"""Step 2a, pictures: untrusted bytes come in, a checked picture with a thumbnail goes out.

Where no features are wanted, the pixels need not be decoded: see `check_picture`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from router.errors import BadImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.ImageFile import ImageFile

THUMBNAIL_SIDE = 320
"""Longest side of a thumbnail in pixels; benchmark data is kept at the same size."""


class _Jpeg(JpegImageFile):
    """A JPEG whose header is read without its resolution.

    Pillow looks for that in the EXIF data and warns if they are damaged, which is no reason to
    refuse, or to log, a picture.
    """

    def _read_dpi_from_exif(self) -> None:
        """Leave the resolution unread."""


class _Frugal(BytesIO):
    """Bytes that may be read a bounded number of times.

    Without the bound 20 MB of empty PNG chunks or JPEG segments keep Pillow busy for seconds.
    """

    _num_reads_left = 200_000  # a 20 MB PNG in chunks of 8 kB takes 10 000

    def read(self, size: int | None = -1, /) -> bytes:
        """Read on, while reads are left."""
        self._num_reads_left -= 1
        if self._num_reads_left < 0:
            raise OSError("too many parts")
        return super().read(size)


# Opened by class instead of Image.open: no guessing, none of the forty other formats, and no
# decompression-bomb warning ahead of our own check.
_FORMATS: tuple[tuple[bytes, int, str, type[ImageFile]], ...] = (
    (b"\x89PNG\r\n\x1a\n", 0, "image/png", PngImageFile),
    (b"\xff\xd8\xff", 0, "image/jpeg", _Jpeg),
    (b"WEBP", 8, "image/webp", WebPImageFile),
    (b"GIF8", 0, "image/gif", GifImageFile),
    (b"BM", 0, "image/bmp", BmpImageFile),
)

_ENDS = {"image/jpeg": b"\xff\xd9", "image/png": b"\0\0\0\0IEND\xaeB`\x82"}
"""What the bytes of a whole picture end with."""

_EXIF_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = 5
"""Orientations from here on swap width and height."""

_GIF_FRAME = 0x2C
_GIF_BLOCKS = frozenset({_GIF_FRAME, 0x21})
_MAX_GIF_BLOCKS = 200_000
"""Twice what 20 MB of full blocks make; Pillow would spend seconds on millions of tiny ones."""

_AVERAGEABLE = frozenset({"L", "LA", "RGB", "RGBA", "CMYK"})
"""Pixel modes whose neighbours may be averaged before any conversion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureLimits:
    """What a picture may cost before it is refused."""

    max_bytes: int = 20_000_000
    """Most encoded bytes."""

    max_pixels: int = 40_000_000
    """Most pixels in one frame, read from the header before anything is decoded."""

    max_frames: int = 64
    """Most frames of an animation; only the first is looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedPicture:
    """One picture as it came; two are equal if their bytes are."""

    sha256: str
    """Hex digest of the original bytes."""

    media_type: str = field(compare=False)
    """As found in the bytes, such as ``image/png``; what the caller claimed does not count."""

    data: bytes = field(repr=False, compare=False)
    """The original bytes, for the engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture(EncodedPicture):
    """One decoded picture."""

    width: int = field(compare=False)
    """Pixels of the original as displayed, after any turn its EXIF data asks for."""

    height: int = field(compare=False)
    """See ``width``."""

    thumbnail: NDArray[np.uint8] = field(repr=False, compare=False)
    """(H, W, 3) RGB on white; the longer side is at most ``THUMBNAIL_SIDE``, never enlarged."""


def decode_picture(data: bytes, *, limits: PictureLimits, field: str = "") -> Picture:
    """Check and decode one encoded picture.

    Args:
        data: PNG, JPEG, WEBP, GIF or BMP bytes, from anyone.
        limits: What to refuse.
        field: Path of the field that held them, for the error.

    Raises:
        BadImageError: For anything that is not a picture within the limits; nothing else is
            raised, whatever the bytes.
    """
    media_type, image = _open(data, limits, field)
    width, height = image.size
    try:
        thumbnail, is_sideways = _thumbnail(image)
    except Exception as error:
        raise BadImageError(f"the {media_type} is cut short or damaged: {error}", field) from error
    return Picture(
        sha256=hashlib.sha256(data).hexdigest(),
        media_type=media_type,
        data=data,
        width=height if is_sideways else width,
        height=width if is_sideways else height,
        thumbnail=thumbnail,
    )


def check_picture(data: bytes, *, limits: PictureLimits, field: str = "") -> EncodedPicture:
    """Check one encoded picture by its header and its end; it may still be damaged between.

    Decoding costs milliseconds, this a fraction of one. A picture that does not end as its format
    says, or of a format whose end says nothing, is decoded.

    Raises:
        BadImageError: As `decode_picture`, but for damage between header and end.
    """
    media_type, _ = _open(data, limits, field)
    end = _ENDS.get(media_type)
    if end is None or not data.endswith(end):
        return decode_picture(data, limits=limits, field=field)
    return EncodedPicture(
        sha256=hashlib.sha256(data).hexdigest(), media_type=media_type, data=data
    )


def _open(data: bytes, limits: PictureLimits, field: str) -> tuple[str, ImageFile]:
    """Return media type and reader of a picture whose header is sound and within the limits."""
    if len(data) > limits.max_bytes:
        raise BadImageError(
            f"the image has {len(data)} bytes; send at most {limits.max_bytes}", field
        )
    media_type, kind = _recognise(data, field)
    try:
        # A GIF is walked before Pillow sees it: n_frames would decode it all, in unbounded time.
        num_gif_frames = _num_gif_frames(data, limits.max_frames) if kind is GifImageFile else 1
        image = kind(_Frugal(data))
        num_frames = num_gif_frames if kind is GifImageFile else getattr(image, "n_frames", 1)
    except Exception as error:  # Pillow raises whatever a broken file provokes
        raise BadImageError(f"the {media_type} header is damaged: {error}", field) from error
    width, height = image.size
    _check_header(width * height, num_frames, limits, field)
    return media_type, image


def _recognise(data: bytes, field: str) -> tuple[str, type[ImageFile]]:
    """Return media type and reader by the signature in the bytes."""
    for signature, offset, media_type, kind in _FORMATS:
        if data[offset : offset + len(signature)] == signature:
            return media_type, kind
    raise BadImageError(
        "not an image in a supported format; send PNG, JPEG, WEBP, GIF, BMP", field
    )


def _check_header(num_pixels: int, num_frames: int, limits: PictureLimits, field: str) -> None:
    """Refuse by what the header says."""
    if not 0 < num_pixels <= limits.max_pixels:
        raise BadImageError(
            f"the image has {num_pixels} pixels; send 1 to {limits.max_pixels}", field
        )
    if num_frames > limits.max_frames:
        raise BadImageError(
            f"the animation has more than {limits.max_frames} frames; send one still", field
        )


def _num_gif_frames(data: bytes, stop: int) -> int:
    """Return the number of frames in a GIF; beyond ``stop`` the count ends early.

    Raises:
        ValueError: If there is no frame, or more blocks than any sound file has.
        IndexError: If the file ends inside a block.
    """
    num_frames = num_blocks = 0
    position = 13 + _color_table_bytes(data[10])
    while num_frames <= stop and data[position] in _GIF_BLOCKS:
        is_frame = data[position] == _GIF_FRAME
        num_frames += is_frame
        position += 11 + _color_table_bytes(data[position + 9]) if is_frame else 2
        while data[position]:
            position += data[position] + 1
            num_blocks += 1
            if num_blocks > _MAX_GIF_BLOCKS:
                raise ValueError("too many blocks")
        position += 1
    if num_frames == 0:
        raise ValueError("no frame")
    return num_frames


def _color_table_bytes(flags: int) -> int:
    """Return the size of the colour table that a GIF's packed field announces."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _thumbnail(image: ImageFile) -> tuple[NDArray[np.uint8], bool]:
    """Return the thumbnail, turned upright, and whether that swapped the sides.

    A large JPEG is decoded at a fraction of its size (draft mode), and other large pictures are
    averaged as early as their mode allows: both keep time and peak memory near those of decoding.
    """
    width, height = image.size
    scale = min(1.0, THUMBNAIL_SIDE / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if isinstance(image, JpegImageFile):
        image.draft(None, (2 * size[0], 2 * size[1]))
    image.load()
    orientation = _orientation(image)
    factors = (max(1, image.width // (2 * size[0])), max(1, image.height // (2 * size[1])))
    small = _averageable(image).reduce(factors)
    upright = _on_white(small).resize(size, Image.Resampling.BICUBIC)
    if orientation in _TURNS:
        upright = upright.transpose(_TURNS[orientation])
    thumbnail = np.array(upright, dtype=np.uint8)
    thumbnail.setflags(write=False)
    return thumbnail, orientation in _TURNS and orientation >= _SIDEWAYS


def _orientation(image: ImageFile) -> int:
    """Return the EXIF orientation, 1 if there is none or its data is damaged."""
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - a picture with a broken EXIF block is still a picture
        return 1


def _averageable(image: Image.Image) -> Image.Image:
    """Return the image with 8-bit channels, transparency as one of them."""
    if image.mode.startswith("I"):  # 16 bits a pixel; convert() would cut off at 255
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in _AVERAGEABLE and "transparency" not in image.info:
        return image
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _on_white(image: Image.Image) -> Image.Image:
    """Return RGB, transparent parts shown on white."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    canvas = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(canvas, image.convert("RGBA")).convert("RGB")
