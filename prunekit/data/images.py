"""Reading image files that nobody vouches for: bounded, few formats, every failure a DataError naming the file.

Shapes: H height, W width.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch import Tensor

from prunekit.data.dataset import size_text
from prunekit.data.files.deep import as_8_bits, deep_samples, is_cut
from prunekit.errors import DataError
from prunekit_runtime.pictures.exif import upright as upright_array

MAX_PIXELS: Final = 1 << 26  # 67 megapixels, 200 MB decoded: above any camera's frame, below a decompression bomb
IMAGE_FORMATS: Final = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
IMAGE_SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
MASK_FORMATS: Final = ("PNG",)  # lossless; a JPEG mask holds classes that nobody drew
MASK_SUFFIXES: Final = (".png",)
_ORIENTATION: Final = 0x0112  # EXIF tag
_BITS_PER_SAMPLE: Final = 258  # TIFF tag
_RGB_MODES: Final = ("RGB", "L", "P", "1", "CMYK", "YCbCr", "RGBA", "LA")


def read_image(path: Path, *, turn: bool = False, as_stored: bool = False, white_level: int = 0) -> Tensor:
    """Read a picture as RGB, uint8 [3, H, W]; grey ones have three equal channels, 16 bits are brought to 8.

    Args:
        path: the file.
        turn: turn a picture that EXIF data says is rotated, instead of refusing it: right where no mask goes with it.
        as_stored: take its pixels as they are stored, whatever EXIF data says: right where its mask is known to be so.
        white_level: the number that is white in a picture of 16 bits a channel (`files.deep`).

    Raises:
        DataError: the file is missing, damaged, too large, transparent, of more bits than can be read, holds several
            pictures, or is rotated by EXIF data and not to be turned.
    """
    image, bits = _decoded(path, IMAGE_FORMATS, turn=turn, as_stored=as_stored)
    if bits == 16:
        return _from_16_bits(path, image, white_level, turn=turn)
    _refuse_deep(image, bits, path)
    if image.mode not in _RGB_MODES:
        raise DataError(f"Image {path} has pixels of kind {image.mode}. Convert it to 8-bit RGB.")
    if not is_opaque(image, path):
        raise DataError(
            f"Image {path} is transparent in places, and what lies behind is not known. "
            "Put it on a background and convert it to 8-bit RGB."
        )
    return torch.from_numpy(rgb_array(image)).permute(2, 0, 1).contiguous()


def image_size(path: Path, formats: tuple[str, ...], *, as_stored: bool = False) -> tuple[int, int]:
    """Return (height, width) [px] from the file's header, without decoding it.

    Raises:
        DataError: as `load`, as far as the header shows it.
    """
    with _opened(path, formats, as_stored=as_stored) as image:
        return image.height, image.width


@dataclass(frozen=True)
class Header:
    """What a picture's file says of itself before it is decoded."""

    size_HW: tuple[int, int]
    """Height and width as stored [px]."""
    format: str
    """Such as JPEG."""
    mode: str
    """Pillow's name for the kind of its pixels, such as RGB, L (grey) or P (palette)."""
    turned: bool
    """EXIF data says that it is to be shown rotated or mirrored."""


def read_header(path: Path, formats: tuple[str, ...]) -> Header:
    """Return what a file's header says, also of one that is turned by EXIF data.

    Raises:
        DataError: as `load`, as far as the header shows it.
    """
    with _opened(path, formats, turn=True) as image:
        turned = _orientation(image, path) not in (0, 1)
        return Header((image.height, image.width), image.format or "", image.mode, turned)


def load(path: Path, formats: tuple[str, ...], *, turn: bool = False, as_stored: bool = False) -> Image.Image:
    """Decode a whole file, its pixels as stored; with `turn`, upright. `as_stored` accepts what EXIF data rotates.

    Raises:
        DataError: the file is missing, of another format, too large, truncated, holds several pictures, or is rotated
            by its EXIF data and not to be turned.
    """
    image, bits = _decoded(path, formats, turn=turn, as_stored=as_stored)
    _refuse_deep(image, bits, path)
    return image


def is_opaque(image: Image.Image, path: Path) -> bool:
    """Tell whether no pixel is transparent, by an alpha channel or by a colour that stands for transparency.

    Raises:
        DataError: what says so is damaged.
    """
    try:
        shown = image.convert("RGBA") if "transparency" in image.info else image
        return "A" not in shown.getbands() or shown.getchannel("A").getextrema() == (255, 255)
    except Exception as error:  # as in `load`
        raise DataError(f"{path} has damaged transparency: {error}. Save it again without.") from error


