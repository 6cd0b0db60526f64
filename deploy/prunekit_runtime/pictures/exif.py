"""How a camera was held: the orientation in EXIF data, and a picture turned upright by it."""

import struct

import numpy as np

from prunekit_runtime.preprocessing import ByteArray

_ORIENTATION = 0x0112
_SHORT = 3  # TIFF 6.0, section 2: the type of a 16-bit number
_ENTRY_BYTES = 12
_DAMAGED = "has damaged EXIF data. Save it again without."


def orientation_of(exif: bytes) -> int:
    """Return the orientation that a block of EXIF data names, 1 to 8 as that standard counts; 1 where it is silent.

    Raises:
        ValueError: the block is damaged; the message is a clause to be put after the file's name.
    """
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        raise ValueError(_DAMAGED)
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for place in range(count):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", exif, start + 2 + _ENTRY_BYTES * place)
            if tag == _ORIENTATION and kind == _SHORT:
                return int(value) if 1 <= value <= 8 else 1  # 0 is written by cameras that do not know
    except struct.error:
        raise ValueError(_DAMAGED) from None
    return 1


def upright(image_HW3: ByteArray, orientation: int) -> ByteArray:
    """Turn and mirror a picture as its orientation says, so that it is as viewers show it."""
    if orientation >= 5:
        image_HW3 = image_HW3.transpose(1, 0, 2)
    # EXIF 2.32, 4.6.4: where the first row and the first column lie. 5 to 8 are 1 to 4 after it.
    if orientation in (2, 3, 6, 7):
        image_HW3 = image_HW3[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image_HW3 = image_HW3[::-1]
    return np.ascontiguousarray(image_HW3)
