"""At which sizes a file is calibrated, tuned and prepared for."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from prunekit_export.engine import Profile
from prunekit_export.errors import ExportError, ExportUsageError
from prunekit_runtime.spelling import spelled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import numpy.typing as npt
    import torch

    from prunekit_export.parity import Shape
    from prunekit_export.request import ExportRequest
    from prunekit_runtime.preprocessing import ByteArray, Preprocessing

    FloatArray = npt.NDArray[np.float32]

# A dynamic engine takes up to twice the exported height and width, and this many images.
MAX_DYNAMIC_BATCH = 4


def engine_profile(request: ExportRequest) -> Profile:
    """Return the sizes (N, 3, h, w) an engine takes: the file's one, those asked for, or from half to twice it."""
    height, width = request.height, request.width
    if not request.dynamic:
        size = (request.batch, 3, height, width)
        return Profile(size, size, size)
    if request.profile is not None and not request.end2end:
        return request.profile
    return Profile(
        minimum=(1, 3, max(height // 2, 1), max(width // 2, 1)),
        optimum=(1, 3, height, width),
        maximum=(MAX_DYNAMIC_BATCH, 3, 2 * height, 2 * width),
    )


def picture_sides(request: ExportRequest, contract: Preprocessing) -> tuple[int, int] | None:
    """Return height and width [px] of the pictures that a file of the graph "labels" takes; None leaves them open."""
    if request.picture_size == "any" or (request.picture_size is None and request.dynamic):
        return None
    return request.picture_size or _usual_sides(request, contract)


def picture_profile(request: ExportRequest, contract: Preprocessing) -> Profile:
    """Return the sizes (N, H, W, 3) that an engine from pictures to labels takes, or from half to twice the usual."""
    if request.profile is not None:
        return request.profile
    sides = picture_sides(request, contract)
    rows, columns = sides or _usual_sides(request, contract)
    one, most = (1, MAX_DYNAMIC_BATCH) if request.dynamic else (request.batch, request.batch)
    if sides is not None:
        return Profile((one, rows, columns, 3), (one, rows, columns, 3), (most, rows, columns, 3))
    low = (one, max(rows // 2, 1), max(columns // 2, 1), 3)
    return Profile(low, (one, rows, columns, 3), (most, 2 * rows, 2 * columns, 3))


def check_profile(request: ExportRequest, contract: Preprocessing) -> None:
    """Refuse sizes that the engine's file cannot take, before the work.

    Raises:
        ExportUsageError: the file has one size, or the sizes are not one above the other.
    """
    profile = request.profile
    if profile is None:
        return
    from_pictures = request.end2end
    if not request.dynamic and (not from_pictures or picture_sides(request, contract) is not None):
        raise ExportUsageError(
            f"The file has one size, so {spelled('--min, --opt and --max', 'profile')} have no use. Leave them out, or "
            f"let the size be open: {spelled('--dynamic', 'dynamic=True')}"
        )
    kind, axis = ("pictures (N, H, W, 3)", 3) if from_pictures else ("images (N, 3, h, w)", 1)
    for place, sizes in enumerate(zip(profile.minimum, profile.optimum, profile.maximum, strict=True)):
        wanted = sizes == (3, 3, 3) if place == axis else 1 <= sizes[0] <= sizes[1] <= sizes[2]
        if not wanted:
            shown = ", ".join(map(str, sizes))
            rule = "3 three times" if place == axis else "min <= opt <= max"
            raise ExportUsageError(
                f"Axis {place} of {spelled('--min, --opt and --max', 'profile')} is {shown}; {kind} ask for {rule}."
            )


def tried_sides(request: ExportRequest, contract: Preprocessing) -> list[tuple[int, int]]:
    """Return the picture sizes to compare at: the fixed one, or where it is open the usual one and odd ones."""
    sides = picture_sides(request, contract)
    if sides is not None:
        return [sides]
    rows, columns = _usual_sides(request, contract)
    return [(rows, columns), (rows * 5 // 4 | 1, columns * 3 // 4 | 1), (max(rows - 1, 1), columns + 3)]


def _usual_sides(request: ExportRequest, contract: Preprocessing) -> tuple[int, int]:
    """Return the size that all validation images have, or the one that the network was exported at."""
    sizes = {picture.shape[:2] for picture in request.pictures}
    if len(sizes) == 1:
        height, width = sizes.pop()
        return height, width
    return (contract.height, contract.width) if contract.height else (request.height, request.width)


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
