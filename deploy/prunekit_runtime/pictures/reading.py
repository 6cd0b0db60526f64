"""Read a picture of unknown origin, by what its first bytes say it is."""

from pathlib import Path

from prunekit_runtime.errors import PictureError, PictureUsageError
from prunekit_runtime.jsonfile import read_bounded
from prunekit_runtime.pictures import jpeg, netpbm, png
from prunekit_runtime.preprocessing import ByteArray

SUFFIXES = (".png", ".ppm", ".pgm", ".jpg", ".jpeg")
MAX_PICTURE_BYTES = 1 << 29


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
        return _decoded(content)
    except ValueError as error:
        raise PictureError(f"{path} {error}") from None


def _decoded(content: bytes) -> ByteArray:
    if content.startswith(png.SIGNATURE):
        return png.read_png(content)
    if content.startswith(netpbm.MAGICS):
        return netpbm.read_netpbm(content)
    if content.startswith(jpeg.MAGIC):
        return jpeg.read_jpeg(content)
    raise ValueError("is no PNG, PPM or JPEG file. Convert it to one of them.")
