"""The data sets by name. A new one is a function in `DATASETS`."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from prunekit.data.camvid import CamVidDataset
from prunekit.data.dataset import SegmentationDataset, Split
from prunekit.data.folder import FolderDataset
from prunekit.data.own.dataset import OwnDataset
from prunekit.data.own.finding import is_own, untrusted
from prunekit.data.pairs import check_root
from prunekit.data.public.dataset import Layout, PublicDataset
from prunekit.data.public.layouts import LAYOUTS
from prunekit.data.shapes import ShapesDataset
from prunekit.errors import DataUsageError, UntrustedCodeError
from prunekit.recipe import DataConfig
from prunekit.recipe_values import near_data_set

Opener = Callable[[DataConfig, Split], SegmentationDataset]


def _shapes(config: DataConfig, split: Split) -> SegmentationDataset:
    count = config.train_images if split == "train" else config.val_images
    return ShapesDataset(split, count, height=config.height, width=config.width, seed=config.seed)


def _camvid(config: DataConfig, split: Split) -> SegmentationDataset:
    return CamVidDataset(config.root, split)


def _folder(config: DataConfig, split: Split) -> SegmentationDataset:
    return FolderDataset(
        config.root,
        split,
        class_list=config.classes,
        mask_values=config.mask_values,
        ignore_index=config.ignore_index,
        images=config.images,
        masks=config.masks,
        white_level=config.white_level,
    )


def _public(layout: Layout, config: DataConfig, split: Split) -> SegmentationDataset:
    return PublicDataset(layout, config.root, split, config.root_from_run)


DATASETS: Final[Mapping[str, Opener]] = {
    "shapes": _shapes,
    "camvid": _camvid,
    **{name: partial(_public, layout) for name, layout in LAYOUTS.items()},
    "folder": _folder,
}


def open_dataset(config: DataConfig, split: Split, *, trust_code: bool = False) -> SegmentationDataset:
    """Open one split of the data set that `config` names; the files are checked here, not at the first batch.

    Args:
        config: the data set.
        split: train, val or test.
        trust_code: a data set of somebody's own (`python:package.module:Class`) may be imported and run. What a user
            names is the user's own; what stands in a run is not.

    Raises:
        UntrustedCodeError: the data set is somebody's code, and is not trusted.
        DataError: the name is unknown, a file is missing or damaged, or image and labels do not fit; says which.
    """
    if is_own(config):
        if not trust_code:
            raise UntrustedCodeError(untrusted(config))
        return OwnDataset(config, split)
    opener = DATASETS.get(config.name)
    if opener is None:
        raise DataUsageError(
            f"There is no data set {config.name!r}{near_data_set(config.name)} "
            f"Choose one of {', '.join(DATASETS)} as data.name."
        )
    if config.name != "shapes" and config.name not in LAYOUTS:  # whose error says what belongs there, too
        check_root(config.root, config.name, config.root_from_run)
    return opener(config, split)