def rgb_array(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Return the colours of an opaque image, uint8 [H, W, 3]."""
    if "transparency" in image.info:  # Pillow warns where it would leave the transparency of a palette out
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))


def label_array(image: Image.Image, path: Path) -> npt.NDArray[np.int64]:
    """Return the stored numbers of an index or palette mask, int64 [H, W].

    Raises:
        DataError: the file holds colours, or numbers that are no indices.
    """
    if image.mode not in ("L", "P", "1", "I", "I;16", "I;16B"):
        raise DataError(f"Mask {path} holds {image.mode} pixels, not one class number per pixel. Save it as index PNG.")
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


def _decoded(path: Path, formats: tuple[str, ...], *, turn: bool, as_stored: bool) -> tuple[Image.Image, int]:
    """Return a file's picture and how many bits a channel has on disk."""
    with _opened(path, formats, turn=turn, as_stored=as_stored) as image:
        try:
            image.load()
            upright = ImageOps.exif_transpose(image) if turn else image.copy()
            upright.format = image.format  # which a copy lacks
            return upright, max(_png_header(path)[0], _tiff_bits(image))
        except Exception as error:  # decoders raise whatever a hostile file makes their parsers trip over
            raise DataError(f"{path} is damaged or cut off: {error}. Replace the file.") from error


def _refuse_deep(image: Image.Image, bits: int, path: Path) -> None:
    if bits > 8 and len(image.getbands()) > 1:  # of these Pillow keeps the upper 8 bits and says nothing
        raise DataError(f"{path} has {bits} bits per channel, and only 8 are supported. Convert it to 8-bit RGB.")


def _from_16_bits(path: Path, image: Image.Image, white_level: int, *, turn: bool) -> Tensor:
    image_HW3 = as_8_bits(deep_samples(path, image), path, white_level)
    if turn and is_cut(image):  # any other is upright already
        with _opened(path, IMAGE_FORMATS, turn=True) as stored:
            image_HW3 = upright_array(image_HW3, _orientation(stored, path))
    return torch.from_numpy(image_HW3).permute(2, 0, 1).contiguous()


def _opened(path: Path, formats: tuple[str, ...], *, turn: bool = False, as_stored: bool = False) -> Image.Image:
    if not path.is_file():
        raise DataError(f"{path} does not exist or is not a file. Restore it, or remove its partner.")
    try:
        image = Image.open(path, formats=formats)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path} would decode to more than {MAX_PIXELS} pixels. Cut or shrink it.") from error
    except Exception as error:  # as in `load`
        raise DataError(f"{path} is no readable {' or '.join(formats)} file: {error}. Replace it.") from error
    try:
        _check_header(image, path, any_turn=turn or as_stored)
    except DataError:
        image.close()
        raise
    return image


def _check_header(image: Image.Image, path: Path, *, any_turn: bool) -> None:
    if image.width * image.height > MAX_PIXELS:
        size = size_text((image.height, image.width))
        raise DataError(f"{path} has {size} pixels, at most {MAX_PIXELS} are read. Cut or shrink it.")
    # The first picture of a JPEG with several is the picture by that format's standard; the others serve cameras.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise DataError(f"{path} holds several pictures (an animation, or pages). Save one of them by itself.")
    # 0 is written by cameras that do not know
    if not any_turn and _orientation(image, path) not in (0, 1):
        raise DataError(
            f"{path} is rotated by its EXIF data, and it is unknown whether its mask is rotated too. "
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
    bits, colour_type = _png_header(path)
    return {2: 85, 4: 17}.get(bits, 1) if colour_type == 0 else 1


def _png_header(path: Path) -> tuple[int, int]:
    """Return bits a channel and colour type of a PNG; zeros for other files."""
    with path.open("rb") as file:
        header = file.read(26)
    # PNG specification 5.2 and 11.2.2: signature, then IHDR, whose data starts at byte 16
    return (header[24], header[25]) if header.startswith(b"\x89PNG") and len(header) == 26 else (0, 0)


def _tiff_bits(image: Any) -> int:
    tags = getattr(image, "tag_v2", None)
    bits = () if tags is None else tags.get(_BITS_PER_SAMPLE, ())
    return max((bits,) if isinstance(bits, int) else bits, default=0)
