"""What every encoder looks like, and how an ONNX one is opened.

Axis legend: E = the encoder's numbers.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import onnxruntime

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

InputT_contra = TypeVar("InputT_contra", contravariant=True)


class Encoder(Protocol[InputT_contra]):
    """Turns one thing (a text, a picture, all pictures of a query) into numbers.

    Every encoder is deterministic, safe to call from many threads, and blind to what it encoded
    before. ``tests/contract/test_encoders.py`` holds each implementation to that.
    """

    @property
    def name(self) -> str:
        """What computes the numbers, such as ``minilm-l6-int8``."""
        ...

    @property
    def sha256(self) -> str:
        """Fingerprint of weights and preprocessing; equal on every machine."""
        ...

    @property
    def dim(self) -> int:
        """How many numbers come out; at least 1."""
        ...

    def encode(self, item: InputT_contra, /) -> NDArray[np.float32]:
        """Return ``features_E``, finite, for any item."""
        ...


def fingerprint(name: str, version: int, *weights_sha256: str) -> str:
    """Return the sha256 that names an encoder's behaviour.

    Args:
        name: The encoder's name.
        version: Raised by hand with any change of preprocessing or of a formula.
        weights_sha256: Hashes of the weights as their packages ship them. Files exported here do
            not count: their bytes may differ between machines while their numbers agree.
    """
    return hashlib.sha256("\n".join((name, str(version), *weights_sha256)).encode()).hexdigest()


def open_session(graph: bytes) -> Any:  # noqa: ANN401 - onnxruntime ships no types
    """Return an ONNX session on one CPU thread.

    One thread each, because a replica serves many queries at once: more threads a call would only
    make calls wait for each other.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
