"""Read a picture of unknown origin, by what its first bytes say it is."""

from pathlib import Path
from typing import Literal, Optional

from prunekit_runtime.errors import PictureError, PictureUsageError
from prunekit_runtime.jsonfile import read_bounded
from prunekit_runtime.pictures import jpeg, netpbm, png
from prunekit_runtime.preprocessing import MAX_PIXELS, ByteArray

SUFFIXES = (".png", ".ppm", ".pgm", ".jpg", ".jpeg")
MAX_PICTURE_BYTES = 1 << 29
Kind = Literal["png", "netpbm", "jpeg"]


def read_picture(path: Path) -> ByteArray:
    """Return a picture as RGB, uint8 (H, W, 3), upright as viewers show it.

    Raises:
        PictureError: it is missing, of another format, damaged, too large, transparent, or deeper than 8 bits.
    """
    if not path.is_file():
        raise PictureUsageError(f"{path} does not exist or is not a file. Check the path.")
    try:
        content = read_bounded(path, MAX_PICTURE_BYTES)
    except ValueError as error:
        raise PictureError(f"{path} cannot be read: {error}. Shrink it.") from None
    try:
        return decode_picture(content)
    except ValueError as error:
        raise PictureError(f"{path} {error}") from None


def decode_picture(content: bytes, max_pixels: int = MAX_PIXELS) -> ByteArray:
    """Return the picture that a file's content is, as `read_picture`.

    Raises:
        ValueError: as `read_picture`; the message is a clause to be put after the file's name.
        TooManyPixelsError: it has more pixels than allowed, which is known before memory is taken for them.
    """
    kind = kind_of(content)
    if kind == "png":
        return png.read_png(content, max_pixels)
    if kind == "netpbm":
        return netpbm.read_netpbm(content, max_pixels)
    if kind == "jpeg":
        return jpeg.read_jpeg(content, max_pixels)
    raise ValueError("is no PNG, PPM or JPEG file. Convert it to one of them.")


def kind_of(content: bytes) -> Optional[Kind]:
    """Return what a file's first bytes say it is; None where that is nothing that can be read."""
    if content.startswith(png.SIGNATURE):
        return "png"
    if content.startswith(netpbm.MAGICS):
        return "netpbm"
    return "jpeg" if content.startswith(jpeg.MAGIC) else None
