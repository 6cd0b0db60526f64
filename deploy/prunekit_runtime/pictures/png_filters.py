"""The five row filters of PNG, undone in numpy.

Three of them need the pixel to the left, already undone; so pixels are taken diagonal by diagonal, since all that one
needs (left, above, above left) lies on diagonals before its own. H height, W pixels a row, B bytes a pixel.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from prunekit_runtime.preprocessing import ByteArray

NONE, SUB, UP, AVERAGE, PAETH = range(5)  # PNG specification, 9.2


def unfiltered(rows: ByteArray, kinds_H: ByteArray, pixel_bytes: int) -> ByteArray:
    """Return rows, uint8 (H, bytes), without their filters."""
    kinds = set(kinds_H.tolist())
    if kinds == {NONE}:
        return rows
    if kinds == {UP}:
        return np.cumsum(rows, axis=0, dtype=np.uint8)
    height, width = len(rows), rows.shape[1] // pixel_bytes
    if kinds <= {NONE, SUB}:
        summed = np.cumsum(rows.reshape(height, width, pixel_bytes), axis=1, dtype=np.uint8)
        return np.where(kinds_H[:, None] == SUB, summed.reshape(rows.shape), rows)
    return _by_diagonals(rows.reshape(height, width, pixel_bytes), kinds_H, kinds)


def _by_diagonals(residuals_HWB: ByteArray, kinds_H: ByteArray, kinds: set[int]) -> ByteArray:
    height, width, pixel_bytes = residuals_HWB.shape
    # A row above and a column to the left of zeros stand for what lies outside (9.2).
    padded = np.zeros((height + 1, width + 1, pixel_bytes), dtype=np.uint8)
    padded[1:, 1:] = residuals_HWB
    flat = padded.reshape(-1, pixel_bytes)
    for diagonal in range(height + width - 1):
        top, bottom = max(0, diagonal - width + 1), min(height - 1, diagonal)
        # One row down and one column left are `width` places on, in rows of width + 1.
        first = top * width + diagonal + width + 2
        end = first + (bottom - top) * width + 1
        left, above, corner = (
            flat[first - back : end - back : width].astype(np.int16) for back in (1, width + 1, width + 2)
        )
        kinds_n1 = kinds_H[top : bottom + 1, None]
        guess = np.select(
            [kinds_n1 == kind for kind in _GUESSES if kind in kinds],
            [rule(left, above, corner) for kind, rule in _GUESSES.items() if kind in kinds],
            np.int16(0),
        )
        flat[first:end:width] += guess.astype(np.uint8)
    return np.ascontiguousarray(padded[1:, 1:]).reshape(height, -1)


_Bytes = npt.NDArray[np.int16]


def _paeth(left: _Bytes, above: _Bytes, corner: _Bytes) -> _Bytes:
    """Return whichever is nearest to left + above - corner, in this order where they tie (9.4)."""
    from_left, from_above = np.abs(above - corner), np.abs(left - corner)
    from_corner = np.abs(left + above - 2 * corner)
    other = np.where(from_above <= from_corner, above, corner)
    return np.where((from_left <= from_above) & (from_left <= from_corner), left, other)


_GUESSES: Any = {
    SUB: lambda left, _above, _corner: left,
    UP: lambda _left, above, _corner: above,
    AVERAGE: lambda left, above, _corner: (left + above) >> 1,
    PAETH: _paeth,
}
