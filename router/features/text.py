"""The text block: what a question means, as a MiniLM sentence embedding.

Axis legend: T = tokens, E = embedding numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from tokenizers import Tokenizer

from router.features.encoder import fingerprint, open_session
from router.features.weights import MINILM, MINILM_TOKENIZER, built_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MAX_TOKENS = 256
_MAX_CHARACTERS = 8192
"""Read before tokenizing, so that a megabyte of text costs no more than a page of it."""


class MiniLMEncoder:
    """all-MiniLM-L6-v2 with int8 weights: mean over tokens, unit length."""

    name: ClassVar[str] = "minilm-l6-int8"
    dim: ClassVar[int] = 384
    sha256: ClassVar[str] = fingerprint(name, 1, MINILM.sha256, MINILM_TOKENIZER.sha256)

    def __init__(self, folder: Path) -> None:
        """Open the session; takes about 0.3 s.

        Raises:
            EncoderError: If the weights are missing or altered.
        """
        self._tokenizer = Tokenizer.from_buffer(built_bytes(folder, MINILM_TOKENIZER))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._session = open_session(built_bytes(folder, MINILM))

    def encode(self, item: str, /) -> NDArray[np.float32]:
        """Return the embedding of a text, of its first 256 tokens if it is longer.

        One text a call: padding to a batch would change int8 results with the neighbours' length.
        """
        ids_T = np.array([self._tokenizer.encode(_clean(item)).ids], dtype=np.int64)
        inputs = {
            "input_ids": ids_T,
            "attention_mask": np.ones_like(ids_T),
            "token_type_ids": np.zeros_like(ids_T),
        }
        hidden_TE: NDArray[np.float32] = self._session.run(None, inputs)[0][0]
        mean_E = hidden_TE.mean(axis=0)
        return (mean_E / np.linalg.norm(mean_E)).astype(np.float32)


def _clean(text: str) -> str:
    """Return the start of the text, runs of blanks as one and lone surrogates as ``?``.

    Blanks change no token, but a page of them would use up the characters that are read; JSON can
    carry lone surrogates, which the tokenizer cannot.
    """
    head = " ".join(text[: 8 * _MAX_CHARACTERS].split())[:_MAX_CHARACTERS]
    return head.encode("utf-8", "replace").decode("utf-8")
