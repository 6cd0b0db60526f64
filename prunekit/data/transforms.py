"""Joint transforms of image and labels: the contract's preprocessing for evaluation, augmentation for training.

Shapes: H, W the sample's size; h, w the size after the transform. Images are RGB.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from prunekit.data.dataset import IGNORE_INDEX, Sample
from prunekit.recipe import DataConfig
from prunekit_runtime.preprocessing import Preprocessing

FOCUS_JITTER: Final = 0.25  # of a crop's side: how far its centre may lie from the focus (sirfp.md 1.3)


def contract_of(config: DataConfig, pad_multiple: int = 1) -> Preprocessing:
    """Return the preprocessing contract of a recipe, to be saved with the model."""
    return Preprocessing(
        height=config.height,
        width=config.width,
        channel_order=config.channels,
        scale=config.pixel_scale,
        mean=config.mean,
        std=config.std,
        pad_multiple=pad_multiple,
    )


@dataclass(frozen=True)
class Window:
    """Where a training view lies in its sample: shares of the sample's sides, and how much it is enlarged."""

    top: float
    left: float
    bottom: float
    right: float
    scale_y: float
    scale_x: float


class EvalTransform:
    """The contract in torch: the same numbers as `Preprocessing.prepare` gives on the device."""

    def __init__(self, contract: Preprocessing) -> None:
        self.contract = contract

    def __call__(self, image_3HW: Tensor) -> Tensor:
        """Turn an RGB uint8 image [3, H, W] into the network's float32 input [3, h, w]."""
        rows, columns = image_3HW.shape[1:]
        height, width = self.contract.resized_size(rows, columns)
        ordered_3HW = image_3HW.flip(0) if self.contract.channel_order == "bgr" else image_3HW
        resized_3hw = resize_image(ordered_3HW.float(), height, width)
        mean_311, std_311 = (torch.tensor(values).view(3, 1, 1) for values in (self.contract.mean, self.contract.std))
        normalised_3hw = (resized_3hw * self.contract.scale - mean_311) / std_311
        padded_height, padded_width = self.contract.network_size(rows, columns)
        return F.pad(normalised_3hw, (0, padded_width - width, 0, padded_height - height))


