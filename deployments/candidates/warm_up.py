"""Step 6, the far end: what a fresh engine is asked before anybody else asks it."""

from __future__ import annotations

import base64
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

PICTURE_PX = 224


def warm_up_bodies(model: str, modalities: Collection[str]) -> list[dict[str, Any]]:
    """Return requests that between them go the ways of sampling, log probabilities and pictures.

    An engine compiles what each of them needs at the first that comes, and all others wait: vLLM
    0.29 on a CPU takes 2 to 3 s for the first that is sampled and 2 s for the first with log
    probabilities, alone on the machine; 15 s while two others start.

    Args:
        model: The candidate's id.
        modalities: What it reads.
    """
    asked: list[dict[str, Any]] = [{"type": "text", "text": "warm up"}]
    if "image" in modalities:
        asked.append({"type": "image_url", "image_url": {"url": _picture()}})
    common = {"model": model, "max_tokens": 2, "stream": False}
    sampled = {"temperature": 1.0, "top_p": 0.9, "logprobs": True, "top_logprobs": 1}
    return [
        common | sampled | {"messages": [{"role": "user", "content": "warm up"}]},
        common | {"temperature": 0.0, "messages": [{"role": "user", "content": asked}]},
    ]


@cache
def _picture() -> str:
    from PIL import Image  # noqa: PLC0415 - candidates that read text alone do without

    data = BytesIO()
    Image.new("RGB", (PICTURE_PX, PICTURE_PX), "grey").save(data, "PNG")
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
