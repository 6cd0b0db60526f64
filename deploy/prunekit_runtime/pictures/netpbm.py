"""PPM and PGM, binary, 8 bits: a header of three numbers and the pixels."""

import re

import numpy as np

from prunekit_runtime.pictures.bounds import check_pixels
from prunekit_runtime.preprocessing import MAX_PIXELS, ByteArray

MAGICS = (b"P5", b"P6")
_SPACE = rb"(?:\s|#[^\n]*\n)+"
_HEADER = re.compile(rb"P([56])" + _SPACE + rb"(\d{1,6})" + _SPACE + rb"(\d{1,6})" + _SPACE + rb"(\d{1,5})\s")
_HEADER_BYTES = 1 << 12


def read_netpbm(content: bytes, max_pixels: int = MAX_PIXELS) -> ByteArray:
    """Return a PPM or PGM as RGB, uint8 (H, W, 3).

    Raises:
        ValueError: it is damaged, too large or deeper than 8 bits; the message is a clause to be put after its name.
    """
    match = _HEADER.match(content[:_HEADER_BYTES])
    if match is None:
        raise ValueError("is damaged or cut off: its header is none of a PPM. Replace the file.")
    kind, width, height, most = map(int, match.groups())
    check_pixels(height, width, max_pixels)
    if most > 255:
        raise ValueError("has 16 bits per channel, and only 8 are supported. Convert it to 8-bit RGB.")
    channels = 3 if kind == 6 else 1
    count = width * height * channels
    pixels = content[match.end() : match.end() + count]
    if not count or not most or len(pixels) != count:
        raise ValueError("is damaged or cut off: pixels are missing. Replace the file.")
    samples_HWC = np.frombuffer(pixels, dtype=np.uint8).reshape(height, width, channels)
    if int(samples_HWC.max()) > most:
        raise ValueError(f"is damaged: it says that no number is above {most}, and some are. Replace the file.")
    if most != 255:
        samples_HWC = ((samples_HWC.astype(np.uint16) * 255 + most // 2) // most).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(samples_HWC, (height, width, 3)))
