"""JPEG, which numpy cannot decode: by Pillow or OpenCV, whichever is installed."""

import importlib
import io
from typing import Any

import numpy as np

from prunekit_runtime.pictures.bounds import TooManyPixelsError, check_pixels
from prunekit_runtime.preprocessing import MAX_PIXELS, ByteArray

MAGIC = b"\xff\xd8\xff"
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # ITU T.81, table B.1
_START_OF_SCAN = b"\xff\xda"
_END_OF_IMAGE = b"\xff\xd9"


def read_jpeg(content: bytes, max_pixels: int = MAX_PIXELS) -> ByteArray:
    """Return a JPEG as RGB, uint8 (H, W, 3), turned upright by its EXIF data.

    Raises:
        ValueError: neither package is installed, or the file is damaged or too large; the message is a clause to be put
            after the file's name.
    """
    _check_size(content, max_pixels)
    pillow = _module("PIL.Image")
    if pillow is not None:
        return _by_pillow(pillow, content, max_pixels)
    opencv = _module("cv2")
    if opencv is not None:
        return _by_opencv(opencv, content)
    raise ValueError(
        "is a JPEG, which takes Pillow or OpenCV to read, and neither is installed. Run: pip install pillow; or "
        "convert it to PNG or PPM."
    )


def _by_pillow(pillow: Any, content: bytes, max_pixels: int) -> ByteArray:
    try:
        with pillow.open(io.BytesIO(content), formats=("JPEG",)) as image:
            check_pixels(image.height, image.width, max_pixels)  # a second header may say otherwise
            turned = _module("PIL.ImageOps").exif_transpose(image)
            return np.array(turned.convert("RGB"))
    except TooManyPixelsError:
        raise
    except Exception as error:  # decoders raise whatever a hostile file makes their parsers trip over
        raise ValueError(f"is damaged or cut off: {error}. Replace the file.") from error


def _by_opencv(opencv: Any, content: bytes) -> ByteArray:
    whole = content.rfind(_END_OF_IMAGE) > content.rfind(_START_OF_SCAN)  # what is cut off OpenCV fills with grey
    decoded_HW3 = opencv.imdecode(np.frombuffer(content, dtype=np.uint8), opencv.IMREAD_COLOR) if whole else None
    if decoded_HW3 is None:
        raise ValueError("is damaged or cut off. Replace the file.")
    return np.ascontiguousarray(decoded_HW3[..., ::-1])  # OpenCV gives BGR, upright


def _check_size(content: bytes, max_pixels: int) -> None:
    """Read the size from the header, before a decoder takes memory for it."""
    place = 2
    while place + 9 <= len(content) and content[place] == 0xFF:
        marker = content[place + 1]
        if marker in _START_OF_FRAME:
            height, width = (int.from_bytes(content[place + at : place + at + 2], "big") for at in (5, 7))
            check_pixels(height, width, max_pixels)
            return
        if marker == 0xFF:  # a filler
            place += 1
        else:
            place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    raise ValueError("is damaged or cut off: its header names no size. Replace the file.")


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
