"""Images and masks, through the data set that reads them."""

import io
import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from prunekit.data.registry import open_dataset
from prunekit.recipe import DataConfig


@pytest.fixture
def folder(tmp_path):
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / split / kind).mkdir(parents=True)
    (tmp_path / "classes.toml").write_text(
        'masks = "auto"\n'
        + "".join(f'[[classes]]\nname = "c{n}"\ncolour = [{n}, {2 * n}, {9 * n}]\n' for n in range(5))
    )
    return tmp_path


def _saved(pixels, kind: str, mode: str = "RGB", **options) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(pixels)
    if mode == "P":
        image = image.convert("L")
        image.putpalette(list(range(256)) * 3)
    image.save(stream, kind, **options)
    return stream.getvalue()


def _deep_png(channels: int) -> bytes:
    """Return a PNG of 16 bits a channel, whose rows are stored as differences to the left (PNG specification, 9.2)."""
    samples = GENERATOR.integers(0, 1 << 16, (24, 32 * channels)).astype(">u2").view(np.uint8)
    rows = b"".join(b"\1" + row.tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", 32, 24, 16, {1: 0, 3: 2}[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def _damaged(mutate, draw: random.Random, content: bytes) -> bytes:
    """Damage the content of a PNG's chunk and put its sum right again; otherwise the sum is all that is ever read."""
    if content[:4] != b"\x89PNG" or draw.random() < 0.3:
        return mutate.bytes(draw, content)
    chunks, place = [], 8
    while place < len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        chunks.append([content[place + 4 : place + 8], content[place + 8 : place + 8 + length]])
        place += length + 12
    number = draw.randrange(len(chunks))
    chunks[number][1] = mutate.bytes(draw, chunks[number][1], most=2)
    if draw.random() < 0.2:
        chunks.insert(number, [draw.choice((b"tRNS", b"PLTE", b"eXIf", b"zTXt", b"iCCP", b"gAMA")), draw.randbytes(9)])
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return content[:8] + b"".join(parts)


GENERATOR = np.random.default_rng(0)
COLOURS = GENERATOR.integers(0, 256, (24, 32, 3), dtype=np.uint8)
NUMBERS = GENERATOR.integers(0, 5, (24, 32), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_16_bits(fuzz, mutate, folder, channels):
    content = _deep_png(channels)
    (folder / "train/masks/a.png").write_bytes(_saved(NUMBERS, "PNG"))

    def read(_):
        sample = open_dataset(DataConfig(name="folder", root=str(folder)), "train")[0]
        assert sample.image_3HW.shape == (3, 24, 32)

    fuzz(lambda draw: _damaged(mutate, draw, content), read, "train/images/a.png")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP", "TIFF"])
def test_images(fuzz, mutate, folder, kind):
    content = _saved(COLOURS, kind, **({"compression": "tiff_lzw"} if kind == "TIFF" else {}))
    (folder / "train/masks/a.png").write_bytes(_saved(NUMBERS, "PNG"))

    def read(_):
        sample = open_dataset(DataConfig(name="folder", root=str(folder)), "train")[0]
        assert sample.image_3HW.shape == (3, 24, 32)

    name = {"PNG": "a.png", "JPEG": "a.jpg", "BMP": "a.bmp", "WEBP": "a.webp", "TIFF": "a.tif"}[kind]
    fuzz(lambda draw: _damaged(mutate, draw, content), read, f"train/images/{name}")


@pytest.mark.parametrize("kind", ["index", "palette", "colour", "deep"])
def test_masks(fuzz, mutate, folder, kind):
    content = {
        "index": lambda: _saved(NUMBERS, "PNG"),
        "palette": lambda: _saved(NUMBERS, "PNG", "P"),
        "colour": lambda: _saved(NUMBERS[..., None] * np.array([1, 2, 9], np.uint8), "PNG"),
        "deep": lambda: _saved(NUMBERS.astype(np.uint16), "PNG"),
    }[kind]()
    (folder / "train/images/a.png").write_bytes(_saved(COLOURS, "PNG"))

    def read(_):
        sample = open_dataset(DataConfig(name="folder", root=str(folder)), "train")[0]
        labels = set(sample.labels_HW.unique().tolist())
        assert labels <= {0, 1, 2, 3, 4, 255}

    fuzz(lambda draw: _damaged(mutate, draw, content), read, "train/masks/a.png")
