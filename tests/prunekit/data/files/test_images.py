import contextlib
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from prunekit.data.images import IMAGE_FORMATS, image_size, label_array, load, read_image
from prunekit.errors import DataError


def png(width, height, data=b"", bits=8, colour_type=0):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9_000, 12_000, 60_000, 2**31 - 1])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, side):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(side, side))
    with pytest.raises(DataError, match=r"bomb\.png"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tif"])
def test_a_cut_off_file_is_refused(tmp_path, suffix, rng):
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
    assert read_image(path).shape == (3, 40, 40)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match="photo"):
        read_image(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=6),
    st.sampled_from(["png", "jpg", "webp"]),
)
def test_a_damaged_file_is_read_or_refused_but_never_raises_anything_else(tmp_path, changes, suffix):
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(np.arange(768, dtype=np.uint32).astype(np.uint8).reshape(16, 16, 3)).save(path)
    content = bytearray(path.read_bytes())
    for place, value in changes:
        content[place % len(content)] = value
    path.write_bytes(content)
    with contextlib.suppress(DataError):
        assert read_image(path).dtype == torch.uint8


def test_a_picture_turned_by_exif_is_refused(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 8)).save(tmp_path / "phone.jpg", exif=exif)
    with pytest.raises(DataError, match="upright"):
        read_image(tmp_path / "phone.jpg")


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "CMYK"])
def test_other_kinds_of_picture_become_rgb(tmp_path, mode):
    path = tmp_path / ("picture.jpg" if mode == "CMYK" else "picture.png")
    Image.new("RGB", (6, 4), (255, 255, 255)).convert(mode).save(path)
    image = read_image(path)
    assert image.shape == (3, 4, 6)
    assert (image >= 250).all()


@pytest.mark.parametrize(("mode", "fill"), [("I;16", 300), ("RGBA", (1, 2, 3, 9)), ("LA", (1, 9))])
def test_deep_and_transparent_pictures_are_refused(tmp_path, mode, fill):
    Image.new(mode, (6, 4), fill).save(tmp_path / "odd.png")
    with pytest.raises(DataError, match="8-bit RGB"):
        read_image(tmp_path / "odd.png")


def test_an_opaque_alpha_channel_is_harmless(tmp_path):
    Image.new("RGBA", (6, 4), (1, 2, 3, 255)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[:, 0, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize(("bits", "row"), [(1, 0b01000000), (2, 0b00011011), (4, 0x12), (8, 7)])
def test_grey_masks_of_few_bits_keep_their_numbers(tmp_path, bits, row):
    path = tmp_path / "mask.png"
    count = 8 // bits
    path.write_bytes(png(count, 1, bytes([0, row]), bits=bits))
    expected = [row >> (8 - bits * (place + 1)) & (1 << bits) - 1 for place in range(count)]
    assert label_array(load(path, ("PNG",)), path)[0].tolist() == expected


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path, tmp_path / "none.png"):
        with pytest.raises(DataError, match="does not exist"):
            image_size(path, IMAGE_FORMATS)


def deep_tiff(path):
    """A TIFF of one RGB pixel with 16 bits a channel, made by hand: Pillow reads such files and writes none."""
    entries = [(256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 3, 200), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 210)]
    entries += [(277, 3, 1, 3), (278, 3, 1, 1), (279, 4, 1, 6)]
    header = struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", len(entries))
    body = header + b"".join(struct.pack("<HHII", *entry) for entry in entries) + struct.pack("<I", 0)
    path.write_bytes(body.ljust(200, b"\0") + struct.pack("<3H", 16, 16, 16).ljust(10, b"\0") + b"\1\2\3\4\5\6")


def test_a_tiff_of_16_bits_a_channel_is_refused(tmp_path):
    deep_tiff(tmp_path / "deep.tif")
    with Image.open(tmp_path / "deep.tif") as image:
        assert image.mode == "RGB"  # what would be read in silence
    with pytest.raises(DataError, match="16 bits"):
        read_image(tmp_path / "deep.tif")


def with_transparency(mode, path, transparent):
    """Write a picture whose transparency is a colour, or a table for the palette, and not a channel."""
    image = Image.new("RGB", (6, 4), (9, 9, 9))
    image.putpixel((1, 1), (200, 0, 0))
    image = image.quantize(2) if mode == "P" else image.convert(mode)
    colour = image.getpixel((1, 1)) if transparent else {"RGB": (1, 2, 3), "L": 77}.get(mode)
    image.save(path, transparency=bytes([0 if transparent else 255] * 2) if mode == "P" else colour)


@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_a_colour_that_stands_for_transparency_is_refused_where_it_occurs(tmp_path, mode):
    with_transparency(mode, tmp_path / "see.png", transparent=True)
    with pytest.raises(DataError, match=r"see\.png is transparent"):
        read_image(tmp_path / "see.png")
    with_transparency(mode, tmp_path / "solid.png", transparent=False)
    assert read_image(tmp_path / "solid.png").shape == (3, 4, 6)


@pytest.mark.parametrize("suffix", ["webp", "tif", "png"])
def test_several_pictures_in_one_file_are_refused(tmp_path, rng, suffix):
    frames = [Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)) for _ in range(2)]
    frames[0].save(tmp_path / f"film.{suffix}", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="several pictures"):
        read_image(tmp_path / f"film.{suffix}")
    frames[0].save(tmp_path / f"one.{suffix}")
    assert read_image(tmp_path / f"one.{suffix}").shape == (3, 16, 16)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_every_format_that_can_say_that_it_is_turned_is_refused_when_it_is(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"phone.{suffix}"
    Image.new("RGB", (8, 6)).save(path, exif=exif)
    if orientation == 1:
        assert read_image(path).shape == (3, 6, 8)
        return
    for read in (read_image, lambda path: image_size(path, IMAGE_FORMATS)):
        with pytest.raises(DataError, match="upright"):
            read(path)
