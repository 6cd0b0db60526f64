"""A PNG writer in numpy and zlib: masks with a palette, pictures in RGB."""

import struct
import zlib

import numpy as np

from prunekit_runtime.pictures.png import SIGNATURE
from prunekit_runtime.preprocessing import ByteArray

_COLOUR, _PALETTE = 2, 3
_UP = 2
_MASK_LEVEL, _PICTURE_LEVEL = 6, 4  # of 9: beyond, time grows and files hardly shrink


def encode_mask(labels_HW: ByteArray, palette: tuple[tuple[int, int, int], ...]) -> bytes:
    """Return a palette PNG whose index is the class; 256 colours are written, those of no class in black.

    So 255, the label of ignored pixels, is free for whoever edits the mask.
    """
    colours_256 = np.zeros((256, 3), dtype=np.uint8)
    colours_256[: len(palette)] = palette
    return _encode(labels_HW, _PALETTE, _chunk(b"PLTE", colours_256.tobytes()))


def encode_picture(image_HW3: ByteArray) -> bytes:
    """Return an RGB picture as PNG."""
    height, width = image_HW3.shape[:2]
    rows = image_HW3.reshape(height, 3 * width)
    above = np.concatenate([np.zeros_like(rows[:1]), rows[:-1]])
    return _encode(rows - above, _COLOUR, b"", row_filter=_UP, width=width)


def _encode(rows: ByteArray, colour_type: int, before: bytes, *, row_filter: int = 0, width: int = 0) -> bytes:
    height = len(rows)
    lines = np.concatenate([np.full((height, 1), row_filter, dtype=np.uint8), rows], axis=1)
    header = struct.pack(">IIBBBBB", width or rows.shape[1], height, 8, colour_type, 0, 0, 0)
    level = _MASK_LEVEL if colour_type == _PALETTE else _PICTURE_LEVEL
    pixels = _chunk(b"IDAT", zlib.compress(lines.tobytes(), level))
    return SIGNATURE + _chunk(b"IHDR", header) + before + pixels + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
