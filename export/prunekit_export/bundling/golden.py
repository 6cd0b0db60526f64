"""Golden pictures: validation images of the run, and what its network says of them, for a device to be checked against.

K classes, h w the network's size, H W a picture's size.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prunekit.progress import counted
from prunekit_export.errors import ExportError
from prunekit_runtime.bundle import GoldenEntry
from prunekit_runtime.pictures.png_writer import encode_mask, encode_picture

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt
    from torch.nn import Module

    from prunekit.data.dataset import SegmentationDataset
    from prunekit_runtime.preprocessing import ByteArray, FloatArray, Preprocessing

IGNORED = 255
MAX_LOGITS_BYTES = 1 << 20  # of one picture, before packing
_LOOKED_AT = 64  # masks, among which pictures are chosen
_MIN_SHARE = 0.001  # of the pixels; less of a class is not counted as showing it


@dataclass(frozen=True)
class GoldenPicture:
    """A validation image, uint8 (H, W, 3), with its true labels and those that the network gives it, uint8 (H, W)."""

    index: int
    image_HW3: ByteArray
    truth_HW: ByteArray
    labels_HW: ByteArray
    logits_Khw: FloatArray


def choose(dataset: SegmentationDataset, count: int) -> list[int]:
    """Return places of `count` images, or of all there are; each shows most classes that those before do not show.

    Raises:
        ExportError: the data set has no image.
    """
    if not len(dataset):
        raise ExportError("The run's data has no validation images, and a bundle needs some to check a device with.")
    count = min(count, len(dataset))
    step = max(1, len(dataset) // _LOOKED_AT)
    places = list(range(0, len(dataset), step))[: max(_LOOKED_AT, count)]
    places += [place for place in range(len(dataset)) if place not in set(places)][: max(0, count - len(places))]
    shown = {place: _shown(dataset, place) for place in counted(places, "Choosing golden pictures", len(places))}
    chosen: list[int] = []
    seen: set[int] = set()
    for _ in range(count):
        # Among equals the earliest: the same pictures every time.
        best = max((place for place in places if place not in chosen), key=lambda place: len(shown[place] - seen))
        chosen.append(best)
        seen |= shown[best]
    return sorted(chosen)


def _shown(dataset: SegmentationDataset, place: int) -> set[int]:
    labels_HW = dataset[place].labels_HW.numpy()
    values, counts = np.unique(labels_HW, return_counts=True)
    enough = counts >= _MIN_SHARE * labels_HW.size
    return {int(value) for value in values[enough]} - {dataset.classes.ignore_index}


def look(
    network: Module, contract: Preprocessing, dataset: SegmentationDataset, places: Sequence[int]
) -> Iterator[GoldenPicture]:
    """Yield each image with what a network says of it.

    Args:
        network: images_B3HW to logits_BKHW, in float32 on the CPU.
        contract: its preprocessing.
        dataset: of the run.
        places: of the images.

    Raises:
        ExportError: its logits are not finite.
    """
    import torch

    for place in counted(places, "Running the network on golden pictures", len(places)):
        sample = dataset[place]
        image_HW3 = np.ascontiguousarray(sample.image_3HW.permute(1, 2, 0).numpy())
        with torch.inference_mode():
            logits_1Khw = network(torch.from_numpy(contract.prepare(image_HW3))).numpy()
        if not np.isfinite(logits_1Khw).all():
            raise ExportError("The network gives logits that are not finite (nan or infinity). Train it again.")
        labels_HW = contract.restore_labels(logits_1Khw, *image_HW3.shape[:2])
        truth_HW = sample.labels_HW.numpy()
        truth_HW = np.where(truth_HW == dataset.classes.ignore_index, IGNORED, truth_HW).astype(np.uint8)
        yield GoldenPicture(place, image_HW3, truth_HW, labels_HW, logits_1Khw[0])


def write_golden(
    folder: Path, number: int, picture: GoldenPicture, palette: Sequence[tuple[int, int, int]]
) -> GoldenEntry:
    """Write a golden picture's files into `golden/` of a bundle."""
    name = f"golden/{number:02d}"
    colours = tuple((red, green, blue) for red, green, blue in palette)
    for suffix, content in (
        ("png", encode_picture(picture.image_HW3)),
        ("labels.png", encode_mask(picture.labels_HW, colours)),
        ("truth.png", encode_mask(picture.truth_HW, colours)),
        ("logits.npz", pack_logits(picture.logits_Khw)),
    ):
        path = folder / f"{name}.{suffix}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return GoldenEntry(f"{number:02d}", f"{name}.png", f"{name}.labels.png", f"{name}.truth.png", f"{name}.logits.npz")


def pack_logits(logits_Khw: FloatArray) -> bytes:
    """Return logits as an npz file: every s-th pixel in both directions, as float16 shares of the largest magnitude.

    So 150 classes at 512x1024 take 1 MiB and not 300; what is kept is rounded to 11 bits.
    """
    stride = sampling(logits_Khw.shape)
    largest = float(np.abs(logits_Khw).max()) or 1.0
    shares: npt.NDArray[np.float16] = (logits_Khw[:, ::stride, ::stride] / largest).astype(np.float16)
    file = io.BytesIO()
    np.savez_compressed(file, shares=shares, largest=np.array([largest]), stride=np.array([stride]))
    return file.getvalue()


def sampling(shape: tuple[int, ...]) -> int:
    """Return the stride at which logits of a shape (K, h, w) fit into a golden file."""
    classes, height, width = shape
    stride = 1
    while classes * -(-height // stride) * -(-width // stride) * 2 > MAX_LOGITS_BYTES:
        stride += 1
    return stride
