"""Text density follows how much is written."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from router.features.text_density import TextDensityEncoder, text_boxes


def flooded(is_text_HW):
    """Return (area, height) of each 8-connected region by flood fill."""
    left = set(map(tuple, np.argwhere(is_text_HW).tolist()))
    found = []
    while left:
        region, queue = set(), [min(left)]
        while queue:
            row, column = queue.pop()
            if (row, column) in left:
                left.remove((row, column))
                region.add((row, column))
                queue += [(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        rows = [row for row, _ in region]
        found.append((len(region), max(rows) - min(rows) + 1))
    return found


@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.booleans()))
def test_regions_equal_a_flood_fill(is_text_HW):
    """Union-find over runs finds the regions that a flood fill finds, in the same order."""
    assert [tuple(box) for box in text_boxes(is_text_HW)] == flooded(is_text_HW)


def test_a_page_has_its_lines_and_a_drawing_next_to_none(encoder_folder, pictures):
    """Seven lines are seven boxes; a drawing without text has a false one or two at most."""
    encoder = TextDensityEncoder(encoder_folder)
    boxes, share, height = encoder.encode(pictures["page"])
    assert round(np.expm1(boxes)) == 7
    assert 0.02 < share < 0.5
    assert 0.02 < height < 0.1
    for name in ("shapes", "shading"):
        assert np.expm1(encoder.encode(pictures[name])[0]) < 2.5