class TrainTransform:
    """A random view of a sample: colour, scale, crop, flip, then the contract's normalisation.

    Samples come in at the network's size (`resize_sample`). Where a crop reaches beyond the scaled sample, the
    image is filled with the mean colour and the labels with the ignore index.
    """

    def __init__(self, config: DataConfig) -> None:
        jitter = v2.ColorJitter(brightness=config.colour, contrast=config.colour, saturation=config.colour)
        self._size = crop_size(config)
        self._jitter = [jitter] if config.colour > 0 else []
        self._scale = RandomScale(config.scale_min, config.scale_max)
        self._looks = v2.Compose([*self._jitter, self._scale])
        self._turned = config.channels == "bgr"
        self._fill = _fill(config)
        self._crop = v2.RandomCrop(self._size, pad_if_needed=True, fill=self._fill)
        self._finish = v2.Compose(
            [
                v2.RandomHorizontalFlip(config.flip),
                v2.ToDtype({tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64}, scale=True),
                _normalise(config),
            ]
        )

    def __call__(
        self, image_3HW: Tensor, labels_HW: Tensor, seed: int, focus: tuple[float, float] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw the view that `seed` names; the global random state is neither used nor changed.

        Args:
            image_3HW: RGB uint8.
            labels_HW: uint8.
            seed: names the view.
            focus: a place, as shares of height and width, that the crop's centre stays within a quarter of a crop of,
                where the sample's border lets it; in the crop in any case. Without it crops lie anywhere.

        Returns:
            image float32 [3, h, w], normalised; labels int64 [h, w]
        """
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed, which would seed the GPUs too, and fork_rng restores the CPU's state only.
            torch.default_generator.manual_seed(seed)
            image, labels = self._looks(tv_tensors.Image(image_3HW), tv_tensors.Mask(labels_HW))
            if focus is None:
                image, labels = self._crop(image, labels)
            else:
                image, labels = focused(image, labels, self._size, focus, self._fill)
            if self._turned:
                image = tv_tensors.Image(image.flip(0))
            image, labels = self._finish(image, labels)
        return image.as_subclass(Tensor), labels.as_subclass(Tensor)

    def window(self, height: int, width: int, seed: int) -> Window:
        """Return where the view that `seed` names lies in a sample of that size [px], without drawing it.

        The same random numbers are drawn in the same order as for the view itself, which lies where this says.
        """
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            for jitter in self._jitter:
                jitter.make_params([])
            scaled = self._scale.make_params([torch.empty(height, width, device="meta")])
            rows, columns = scaled["height"], scaled["width"]
            crop = self._crop.make_params([tv_tensors.Mask(torch.empty(rows, columns, device="meta"))])
        pad_left, pad_top = crop["padding"][:2] if crop["needs_pad"] else (0, 0)
        top, left = crop["top"] - pad_top, crop["left"] - pad_left
        return Window(
            top=max(top, 0) / rows,
            left=max(left, 0) / columns,
            bottom=min(top + self._size[0], rows) / rows,
            right=min(left + self._size[1], columns) / columns,
            scale_y=rows / height,
            scale_x=columns / width,
        )


def focused(
    image: Tensor, labels: Tensor, size_hw: tuple[int, int], focus: tuple[float, float], fill: dict[Any, Any]
) -> tuple[Any, Any]:
    """Crop both to one window of `size_hw` around `focus`, moved by up to a quarter of its sides at random.

    A window stays inside the sample where that is large enough, else the sample inside the window.
    """
    corner: list[int] = []
    pads: list[tuple[int, int]] = []
    for side, length, share in zip(size_hw, labels.shape, focus, strict=True):
        offset = float(torch.empty(()).uniform_(-FOCUS_JITTER, FOCUS_JITTER))
        low, high = min(0, length - side), max(0, length - side)
        start = min(max(round(share * length + (offset - 0.5) * side), low), high)
        corner.append(max(start, 0))
        pads.append((max(-start, 0), max(start + side - length, 0)))
    (top, bottom), (left, right) = pads

    def window(part: Any) -> Any:
        padded = v2.functional.pad(part, [left, top, right, bottom], fill=fill[type(part)])
        return type(part)(padded[..., corner[0] : corner[0] + size_hw[0], corner[1] : corner[1] + size_hw[1]])

    return window(image), window(labels)


def _fill(config: DataConfig) -> dict[Any, Any]:
    """Return what lies beyond a sample: the mean colour in RGB, and labels that do not count."""
    colour = [min(max(round(value / config.pixel_scale), 0), 255) for value in config.mean]
    return {tv_tensors.Image: colour[::-1] if config.channels == "bgr" else colour, tv_tensors.Mask: IGNORE_INDEX}


def _normalise(config: DataConfig) -> v2.Normalize:
    """Return the contract's normalisation of pixels that are scaled to [0, 1] already."""
    unit = 255 * config.pixel_scale  # 1 where the network takes [0, 1]
    return v2.Normalize(mean=[value / unit for value in config.mean], std=[value / unit for value in config.std])


class RandomScale(v2.Transform):
    """Scale image and labels by one factor drawn evenly from a range, both about the same pixel centres.

    torchvision resizes masks by "nearest", whose samples lie up to half a pixel beside the image's; here both
    use half-pixel centres, and the image the contract's bilinear rule without antialias.
    """

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the size that image and labels are brought to."""
        rows, columns = flat_inputs[0].shape[-2:]
        scale = float(torch.empty(()).uniform_(self.low, self.high))
        return {"height": max(1, round(scale * rows)), "width": max(1, round(scale * columns))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Resize one of the two."""
        resize = resize_labels if isinstance(inpt, tv_tensors.Mask) else resize_image
        return type(inpt)(resize(inpt.as_subclass(Tensor), params["height"], params["width"]))


def resize_sample(sample: Sample, height: int, width: int) -> Sample:
    """Bring a sample to the network's size, the image rounded to uint8 again."""
    if tuple(sample.labels_HW.shape) == (height, width):
        return sample
    image_3hw = resize_image(sample.image_3HW, height, width)
    return Sample(image_3hw, resize_labels(sample.labels_HW, height, width), sample.name)


def resize_image(image_3HW: Tensor, height: int, width: int) -> Tensor:
    """Resize by the contract's rule: bilinear, half-pixel centres, no antialias; uint8 is rounded, float stays."""
    if tuple(image_3HW.shape[-2:]) == (height, width):
        return image_3HW
    floats_13hw = F.interpolate(image_3HW[None].float(), (height, width), mode="bilinear", align_corners=False)
    return floats_13hw[0] if image_3HW.is_floating_point() else floats_13hw[0].round_().to(image_3HW.dtype)


def resize_labels(labels_HW: Tensor, height: int, width: int) -> Tensor:
    """Resize labels by the nearest pixel centre, the image's geometry; no class appears that was not there."""
    if tuple(labels_HW.shape[-2:]) == (height, width):
        return labels_HW
    return F.interpolate(labels_HW[None, None], (height, width), mode="nearest-exact")[0, 0]


def draw_seed(*key: int) -> int:
    """Return a 64-bit seed for a key such as (seed, epoch, index); near keys give unrelated seeds."""
    low, high = np.random.SeedSequence(list(key)).generate_state(2)
    return int(low) | int(high) << 32


def crop_size(config: DataConfig) -> tuple[int, int]:
    """Return (height, width) [px] of a training crop."""
    return config.crop_height or config.height, config.crop_width or config.width
