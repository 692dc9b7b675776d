"""The vLLM plugin counts a single tile as one patch."""

from __future__ import annotations

import pytest

pytest.importorskip("transformers")

from transformers.models.idefics3.image_processing_pil_idefics3 import (
    Idefics3ImageProcessorPil,
)

from infra.zoo.vllm_plugin import register

EDGE = {"longest_edge": 64}


@pytest.fixture(autouse=True)
def _restored(monkeypatch):
    method = Idefics3ImageProcessorPil.get_number_of_image_patches
    monkeypatch.setattr(Idefics3ImageProcessorPil, "get_number_of_image_patches", method)


@pytest.mark.parametrize("num_registrations", [1, 2])
def test_an_unsplit_picture_is_one_patch(num_registrations):
    """Registering once or twice gives one patch and no rows or columns."""
    for _ in range(num_registrations):
        register()
    processor = Idefics3ImageProcessorPil(do_image_splitting=False, size=EDGE, max_image_size=EDGE)
    assert processor.get_number_of_image_patches(64, 64, {}) == (1, 0, 0)


def test_a_split_picture_keeps_its_count():
    """Pictures that are split are counted as before."""
    processor = Idefics3ImageProcessorPil(
        do_image_splitting=True, size={"longest_edge": 128}, max_image_size=EDGE
    )
    before = processor.get_number_of_image_patches(128, 128, {})
    register()
    assert processor.get_number_of_image_patches(128, 128, {}) == before
    assert before[0] > 1
