"""Look at every sample of a data set and report what it holds and what is wrong."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import torch

from prunekit.data.checking import comparing, findings
from prunekit.data.checking.report import DataReport, Finding, SplitReport, split_report
from prunekit.data.checking.seen import Seen, look_at_pair, look_at_sample
from prunekit.data.checking.sources import SOURCES, SPLITS, Source
from prunekit.data.checking.threads import in_order
from prunekit.data.dataset import ClassMap, Sample, SegmentationDataset, Split, size_text
from prunekit.data.images import read_image
from prunekit.data.pairs import Pair, check_root
from prunekit.data.registry import open_dataset
from prunekit.errors import DataError
from prunekit.recipe import DataConfig

Observer = Callable[[int, int], None]


@dataclass(frozen=True)
class Checked:
    """A report, and what a contact sheet is drawn from."""

    report: DataReport
    classes: ClassMap
    seen: Mapping[Split, Sequence[Seen]]
    open_sample: Callable[[Split, int], Sample]
    """Reads a sample again."""


@dataclass(frozen=True)
class _Looked:
    classes: ClassMap
    seen: dict[Split, list[Seen]]
    splits: list[SplitReport]
    findings: list[Finding]
    open_sample: Callable[[Split, int], Sample]


def check_data(config: DataConfig, on_image: Observer | None = None, *, trust_code: bool = False) -> Checked:
    """Look at every split that exists; what cannot be read is in the report, and the rest is looked at.

    Args:
        config: the data set, the size that the network sees, and how images are normalised.
        on_image: told how many images of how many are done.
        trust_code: a data set of somebody's own may be imported and run.

    Raises:
        UntrustedCodeError: the data set is somebody's code, and is not trusted.
        DataError: the folder or the class list is not there, or no split can be opened.
    """
    source = SOURCES.get(config.name)
    if source is None:
        looked = _samples(config, on_image, trust_code)
    else:
        check_root(config.root, config.name, config.root_from_run)
        looked = _files(source(config), on_image)
    mean, std = comparing.normalised_by(config)
    found = looked.findings
    for split in looked.splits:
        found += findings.sample_findings(split.split, looked.seen[split.split])
        found += findings.unknown_findings(split)
        found += findings.size_findings(split, looked.seen[split.split], (config.height, config.width))
    found += comparing.label_findings(looked.splits, looked.classes, config)
    found += comparing.duplicate_findings(looked.seen)
    for split in looked.splits[:1]:  # train, which weights are fitted to
        found += comparing.normalisation_findings(split, mean, std)
    report = DataReport(
        config.name,
        config.root,
        looked.classes.names,
        size_text((config.height, config.width)),
        mean,
        std,
        tuple(looked.splits),
        tuple(sorted(found, key=lambda one: one.level, reverse=True)),  # mend before look
    )
    return Checked(report, looked.classes, looked.seen, looked.open_sample)


def _files(source: Source, on_image: Observer | None) -> _Looked:
    pairs: list[tuple[Split, Pair]] = [(files.split, pair) for files in source.splits for pair in files.pairs]
    looked: dict[Split, list[Seen]] = {files.split: [] for files in source.splits}
    with closing(in_order(lambda item: look_at_pair(item[1], source), pairs)) as seen:
        for done, one in enumerate(seen, start=1):
            looked[pairs[done - 1][0]].append(one)
            _tell(on_image, done, len(pairs))
    by_split = {files.split: files for files in source.splits}
    found = [finding for files in source.splits for finding in findings.file_findings(files)]
    found += _missing_splits(list(looked))
    reports = [
        split_report(split, ones, source.classes, len(by_split[split].images_alone), len(by_split[split].masks_alone))
        for split, ones in looked.items()
    ]

    def open_sample(split: Split, index: int) -> Sample:
        pair = by_split[split].pairs[index]
        return Sample(
            read_image(pair.image, white_level=source.white_level), torch.from_numpy(source.read(pair.mask)), pair.name
        )

    return _Looked(source.classes, looked, reports, found, open_sample)


def _samples(config: DataConfig, on_image: Observer | None, trust_code: bool) -> _Looked:
    opened, found = _open_all(config, trust_code)
    total, done = sum(map(len, opened.values())), 0
    looked: dict[Split, list[Seen]] = {split: [] for split in opened}
    for split, dataset in opened.items():
        with closing(in_order(functools.partial(look_at_sample, dataset), range(len(dataset)))) as seen:
            for one in seen:
                looked[split].append(one)
                done += 1
                _tell(on_image, done, total)
    classes = next(iter(opened.values())).classes
    reports = [split_report(split, ones, classes) for split, ones in looked.items()]
    return _Looked(classes, looked, reports, found, lambda split, index: opened[split][index])


def _open_all(config: DataConfig, trust_code: bool) -> tuple[dict[Split, SegmentationDataset], list[Finding]]:
    """Open every split; a data set need not have a test split."""
    opened: dict[Split, SegmentationDataset] = {}
    found: list[Finding] = []
    errors: list[DataError] = []
    for split in SPLITS:
        try:
            opened[split] = open_dataset(config, split, trust_code=trust_code)
        except DataError as error:
            errors.append(error)
            found.append(Finding("look" if split == "test" else "mend", "cannot_be_opened", split, str(error)))
    if not opened:
        raise errors[0]
    return opened, found


def _missing_splits(there: Sequence[Split]) -> Iterator[Finding]:
    for split in ("train", "val"):
        if split not in there:
            text = f"There is no {split} split, and training needs one. Add {split}/, laid out as the others."
            yield Finding("mend", "missing_split", split, text)


def _tell(on_image: Observer | None, done: int, total: int) -> None:
    if on_image is not None:
        on_image(done, total)
