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
