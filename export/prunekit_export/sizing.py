"""At which sizes a file is calibrated, tuned and prepared for."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from prunekit_export.engine import Profile
from prunekit_export.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import numpy.typing as npt
    import torch

    from prunekit_export.parity import Shape
    from prunekit_runtime.preprocessing import ByteArray, Preprocessing

    FloatArray = npt.NDArray[np.float32]

# A dynamic engine takes up to twice the exported height and width, and this many images.
MAX_DYNAMIC_BATCH = 4


def engine_profile(height: int, width: int, *, batch: int, dynamic: bool) -> Profile:
    """Return the sizes an engine takes: the one of the file, or from half to twice the height and width."""
    if not dynamic:
        size = (batch, 3, height, width)
        return Profile(size, size, size)
    return Profile(
        minimum=(1, 3, max(height // 2, 1), max(width // 2, 1)),
        optimum=(1, 3, height, width),
        maximum=(MAX_DYNAMIC_BATCH, 3, 2 * height, 2 * width),
    )


def calibration_batches(
    calibration: Sequence[torch.Tensor], height: int, width: int, *, count: int
) -> list[FloatArray]:
    """Return calibration images, (N, 3, h, w) each, at one size, in batches of `count` images."""
    import torch
    import torch.nn.functional as F

    images_N3hw = [image[None] for batch in calibration for image in batch.detach().cpu().float()]
    # Ranges hardly depend on the size; a fixed-size file takes no other.
    sized = [F.interpolate(image, (height, width), mode="bilinear") for image in images_N3hw]
    sized += sized[:1] * (-len(sized) % count)
    return [torch.cat(sized[start : start + count]).numpy() for start in range(0, len(sized), count)]


def contract_at(contract: Preprocessing, height: int, width: int, *, dynamic: bool) -> Preprocessing:
    """Return the contract that prepares images as the file takes them.

    Raises:
        ExportError: padding by the contract does not lead to a size of the file.
    """
    own = contract.network_size(contract.height, contract.width)
    if own == (height, width) or (dynamic and not contract.height):
        return contract
    sized = dataclasses.replace(contract, height=height, width=width)
    needed = sized.network_size(height, width)
    if needed != (height, width):
        raise ExportError(
            f"The contract pads images to multiples of {contract.pad_multiple}, so {height} x {width} is no input. "
            f"Use {needed[0]} x {needed[1]}."
        )
    return sized


def prepared_pictures(contract: Preprocessing, pictures: Sequence[ByteArray]) -> Callable[[Shape], FloatArray] | None:
    """Return what prepares `pictures`, RGB, for a shape (images, height, width) of the network; None without any."""
    import numpy as np

    if not pictures:
        return None

    def prepare(shape: Shape) -> FloatArray:
        count, height, width = shape
        sized = dataclasses.replace(contract, height=height, width=width, pad_multiple=1)
        return np.concatenate([sized.prepare(pictures[index % len(pictures)]) for index in range(count)])

    return prepare
