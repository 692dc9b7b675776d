"""Lets vLLM serve pictures of a single tile; an entry point of group `vllm.general_plugins`.

With `do_image_splitting=False`, the Idefics3 image processors of transformers say that a picture
has 0 patches although they yield one, and vLLM then reshapes a tensor of no elements. The cure is
to say 1. Nothing else is touched, and pictures that are split keep their count.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_PROCESSORS: Final = (
    ("transformers.models.idefics3.image_processing_pil_idefics3", "Idefics3ImageProcessorPil"),
    ("transformers.models.idefics3.image_processing_idefics3", "Idefics3ImageProcessor"),
)
_METHOD: Final = "get_number_of_image_patches"
_MARK: Final = "counts_single_tiles"


def register() -> None:
    """Correct both image processors; vLLM calls this in each of its processes, maybe twice."""
    for module_name, class_name in _PROCESSORS:
        try:
            processor = getattr(import_module(module_name), class_name)
        except ImportError:  # The second one needs torchvision, which CPU installs lack.
            continue
        method = getattr(processor, _METHOD)
        if not hasattr(method, _MARK):
            setattr(processor, _METHOD, _counting_single_tiles(method))


def _counting_single_tiles(
    method: Callable[..., tuple[int, int, int]],
) -> Callable[..., tuple[int, int, int]]:
    """Wrap the method to count at least one patch; rows and columns stay as they are."""

    def counted(*args: Any, **kwargs: Any) -> tuple[int, int, int]:  # noqa: ANN401 - as what it wraps
        num_patches, num_rows, num_columns = method(*args, **kwargs)
        return max(num_patches, 1), num_rows, num_columns

    setattr(counted, _MARK, True)
    return counted
