"""Images of 16 bits: one rule for every number, nothing clipped or cut in silence."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from prunekit.data.folder import FolderDataset
from prunekit.data.images import read_image
from prunekit.errors import DataError
from prunekit.recipe import DataConfig

DRAWN = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def filtered(row, above, kind, step):
    """Filter a row of bytes as PNG writers do: none, sub, up, average or Paeth (PNG specification, 9.2)."""
    left = np.concatenate([np.zeros(step, np.uint8), row[:-step]]).astype(int)
    up = above.astype(int)
    corner = np.concatenate([np.zeros(step, np.uint8), above[:-step]]).astype(int)
    guess = left + up - corner
    away = np.abs([guess - left, guess - up, guess - corner])
    paeth = np.choose(np.argmin(away, axis=0), [left, up, corner])
    return ((row - [np.zeros_like(up), left, up, (left + up) // 2, paeth][kind]) % 256).astype(np.uint8)


def write_png(path, pixels_HWC, kinds=(0,), *, before=b""):
    """Write a PNG of 16 bits a channel, which Pillow does not; its rows are filtered by `kinds` in turn."""
    height, width, channels = pixels_HWC.shape
    rows = pixels_HWC.astype(">u2").reshape(height, -1).view(np.uint8)
    aboves = np.concatenate([np.zeros_like(rows[:1]), rows[:-1]])
    lines = b"".join(
        bytes([kind]) + filtered(row, above, kind, 2 * channels).tobytes()
        for row, above, kind in zip(rows, aboves, np.resize(kinds, height), strict=True)
    )
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + before
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )
    return path


def write_grey(path, pixels_HW):
    Image.fromarray(pixels_HW).save(path)
    return path


def by_the_rule(pixels_HWC, white):
    return np.floor(pixels_HWC.astype(np.float64) * 255 / white + 0.5).astype(np.uint8)


def hwc(image_3HW):
    return image_3HW.permute(1, 2, 0).numpy()


@DRAWN
@given(
    st.sampled_from([1, 2, 3, 4]),
    st.integers(1, 65535),
    st.lists(st.integers(0, 4), min_size=1, max_size=6),
    st.integers(0, 2**32 - 1),
)
def test_every_number_of_a_png_is_scaled_by_the_white_level(tmp_path, channels, white, kinds, seed):
    random = np.random.default_rng(seed)
    pixels = random.integers(0, white + 1, (*random.integers(1, 7, 2), channels)).astype(np.uint16)
    if channels in (2, 4):
        pixels[..., -1] = 65535
    image = hwc(read_image(write_png(tmp_path / "a.png", pixels, kinds), white_level=white))
    colours = pixels[..., :-1] if channels in (2, 4) else pixels
    assert np.array_equal(image, np.broadcast_to(by_the_rule(colours, white), image.shape))


@DRAWN
@given(st.integers(1, 65535), st.sampled_from(["png", "tif"]), st.integers(0, 2**32 - 1))
def test_grey_files_of_pillow_are_scaled_alike(tmp_path, white, suffix, seed):
    pixels = np.random.default_rng(seed).integers(0, white + 1, (3, 4)).astype(np.uint16)
    image = hwc(read_image(write_grey(tmp_path / f"a.{suffix}", pixels), white_level=white))
    assert np.array_equal(image, np.broadcast_to(by_the_rule(pixels[..., None], white), (3, 4, 3)))


def test_all_of_the_range_is_kept_without_a_white_level(tmp_path):
    pixels = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)  # 257 apart
    assert np.array_equal(hwc(read_image(write_grey(tmp_path / "a.png", pixels)))[..., 0].ravel(), np.arange(256))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("most", [1, 900, 4095])
def test_what_would_be_nearly_black_or_clipped_must_be_settled(tmp_path, channels, most):
    pixels = np.full((2, 2, channels), most, dtype=np.uint16)
    path = write_png(tmp_path / "a.png", pixels)
    white = 2 ** int(most).bit_length() - 1
    with pytest.raises(DataError, match=rf"holds at most {most} of 65535.*data\.white_level={white} ; or 65535"):
        read_image(path)
    assert (hwc(read_image(path, white_level=white)) == by_the_rule(pixels, white)).all()
    assert (hwc(read_image(path, white_level=65535)) == by_the_rule(pixels, 65535)).all()
    if most > 1:
        with pytest.raises(DataError, match=rf"holds {most}, above data\.white_level {most - 1}.*white_level={white}"):
            read_image(path, white_level=most - 1)


def test_black_is_black(tmp_path):
    assert not read_image(write_png(tmp_path / "a.png", np.zeros((2, 2, 3), dtype=np.uint16))).any()


def test_transparency_is_refused_where_it_occurs(tmp_path):
    pixels = np.full((2, 2, 4), 65535, dtype=np.uint16)
    pixels[1, 1, 3] = 65534
    with pytest.raises(DataError, match=r"a\.png is transparent"):
        read_image(write_png(tmp_path / "a.png", pixels))
    grey = np.array([[[65535], [40000]]], dtype=np.uint16)
    key = chunk(b"tRNS", struct.pack(">H", 40000))
    with pytest.raises(DataError, match=r"a\.png is transparent"):
        read_image(write_png(tmp_path / "a.png", grey, before=key))
    assert read_image(write_png(tmp_path / "a.png", grey + np.uint16(7), before=key)).shape == (3, 1, 2)


def test_a_picture_for_prediction_is_turned_upright(tmp_path):
    exif = struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x0112, 3, 1, 6, 0, 0)
    pixels = np.random.default_rng(0).integers(0, 65536, (3, 5, 3)).astype(np.uint16)
    path = write_png(tmp_path / "a.png", pixels, before=chunk(b"eXIf", exif))
    with pytest.raises(DataError, match="upright"):
        read_image(path)
    assert np.array_equal(hwc(read_image(path, turn=True)), np.rot90(by_the_rule(pixels, 65535), -1))


def test_a_damaged_file_is_one_error(tmp_path):
    path = write_png(tmp_path / "a.png", np.full((9, 9, 3), 65535, dtype=np.uint16))
    content = path.read_bytes()
    for cut in range(30, len(content), 7):
        path.write_bytes(content[:cut])
        with pytest.raises(DataError, match=r"a\.png"):
            read_image(path)


def test_a_data_set_of_12_bits_names_its_white(tmp_path):
    (tmp_path / "classes.txt").write_text("a\nb\n")
    for place in range(3):
        for part in ("images", "masks"):
            (tmp_path / part).mkdir(exist_ok=True)
        write_png(tmp_path / f"images/{place}.png", np.full((4, 4, 3), 4095 if place else 2048, dtype=np.uint16))
        write_grey(tmp_path / f"masks/{place}.png", np.full((4, 4), place % 2, dtype=np.uint16))
    samples = [sample for split in ("train", "val") for sample in FolderDataset(tmp_path, split, white_level=4095)]
    assert {sample.name: int(sample.image_3HW.max()) for sample in samples} == {"0": 128, "1": 255, "2": 255}
    with pytest.raises(DataError, match="nearly black"):
        list(FolderDataset(tmp_path, "train"))
    with pytest.raises(ValueError, match="belongs to the folder"):
        DataConfig(name="camvid", white_level=4095)
