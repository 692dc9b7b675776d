"""The image block: what a picture shows, as EfficientNet-Lite0's pooled features.

Axis legend: H, W = rows and columns, C = colours, E = embedding numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from PIL import Image

from router.features.encoder import fingerprint, open_session
from router.features.weights import EFFICIENTNET, built_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from router.features.picture import Picture

SIDE = 224


class EfficientNetEncoder:
    """EfficientNet-Lite0, trained on ImageNet: the mean over its last feature map."""

    name: ClassVar[str] = "efficientnet-lite0"
    dim: ClassVar[int] = 1280
    sha256: ClassVar[str] = fingerprint(name, 1, EFFICIENTNET.sha256)

    def __init__(self, folder: Path) -> None:
        """Open the session; takes about 0.1 s.

        Raises:
            EncoderError: If the weights are missing or altered.
        """
        self._session = open_session(built_bytes(folder, EFFICIENTNET))

    def encode(self, item: Picture, /) -> NDArray[np.float32]:
        """Return the features of one picture."""
        return self._session.run(None, {"pixels": network_input(item.thumbnail)})[0][0]


def network_input(thumbnail_HWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (1, C, 224, 224), as the network was trained: RGB, (x - 127) / 128.

    The picture is stretched to the square, not cropped: a question may be about any corner, and
    the aspect ratio is a feature of its own.
    """
    square = Image.fromarray(thumbnail_HWC).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    pixels_HWC = (np.asarray(square, dtype=np.float32) - 127.0) / 128.0
    return np.ascontiguousarray(pixels_HWC.transpose(2, 0, 1)[None])
