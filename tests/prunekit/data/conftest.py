"""Tiny data sets on disk."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

HEIGHT, WIDTH = 24, 32
CLASSES_TOML = """
ignore_colour = [0, 0, 0]
[[classes]]
name = "road"
colour = [128, 64, 128]
[[classes]]
name = "sky"
colour = [70, 130, 180]
[[classes]]
name = "traffic light"
colour = [250, 170, 30]
"""


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def write_pair(rng: np.random.Generator) -> Callable[..., None]:
    def write(images: Path, masks: Path, stem: str, high: int = 3) -> None:
        images.mkdir(parents=True, exist_ok=True)
        masks.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(images / f"{stem}.jpg")
        Image.fromarray(rng.integers(0, high, (HEIGHT, WIDTH), dtype=np.uint8)).save(masks / f"{stem}.png")

    return write


@pytest.fixture
def camvid_root(tmp_path: Path, write_pair: Callable[..., None]) -> Path:
    for split, count in (("train", 5), ("val", 2), ("test", 3)):
        for number in range(count):
            write_pair(tmp_path / split, tmp_path / f"{split}annot", f"{split}_{number}", high=12)
    return tmp_path


@pytest.fixture
def folder_root(tmp_path: Path, write_pair: Callable[..., None]) -> Path:
    """A folder data set with splits of its own."""
    (tmp_path / "classes.toml").write_text(CLASSES_TOML)
    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            write_pair(tmp_path / split / "images", tmp_path / split / "masks", f"{split}_{number}")
    return tmp_path


REMOVED = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)  # numbers in COCO-Stuff's masks of things without masks
NUMBERS = {
    "cityscapes": [*range(34)],
    "ade20k": [*range(151)],
    "voc": [*range(21), 255],
    "voc-aug": [*range(21), 255],
    "coco-stuff": [*(number for number in range(182) if number not in REMOVED), 255],
}


def _places(name: str, split: str, number: int) -> tuple[str, str]:
    """Return image and mask of a tiny public data set, under its folder."""
    if name == "cityscapes":
        city = {"train": ("aachen", "ulm"), "val": ("lindau", "lindau")}[split][number % 2]
        frame = f"{split}/{city}/{city}_{number:06d}_000019"
        return f"leftImg8bit/{frame}_leftImg8bit.png", f"gtFine/{frame}_gtFine_labelIds.png"
    if name == "ade20k":
        stem = {"train": "training/ADE_train_", "val": "validation/ADE_val_"}[split] + f"{number:08d}"
        return f"images/{stem}.jpg", f"annotations/{stem}.png"
    if name == "coco-stuff":
        stem = f"{split}2017/{number + 10 * (split == 'val'):012d}"
        return f"images/{stem}.jpg", f"annotations/{stem}.png"
    stem = f"2007_{number + 10 * (split == 'val'):06d}"
    masks = "SegmentationClassAug" if (name, split) == ("voc-aug", "train") else "SegmentationClass"
    return f"JPEGImages/{stem}.jpg", f"{masks}/{stem}.png"


@pytest.fixture
def public_numbers() -> dict[str, list[int]]:
    """What the masks of each public data set may hold."""
    return NUMBERS


@pytest.fixture
def write_public(tmp_path: Path, rng: np.random.Generator) -> Callable[..., Path]:
    """write_public("voc"): a tiny copy of a public data set, 4 training and 2 validation images."""

    def write(name: str, folder: str = "set") -> Path:
        place = tmp_path / folder
        for split, count in (("train", 4), ("val", 2)):
            found = [_places(name, split, number) for number in range(count)]
            for image, mask in found:
                for path in (place / image, place / mask):
                    path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(place / image)
                Image.fromarray(rng.choice(NUMBERS[name], (HEIGHT, WIDTH)).astype(np.uint8)).save(place / mask)
            if name.startswith("voc"):
                lists = place / "ImageSets/Segmentation"
                lists.mkdir(parents=True, exist_ok=True)
                file = lists / ("trainaug.txt" if (name, split) == ("voc-aug", "train") else f"{split}.txt")
                file.write_text("".join(f"{Path(image).stem}\n" for image, _ in found))
        return place

    return write
