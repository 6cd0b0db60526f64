import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from prunekit.data.regions import regions_of

masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=14), elements=st.booleans())


def flooded(mask):
    """The number of each pixel's region, from 1, by flooding; 0 outside."""
    numbers = np.zeros(mask.shape, int)
    count = 0
    for start in zip(*np.nonzero(mask), strict=True):
        if numbers[start]:
            continue
        count += 1
        stack = [start]
        while stack:
            row, column = stack.pop()
            if mask[row, column] and not numbers[row, column]:
                numbers[row, column] = count
                rows = range(max(row - 1, 0), min(row + 2, mask.shape[0]))
                columns = range(max(column - 1, 0), min(column + 2, mask.shape[1]))
                stack += [(r, c) for r in rows for c in columns]
    return numbers


def painted(regions, shape):
    numbers = np.zeros(shape, int)
    for row, start, end, region in zip(regions.row_R, regions.start_R, regions.end_R, regions.region_R, strict=True):
        numbers[row, start:end] = region + 1
    return numbers


@given(masks)
def test_regions_are_those_of_flooding_and_in_reading_order(mask):
    regions = regions_of(mask)
    expected = flooded(mask)
    np.testing.assert_array_equal(painted(regions, mask.shape), expected)
    assert regions.count == expected.max(initial=0)


@given(masks)
def test_a_region_s_centre_is_its_pixel_nearest_to_the_middle_of_its_box(mask):
    regions = regions_of(mask)
    numbers = flooded(mask)
    for region in range(regions.count):
        rows, columns = np.nonzero(numbers == region + 1)
        squares = (rows - (rows.min() + rows.max()) / 2) ** 2 + (columns - (columns.min() + columns.max()) / 2) ** 2
        row, column = regions.centre(region)
        place = np.flatnonzero((rows == row) & (columns == column))
        assert len(place) == 1
        assert squares[place[0]] == pytest.approx(squares.min(), abs=0)


def test_a_spiral_is_one_region_and_a_chessboard_too():
    rows, columns = np.indices((41, 41))
    ring = np.maximum(abs(rows - 20), abs(columns - 20))
    spiral = ring % 2 == 0
    for radius in range(2, 21, 2):
        spiral[20, 20 + radius - 1] = True  # a gate between neighbouring rings
    assert regions_of(spiral).count == 1
    assert regions_of((rows + columns) % 2 == 0).count == 1  # corners connect
    assert regions_of((rows % 2 == 0) & (columns % 2 == 0)).count == 21 * 21
