"""A PNG reader in numpy: up to 8 bits a channel, not interlaced, which is what cameras and tools write.

H height, W width, C channels, B bytes a pixel. Section numbers are those of the PNG specification, third edition.
"""

import dataclasses
import struct
import zlib

import numpy as np
import numpy.typing as npt

from prunekit_runtime.pictures.bounds import check_pixels
from prunekit_runtime.pictures.exif import orientation_of, upright
from prunekit_runtime.pictures.png_filters import unfiltered
from prunekit_runtime.preprocessing import MAX_PIXELS, ByteArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # 11.2.1: by colour type
_GREY, _COLOUR, _PALETTE = 0, 2, 3
_DAMAGED = "is damaged or cut off"


@dataclasses.dataclass(frozen=True)
class _Header:
    width: int
    height: int
    bits: int
    colour_type: int
    interlaced: int

    @property
    def channels(self) -> int:
        return _CHANNELS[self.colour_type]

    @property
    def row_bytes(self) -> int:
        return -(-self.width * self.channels * self.bits // 8)


def read_png(content: bytes, max_pixels: int = MAX_PIXELS) -> ByteArray:
    """Return a PNG's picture as RGB, uint8 (H, W, 3), upright.

    Raises:
        ValueError: it is damaged, too large, transparent, deeper than 8 bits, interlaced or an animation; the message
            is a clause to be put after the file's name.
    """
    chunks = _chunks(content)
    header = _header(chunks.get(b"IHDR", b""), max_pixels)
    if b"acTL" in chunks:
        raise ValueError("holds several pictures (an animation). Save one of them by itself.")
    samples_HWC = _samples(header, _rows(header, chunks.get(b"IDAT", b"")))
    image_HW3 = _colours(header, samples_HWC, chunks)
    return upright(image_HW3, orientation_of(chunks[b"eXIf"])) if b"eXIf" in chunks else image_HW3


def read_indices(content: bytes) -> ByteArray:
    """Return the stored numbers of a PNG of one channel of up to 8 bits, grey or with a palette, uint8 (H, W).

    Raises:
        ValueError: as `read_png`, or it has several channels.
    """
    if not content.startswith(SIGNATURE):
        raise ValueError("is no PNG file.")
    chunks = _chunks(content)
    header = _header(chunks.get(b"IHDR", b""))
    if header.channels != 1:
        raise ValueError("has several channels; labels have one.")
    return _samples(header, _rows(header, chunks.get(b"IDAT", b"")))[..., 0]


def read_deep_png(content: bytes) -> npt.NDArray[np.uint16]:
    """Return the stored numbers of a PNG of 16 bits a channel without its opaque alpha, uint16 (H, W, C), C 1 or 3.

    Raises:
        ValueError: as `read_png`, or it has another depth.
    """
    chunks = _chunks(content)
    header = _header(chunks.get(b"IHDR", b""), deep=True)
    if header.bits != 16:
        raise ValueError(f"has {header.bits} bits a channel, not 16.")
    rows = np.ascontiguousarray(_rows(header, chunks.get(b"IDAT", b"")))
    samples_HWC = rows.view(">u2").reshape(header.height, header.width, header.channels)  # 7.1: high byte first
    see_through = chunks.get(b"tRNS")
    if header.colour_type > _PALETTE:
        _refuse_transparency(bool((samples_HWC[..., -1] != 0xFFFF).any()))
        samples_HWC = samples_HWC[..., :-1]
    elif see_through is not None and len(see_through) == 2 * header.channels:
        _refuse_transparency(bool((samples_HWC == np.frombuffer(see_through, dtype=">u2")).all(axis=2).any()))
    return samples_HWC.astype(np.uint16)


def _chunks(content: bytes) -> dict[bytes, bytes]:
    """Return the data of each kind of chunk, that of several in a row joined."""
    found: dict[bytes, list[bytes]] = {}
    place = len(SIGNATURE)
    while b"IEND" not in found:
        head = content[place : place + 8]
        if len(head) < 8:
            raise ValueError(f"{_DAMAGED}: its end is missing. Replace the file.")
        length, kind = struct.unpack(">I4s", head)
        data, check = content[place + 8 : place + 8 + length], content[place + 8 + length : place + 12 + length]
        if len(check) < 4 or zlib.crc32(kind + data) != struct.unpack(">I", check)[0]:
            raise ValueError(f"{_DAMAGED}: a checksum is wrong. Replace the file.")
        found.setdefault(kind, []).append(data)
        place += 12 + length
    return {kind: b"".join(parts) if kind == b"IDAT" else parts[0] for kind, parts in found.items()}


def _header(data: bytes, max_pixels: int = MAX_PIXELS, *, deep: bool = False) -> _Header:
    if len(data) != 13:
        raise ValueError(f"{_DAMAGED}: it has no header. Replace the file.")
    width, height, bits, colour_type, _, _, interlaced = struct.unpack(">IIBBBBB", data)
    allowed = {_GREY: (1, 2, 4, 8, 16), _PALETTE: (1, 2, 4, 8)}.get(colour_type, (8, 16))
    if colour_type not in _CHANNELS or bits not in allowed or not width or not height:
        raise ValueError(f"{_DAMAGED}: its header is none of a PNG. Replace the file.")
    if bits == 16 and not deep:
        raise ValueError("has 16 bits per channel, and only 8 are supported. Convert it to 8-bit RGB.")
    check_pixels(height, width, max_pixels)
    if interlaced:
        raise ValueError("is interlaced, which is not read here. Save it without.")
    return _Header(width, height, bits, colour_type, interlaced)


def _rows(header: _Header, packed: bytes) -> ByteArray:
    """Return the picture's bytes, uint8 (H, row bytes), decompressed to no more than they must be."""
    expected = header.height * (1 + header.row_bytes)
    try:
        content = zlib.decompressobj().decompress(packed, expected)
    except zlib.error as error:
        raise ValueError(f"{_DAMAGED}: {error}. Replace the file.") from None
    if len(content) != expected:
        raise ValueError(f"{_DAMAGED}: pixels are missing. Replace the file.")
    lines = np.frombuffer(content, dtype=np.uint8).reshape(header.height, 1 + header.row_bytes)
    if lines[:, 0].max() > 4:
        raise ValueError(f"{_DAMAGED}: a row has an unknown filter. Replace the file.")
    pixel_bytes = max(1, header.bits * header.channels // 8)
    return unfiltered(lines[:, 1:], lines[:, 0], pixel_bytes)


def _samples(header: _Header, rows: ByteArray) -> ByteArray:
    """Return one number a channel, uint8 (H, W, C), as stored."""
    if header.bits == 8:
        return rows.reshape(header.height, header.width, header.channels)
    bits_HWb = np.unpackbits(rows, axis=1).reshape(header.height, -1, header.bits)[:, : header.width]
    weights_b = (1 << np.arange(header.bits)[::-1]).astype(np.uint8)
    return (bits_HWb * weights_b).sum(axis=2, dtype=np.uint8)[..., None]


def _colours(header: _Header, samples_HWC: ByteArray, chunks: dict[bytes, bytes]) -> ByteArray:
    see_through = chunks.get(b"tRNS")
    if header.colour_type == _PALETTE:
        return _from_palette(samples_HWC[..., 0], chunks.get(b"PLTE", b""), see_through or b"")
    if header.colour_type > _PALETTE:
        transparent = bool((samples_HWC[..., -1] != 255).any())
        samples_HWC = samples_HWC[..., :-1]
    elif see_through is not None and len(see_through) == 2 * header.channels:  # 11.3.1.1: one colour, 16 bits a channel
        key_C = np.frombuffer(see_through, dtype=">u2")
        transparent = bool((samples_HWC == key_C).all(axis=2).any())
    else:
        transparent = False
    _refuse_transparency(transparent)
    if header.bits < 8:
        samples_HWC = samples_HWC * np.uint8(255 // ((1 << header.bits) - 1))
    return np.ascontiguousarray(np.broadcast_to(samples_HWC, (*samples_HWC.shape[:2], 3)))


def _from_palette(index_HW: ByteArray, flat: bytes, alpha: bytes) -> ByteArray:
    palette_N3 = np.frombuffer(flat[: len(flat) // 3 * 3], dtype=np.uint8).reshape(-1, 3)
    if int(index_HW.max()) >= len(palette_N3):
        raise ValueError(f"{_DAMAGED}: it shows colours that its palette lacks. Replace the file.")
    alpha_256 = np.full(256, 255, dtype=np.uint8)
    alpha_256[: len(alpha)] = np.frombuffer(alpha[:256], dtype=np.uint8)
    _refuse_transparency(bool((alpha_256[index_HW] != 255).any()))
    return palette_N3[index_HW]


def _refuse_transparency(transparent: bool) -> None:
    if transparent:
        raise ValueError(
            "is transparent in places, and what lies behind is not known. "
            "Put it on a background and convert it to 8-bit RGB."
        )
