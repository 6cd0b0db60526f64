"""Picture files in C++: read as Python reads them, refused where bits would be lost, never a crash."""

import io
import json
import random
import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from prunekit_runtime.pictures.reading import read_picture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
# Labels that tell which colour a pixel has: the largest of the three channels.
PLAN = "input images uint8 -1 -1 -1 3\noutput labels uint8 -1 -1 -1\nweights 1 0 0 0 1 0 0 0 1"


@pytest.fixture
def labelled(runner: Path, tmp_path: Path) -> "Labelled":
    plan = tmp_path / "engine.plan"
    plan.write_bytes(b"ftrt" + bytes(20) + bytes((10, 3, 0, 26)) + PLAN.encode())
    return Labelled(runner, plan)


class Labelled:
    """Labels the pictures of a folder; the report, and the labels of one."""

    def __init__(self, runner: Path, plan: Path) -> None:
        self._words = [str(runner), "run", str(plan), "--overwrite"]

    def __call__(self, folder: Path) -> dict[str, str]:
        """Return why each picture has no labels, by its name."""
        command = [*self._words, "--out", folder.parent / "out", folder]
        done = subprocess.run(command, capture_output=True, check=False)
        report = json.loads(done.stdout)
        assert done.returncode == (1 if report["failed"] else 0)
        assert report["written"] + len(report["failed"]) == len(list(folder.iterdir()))
        return {Path(failed["picture"]).name: failed["reason"] for failed in report["failed"]}


def largest_channel(path: Path) -> npt.NDArray[np.int64]:
    return read_picture(path).argmax(axis=2)


def drawn(seed: int, mode: str, height: int = 31, width: int = 45) -> Image.Image:
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def test_pictures_are_read_as_in_python(labelled: Labelled, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    drawn(0, "RGB").save(folder / "rgb.png")
    drawn(1, "L").save(folder / "grey.png")
    drawn(2, "1").save(folder / "bits.png")
    drawn(3, "P").save(folder / "palette.png")
    drawn(4, "RGBA").save(folder / "opaque.png")
    drawn(5, "LA").save(folder / "opaque-grey.png")
    for subsampling in (0, 1, 2):
        drawn(6, "RGB").save(folder / f"jpeg{subsampling}.jpg", quality=85, subsampling=subsampling)
    drawn(7, "L").save(folder / "grey.jpeg.JPG")
    drawn(8, "RGB").save(folder / "progressive.jpeg", progressive=True)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        drawn(9, "RGB").save(folder / f"turned{orientation}.jpg", exif=exif, quality=95)
    assert labelled(folder) == {}
    for path in folder.iterdir():
        with Image.open(tmp_path / "out" / f"{path.stem}.png") as image:
            np.testing.assert_array_equal(np.array(image), largest_channel(path), err_msg=path.name)


def test_pictures_that_would_lose_bits_are_refused(labelled: Labelled, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    glass = drawn(0, "RGBA")
    glass.putpixel((3, 4), (1, 2, 3, 254))
    glass.save(folder / "glass.png")
    drawn(1, "LA").point(lambda value: value // 2).save(folder / "glass-grey.png")
    drawn(2, "P").save(folder / "glass-palette.png", transparency=drawn(2, "P").getpixel((0, 0)))
    drawn(3, "RGB").save(folder / "glass-key.png", transparency=drawn(3, "RGB").getpixel((0, 0)))
    Image.fromarray(np.full((4, 5), 40000, dtype=np.uint16)).save(folder / "deep.png")
    drawn(4, "RGB").save(folder / "moving.png", save_all=True, append_images=[drawn(5, "RGB")])
    exif = Image.Exif()
    exif[0x0112] = 6
    drawn(6, "RGB").save(folder / "turned.png", exif=exif)
    drawn(7, "RGB").save(folder / "named.png", format="BMP")
    (folder / "empty.png").write_bytes(b"")
    content = io.BytesIO()
    drawn(8, "RGB", 300, 300).save(content, format="JPEG")
    (folder / "cut.jpg").write_bytes(content.getvalue()[:-400])
    huge = io.BytesIO()
    drawn(9, "RGB").save(huge, format="PNG")
    header = huge.getvalue()
    (folder / "huge.png").write_bytes(header[:16] + (1 << 20).to_bytes(4, "big") * 2 + header[24:])
    reasons = labelled(folder)
    expected = {
        **dict.fromkeys(
            ("glass.png", "glass-grey.png", "glass-palette.png", "glass-key.png"), "is transparent in places"
        ),
        "deep.png": "has 16 bits",
        "moving.png": "holds several pictures",
        "turned.png": "with EXIF data",
        "named.png": "is no PNG or JPEG",
        "empty.png": "is no PNG or JPEG",
        "cut.jpg": "is damaged or cut off",
        "huge.png": "pixels, and up to 67108864 are read",
    }
    assert set(reasons) == set(expected)
    for name, reason in expected.items():
        assert reason in reasons[name], reasons[name]


def test_damaged_pictures_never_crash(labelled: Labelled, tmp_path: Path) -> None:
    draw = random.Random(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    whole: list[bytes] = []
    for mode, kind in (("RGB", "PNG"), ("RGBA", "PNG"), ("P", "PNG"), ("RGB", "JPEG"), ("L", "JPEG")):
        content = io.BytesIO()
        drawn(1, mode).save(content, format=kind)
        whole.append(content.getvalue())
    for number in range(300):
        content = bytearray(draw.choice(whole))
        for _ in range(draw.randint(1, 4)):
            place = draw.randrange(len(content))
            if draw.random() < 0.2:
                del content[place:]
                content += b"\0"
            else:
                content[draw.choice([place, min(place, 60)])] = draw.randrange(256)
        (folder / f"{number}.png").write_bytes(content)
    reasons = labelled(folder)
    assert 50 < len(reasons) < 300
    assert all(len(reason) < 400 for reason in reasons.values())
