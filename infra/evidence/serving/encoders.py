"""What a batch would save of the encoders' time: CPU time an item, by how many go in at once.

Needs no running system. Inputs are random, of the sizes that serving sees; what they hold does not
change how long the networks take.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from infra import services
from infra.evidence.parts import table
from infra.progress import step
from router.features.encoder import open_session
from router.features.image import SIDE
from router.features.text import MAX_TOKENS
from router.features.text_density import SIDE as DENSITY_SIDE
from router.features.weights import EFFICIENTNET, MINILM, TEXT_DETECTOR, built_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.evidence.entry import Entry

FOLDER = services.ROOT / ".cache" / "encoders"
BATCHES = (1, 2, 4, 8, 16)
NUM_ITEMS = 32
"""Encoded for each figure, in as many calls as the batch makes of them."""

NUM_TURNS = 3
"""Of which the fastest counts: the others waited for somebody."""

SHORT, LONG = 16, 128
"""Tokens of a question."""

Feed = dict[str, np.ndarray]


def run() -> dict[str, Any]:
    """Measure each encoder."""
    with step("Encoders, one item and several at once", expected_s=60):
        return {"cpu_ms": {name: _by_batch(*one) for name, one in _encoders().items()}}


def _encoders() -> dict[str, tuple[Any, Callable[[int], Feed]]]:
    """Return a session of each, and what makes an input of so many items."""
    rng = np.random.default_rng(0)
    text = open_session(built_bytes(FOLDER, MINILM))
    image = open_session(_any_batch(built_bytes(FOLDER, EFFICIENTNET)))
    detector = open_session(built_bytes(FOLDER, TEXT_DETECTOR))

    def pixels(name: str, side: int) -> Callable[[int], Feed]:
        return lambda n: {name: rng.standard_normal((n, 3, side, side)).astype(np.float32)}

    return {
        f"text, {SHORT} tokens": (text, lambda n: _tokens(rng, n, SHORT)),
        f"text, {LONG} tokens": (text, lambda n: _tokens(rng, n, LONG)),
        f"image, {SIDE} px": (image, pixels("pixels", SIDE)),
        f"text density, {DENSITY_SIDE} px": (detector, pixels("x", DENSITY_SIDE)),
    }


def _any_batch(graph: bytes) -> bytes:
    """Return a graph that takes any number of items instead of one."""
    model = onnx.load_from_string(graph)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    return bytes(model.SerializeToString())


def _tokens(rng: np.random.Generator, num_texts: int, num_tokens: int) -> Feed:
    ids = rng.integers(1000, 20_000, (num_texts, min(num_tokens, MAX_TOKENS)))
    return {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "token_type_ids": np.zeros_like(ids),
    }


def _by_batch(session: Any, feed: Callable[[int], Feed]) -> list[float]:  # noqa: ANN401 - onnxruntime ships no types
    """Return CPU milliseconds an item, for each size of a batch."""
    return [_cpu_ms(session, feed(batch), NUM_ITEMS // batch) / batch for batch in BATCHES]


def _cpu_ms(session: Any, inputs: Feed, num_calls: int) -> float:  # noqa: ANN401 - as above
    """Return CPU milliseconds a call."""
    taken_s = []
    for _ in range(NUM_TURNS):
        began_s = time.process_time()
        for _ in range(num_calls):
            session.run(None, inputs)
        taken_s.append(time.process_time() - began_s)
    return 1000 * min(taken_s) / num_calls


def lines(result: dict[str, Any]) -> list[Entry]:
    """Return no line: what is best is decided by it, nothing is promised."""
    del result
    return []


def section(result: dict[str, Any]) -> str:
    """Return the section."""
    header = ("encoder", *(f"{batch} at once" for batch in BATCHES), "saved at best")
    rows = [
        (name, *(f"{ms:.2f}" for ms in times), f"{1 - min(times) / times[0]:.0%}")
        for name, times in result["cpu_ms"].items()
    ]
    return f"""## Encoders and batches

Milliseconds of one core for each item, by how many are encoded at once; the fastest of
{NUM_TURNS} turns of {NUM_ITEMS} items, one thread, random inputs.

{table(header, rows)}
"""
