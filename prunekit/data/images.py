"""Reading image files that nobody vouches for: bounded, few formats, every failure a DataError naming the file.

Shapes: H height, W width.
"""

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from prunekit.data.dataset import size_text
from prunekit.errors import DataError

MAX_PIXELS: Final = 1 << 26  # 67 megapixels, 200 MB decoded: above any camera's frame, below a decompression bomb
IMAGE_FORMATS: Final = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
IMAGE_SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
MASK_FORMATS: Final = ("PNG",)  # lossless; a JPEG mask holds classes that nobody drew
_ORIENTATION: Final = 0x0112  # EXIF tag
_RGB_MODES: Final = ("RGB", "L", "P", "1", "CMYK", "YCbCr")


def read_image(path: Path) -> Tensor:
    """Read a picture as RGB, uint8 [3, H, W].

    Raises:
        DataError: the file is missing, damaged, too large, rotated by EXIF, transparent or deeper than 8 bits.
    """
    image = load(path, IMAGE_FORMATS)
    if image.mode not in _RGB_MODES and not (image.mode in ("RGBA", "LA") and _opaque(image)):
        raise DataError(
            f"Image {path} has pixels of kind {image.mode} (transparent or over 8 bits). Convert it to 8-bit RGB."
        )
    pixels_HW3 = np.array(image.convert("RGB"))
    return torch.from_numpy(pixels_HW3).permute(2, 0, 1).contiguous()


def image_size(path: Path, formats: tuple[str, ...]) -> tuple[int, int]:
    """Return (height, width) [px] from the file's header, without decoding it.

    Raises:
        DataError: as `load`, as far as the header shows it.
    """
    with _opened(path, formats) as image:
        return image.height, image.width


def load(path: Path, formats: tuple[str, ...]) -> Image.Image:
    """Decode a whole file, its pixels as stored.

    Raises:
        DataError: the file is missing, of another format, too large, truncated, or rotated by its EXIF data.
    """
    with _opened(path, formats) as image:
        try:
            image.load()
        except Exception as error:  # decoders raise whatever a hostile file makes their parsers trip over
            raise DataError(f"{path} is damaged or cut off: {error}. Replace the file.") from error
        return image.copy()


def label_array(image: Image.Image, path: Path) -> npt.NDArray[np.int64]:
    """Return the stored numbers of an index or palette mask, int64 [H, W].

    Raises:
        DataError: the file holds colours, or numbers that are no indices.
    """
    if image.mode not in ("L", "P", "1", "I", "I;16", "I;16B"):
        raise DataError(f"Mask {path} holds {image.mode} pixels, not one class number a pixel. Save it as index PNG.")
    return np.array(image).astype(np.int64) // _grey_step(path)


def check_sizes(image_path: Path, image_HW: tuple[int, int], mask_path: Path, mask_HW: tuple[int, int]) -> None:
    """Refuse a mask that is not the size of its image.

    Raises:
        DataError: the sizes differ.
    """
    if image_HW != mask_HW:
        raise DataError(
            f"Image {image_path} has {size_text(image_HW)} pixels, its mask {mask_path} {size_text(mask_HW)}. "
            "Make them the same size (resize masks with nearest neighbour)."
        )


def _opened(path: Path, formats: tuple[str, ...]) -> Image.Image:
    if not path.is_file():
        raise DataError(f"{path} does not exist or is no file. Restore it, or remove its partner.")
    try:
        image = Image.open(path, formats=formats)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path} would decode to more than {MAX_PIXELS} pixels. Cut or shrink it.") from error
    except Exception as error:  # as in `load`
        raise DataError(f"{path} is no readable {' or '.join(formats)} file: {error}. Replace it.") from error
    try:
        _check_header(image, path)
    except DataError:
        image.close()
        raise
    return image


def _check_header(image: Image.Image, path: Path) -> None:
    if image.width * image.height > MAX_PIXELS:
        size = size_text((image.height, image.width))
        raise DataError(f"{path} has {size} pixels, at most {MAX_PIXELS} are read. Cut or shrink it.")
    if _orientation(image, path) not in (0, 1):  # 0 is written by cameras that do not know
        raise DataError(
            f"{path} is turned by its EXIF data, so its mask may be too, or not. "
            "Store both upright, for instance with PIL.ImageOps.exif_transpose."
        )


def _orientation(image: Image.Image, path: Path) -> int:
    # Asked for EXIF data that the header does not hold, Pillow decodes a whole PNG to look behind its pixels.
    if image.format != "TIFF" and not {"exif", "Raw profile type exif"} & image.info.keys():
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception as error:  # as in `load`
        raise DataError(f"{path} has damaged EXIF data: {error}. Save it again without.") from error


def _grey_step(path: Path) -> int:
    """Return what Pillow multiplies the numbers of a grey PNG of 2 or 4 bits with, to stretch them to 0..255."""
    with path.open("rb") as file:
        header = file.read(26)
    bits, colour_type = header[24], header[25]  # PNG specification 11.2.2: IHDR, its data starts at byte 16
    return {2: 85, 4: 17}.get(bits, 1) if colour_type == 0 else 1


def _opaque(image: Image.Image) -> bool:
    return image.getchannel("A").getextrema() == (255, 255)
