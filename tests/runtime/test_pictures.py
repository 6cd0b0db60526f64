"""The numpy readers give what Pillow gives, and refuse in one sentence what they do not read."""

import io
import random
import struct
import zlib

import numpy as np
import pytest

from prunekit_runtime.errors import PictureError
from prunekit_runtime.pictures import jpeg
from prunekit_runtime.pictures.exif import upright
from prunekit_runtime.pictures.png import SIGNATURE, read_png
from prunekit_runtime.pictures.png_writer import encode_mask, encode_picture
from prunekit_runtime.pictures.reading import read_picture

Image = pytest.importorskip("PIL.Image")
ImageOps = pytest.importorskip("PIL.ImageOps")


def drawn_picture(seed: int, *, most: int = 40) -> np.ndarray:
    """Smooth in parts, so that Pillow chooses all kinds of filters."""
    draw = np.random.default_rng(seed)
    height, width = draw.integers(1, most, 2)
    ramp = np.add.outer(np.arange(height) * draw.integers(0, 9), np.arange(width) * draw.integers(0, 9))
    noise = draw.integers(0, 4 ** draw.integers(0, 5), (height, width, 3))
    return ((ramp[..., None] + noise) % 256).astype(np.uint8)


def saved(image, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, **{"format": "PNG", **options})
    return stream.getvalue()


def as_rgb(content: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(content)).convert("RGB"))


@pytest.mark.drawn(40)
def test_png_of_every_kind_is_read_as_pillow_reads_it(seed):
    draw = random.Random(seed)
    image = Image.fromarray(drawn_picture(seed))
    mode = draw.choice(("RGB", "L", "P", "1", "RGBA", "LA"))
    options = {"bits": draw.choice((1, 2, 4, 8))} if mode == "P" else {}
    if mode == "P":
        image = image.quantize(1 << options["bits"])
    content = saved(image.convert(mode), **options)
    np.testing.assert_array_equal(read_png(content), as_rgb(content))


@pytest.mark.drawn(20)
def test_rows_with_any_mixture_of_filters(seed):
    draw = np.random.default_rng(seed)
    height, width, channels = *draw.integers(1, 12, 2), draw.choice((1, 3))
    lines = draw.integers(0, 256, (height, 1 + width * channels), dtype=np.uint8)
    lines[:, 0] = draw.integers(0, 5, height)
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    content = SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines.tobytes())) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(read_png(content), as_rgb(content))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_of_few_bits(bits):
    rows = np.array([[0b11100100, 0b00011011]], dtype=np.uint8)
    header = struct.pack(">IIBBBBB", 16 // bits - 1, 1, bits, 0, 0, 0, 0)
    packed = zlib.compress(b"\0" + rows.tobytes())
    content = SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(read_png(content), as_rgb(content))


@pytest.mark.drawn(10)
def test_what_is_written_is_what_pillow_reads(seed):
    image_HW3 = drawn_picture(seed)
    content = encode_picture(image_HW3)
    np.testing.assert_array_equal(as_rgb(content), image_HW3)
    np.testing.assert_array_equal(read_png(content), image_HW3)
    labels_HW = image_HW3[..., 0] % 3
    mask = Image.open(io.BytesIO(encode_mask(labels_HW, ((1, 2, 3), (9, 8, 7), (255, 0, 5)))))
    assert mask.mode == "P"
    np.testing.assert_array_equal(np.array(mask), labels_HW)
    assert mask.getpalette()[:9] == [1, 2, 3, 9, 8, 7, 255, 0, 5]
    assert mask.getpalette()[-3:] == [0, 0, 0]
    assert len(mask.getpalette()) == 768


@pytest.mark.parametrize("orientation", range(9))
def test_pictures_are_turned_upright(tmp_path, orientation):
    stored_HW3 = drawn_picture(5)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(stored_HW3)
    image.save(tmp_path / "a.png", exif=exif)
    image.save(tmp_path / "a.jpg", exif=exif)
    expected = np.array(ImageOps.exif_transpose(Image.open(tmp_path / "a.png")))
    np.testing.assert_array_equal(upright(stored_HW3, orientation), expected)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), expected)
    with Image.open(tmp_path / "a.jpg") as stored:
        turned = np.array(ImageOps.exif_transpose(stored))
    np.testing.assert_array_equal(read_picture(tmp_path / "a.jpg"), turned)


