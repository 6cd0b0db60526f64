"""What shows only when splits are compared, or when the images are compared with the recipe."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from prunekit.data.checking.report import Finding, SplitReport
from prunekit.data.checking.seen import Seen
from prunekit.data.dataset import ClassMap, Split
from prunekit.data.labels.counts import label_faults
from prunekit.recipe import DataConfig

_FAR: Final = 1.5
"""Distance of the normalised images' mean from 0, in deviations, above which mean and std are of other images."""
_SPREAD: Final = 3.0
"""Times by which their deviation may differ from 1."""
_LISTED: Final = 8


def label_findings(splits: Sequence[SplitReport], classes: ClassMap, config: DataConfig) -> Iterator[Finding]:
    """Yield what looks as if labels were lost: for what training refuses a data set, and classes of one split alone."""
    read = [split for split in splits if split.labels.counted]
    if config.name != "shapes":
        for split in read:
            for text in label_faults(split.labels, classes, split.split, config, training=split.split == "train"):
                yield Finding("mend", "labels", split.split, text)
    present: dict[Split, set[int]] = {
        split.split: {label for label, pixels in enumerate(split.labels.pixels) if pixels} for split in read
    }
    if "train" not in present:
        return
    for split, labels in present.items():
        absent = [name for label, name in enumerate(classes.names) if label in present["train"] and label not in labels]
        if absent:
            text = (
                f"Classes in masks of train and in none of {split}: {_names(absent)}. They have no IoU there; move "
                f"some images that show them to {split}."
            )
            yield Finding("look", "absent_classes", split, text)


def duplicate_findings(seen: Mapping[Split, Sequence[Seen]]) -> Iterator[Finding]:
    """Yield images that occur twice, pixel by pixel, under whatever name."""
    found: dict[bytes, list[tuple[Split, str]]] = defaultdict(list)
    for split, ones in seen.items():
        for one in ones:
            if one.digest:
                found[one.digest].append((split, one.image or one.name))
    repeated = [ones for ones in found.values() if len(ones) > 1]
    across = [ones for ones in repeated if len({split for split, _ in ones}) > 1]
    within = [ones for ones in repeated if len({split for split, _ in ones}) == 1]
    if across:
        splits = sorted({split for ones in across for split, _ in ones})
        text = (
            f"{len(across)} images lie in more than one of {', '.join(splits)}, the same pixel by pixel: what the "
            "network is tested on, it was trained on. Remove them from one."
        )
        yield Finding("mend", "duplicates_across_splits", None, text, tuple(map(_twins, across)))
    if within:
        text = f"{len(within)} images occur more than once within a split, the same pixel by pixel."
        yield Finding("look", "duplicates", None, text, tuple(map(_twins, within)))


def normalisation_findings(report: SplitReport, mean: Sequence[float], std: Sequence[float]) -> Iterator[Finding]:
    """Yield where the images of a split are far from mean 0 and deviation 1 after the recipe's normalisation."""
    for channel, shown in enumerate(report.mean):
        distance = abs(shown - mean[channel]) / std[channel]
        spread = report.std[channel] / std[channel]
        if distance > _FAR or not 1 / _SPREAD < spread < _SPREAD:
            text = (
                "The recipe's mean and std are far from those of the images: see the table. Where the network's "
                "weights do not ask for them, set data.mean, data.std and data.pixel_scale."
            )
            yield Finding("look", "normalisation", report.split, text)
            return


def normalised_by(config: DataConfig) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return a recipe's mean and deviation as of red, green and blue, 0 to 255."""
    order = -1 if config.channels == "bgr" else 1
    mean, std = (tuple(value / config.pixel_scale for value in part[::order]) for part in (config.mean, config.std))
    return mean, std


def _twins(ones: Sequence[tuple[Split, str]]) -> str:
    return " = ".join(f"{split}: {name}" for split, name in ones)


def _names(names: Sequence[str]) -> str:
    rest = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(map(repr, names[:_LISTED])) + rest