def test_netpbm(tmp_path):
    image_HW3 = drawn_picture(2)
    Image.fromarray(image_HW3).save(tmp_path / "a.ppm")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.ppm"), image_HW3)
    (tmp_path / "a.pgm").write_bytes(b"P5 # made by hand\n2 1\n# most\n 15\n\x00\x0f")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.pgm"), [[[0] * 3, [255] * 3]])


BAD = {
    "deep": (lambda: saved(Image.fromarray(np.full((2, 2), 300, dtype=np.uint16))), "16 bits per channel"),
    "transparent": (lambda: saved(Image.new("RGBA", (3, 2), (9, 9, 9, 254))), "transparent"),
    "palette": (lambda: saved(Image.new("P", (3, 2), 0), transparency=0), "transparent"),
    "key": (lambda: saved(Image.new("RGB", (3, 2), (1, 2, 3)), transparency=(1, 2, 3)), "transparent"),
    "cut": (lambda: saved(Image.new("RGB", (30, 20)))[:-20], "damaged or cut off"),
    "interlaced": (
        lambda: SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, 2, 0, 0, 1)) + chunk(b"IEND", b""),
        "interlaced",
    ),
    "bomb": (
        lambda: (
            SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", 1 << 20, 1 << 20, 8, 2, 0, 0, 0)) + chunk(b"IEND", b"")
        ),
        "at most",
    ),
    "pixels": (lambda: b"P6 4 4 255\nabc", "pixels are missing"),
    "deep ppm": (lambda: b"P6 1 1 65535\nabcabc", "16 bits"),
    "gif": (lambda: b"GIF89a", "no PNG, PPM or JPEG"),
    "jpeg": (lambda: b"\xff\xd8\xff\xe0\0\4ab", "damaged or cut off"),
    "cut jpeg": (lambda: saved(Image.new("RGB", (64, 64)), format="JPEG")[:-30], "damaged or cut off"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_read_is_one_sentence(tmp_path, name):
    make, words = BAD[name]
    (tmp_path / "x").write_bytes(make())
    with pytest.raises(PictureError, match=words) as raised:
        read_picture(tmp_path / "x")
    assert str(raised.value).startswith(str(tmp_path / "x"))


def test_a_jpeg_without_a_decoder_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(jpeg, "_module", lambda _: None)
    Image.new("RGB", (3, 2)).save(tmp_path / "a.jpg")
    with pytest.raises(PictureError, match="pip install pillow"):
        read_picture(tmp_path / "a.jpg")


def test_a_jpeg_by_opencv_is_rgb_and_never_cut_off(tmp_path, monkeypatch):
    class OpenCv:
        IMREAD_COLOR = 1

        def imdecode(self, _content, _flag):
            return np.array([[[1, 2, 3]]], dtype=np.uint8)

    monkeypatch.setattr(jpeg, "_module", lambda name: OpenCv() if name == "cv2" else None)
    path = tmp_path / "a.jpg"
    Image.new("RGB", (1, 1)).save(path)
    assert read_picture(path).tolist() == [[[3, 2, 1]]]
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(PictureError, match="cut off"):
        read_picture(path)


@pytest.mark.drawn(150)
def test_damaged_files_are_read_or_refused(tmp_path, seed):
    draw = random.Random(seed)
    image = Image.fromarray(drawn_picture(seed, most=12))
    content = bytearray(saved(image, format=draw.choice(("PNG", "PPM", "JPEG"))))
    for _ in range(draw.randint(1, 4)):
        content[draw.randrange(len(content))] = draw.randrange(256)
    if content.startswith(SIGNATURE) and draw.random() < 0.7:
        content = with_checksums(bytes(content))
    (tmp_path / "x").write_bytes(bytes(content[: draw.choice((None, draw.randrange(len(content))))]))
    try:
        image_HW3 = read_picture(tmp_path / "x")
    except PictureError:
        return
    assert image_HW3.dtype == np.uint8
    assert image_HW3.shape[2] == 3


def with_checksums(content: bytes) -> bytes:
    """Damage that a checksum does not give away."""
    whole, place = content[:8], 8
    while place + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        whole += chunk(kind, content[place + 8 : place + 8 + length])
        place += 12 + length
    return whole
