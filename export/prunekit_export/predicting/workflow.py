"""`prunekit predict` without the command line: pictures and videos in, masks and drawings out."""

from __future__ import annotations

import functools
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunekit.data.images import IMAGE_SUFFIXES, read_image
from prunekit.pictures.legend import encode_legend
from prunekit_export.running import contract_for, open_runner
from prunekit_runtime.classes import MAX_CLASSES, Classes, classes_beside, numbered
from prunekit_runtime.errors import PictureError
from prunekit_runtime.pictures.writing import write_whole
from prunekit_runtime.predicting import video
from prunekit_runtime.predicting.drawing import Style
from prunekit_runtime.predicting.job import (
    DEFAULT_KINDS,
    PredictReport,
    Tally,
    report,
    run_items,
    target,
    write_pictures,
)
from prunekit_runtime.predicting.labelling import Item, Labeller, batch_size
from prunekit_runtime.predicting.naming import refuse_existing, unique_stems
from prunekit_runtime.predicting.sources import Source, find_sources
from prunekit_runtime.predicting.stopwatch import Stopwatch
from prunekit_runtime.predicting.video import Video

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path, PurePath

    from prunekit_runtime.predicting.labelling import Labelled
    from prunekit_runtime.preprocessing import ByteArray

LEGEND = "legend.png"


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """How pictures are labelled and what is written."""

    kinds: tuple[str, ...] = DEFAULT_KINDS
    """Of mask, overlay, contour and side-by-side."""
    alpha: float = 0.5
    """How much of an overlay is colour."""
    device: str = "auto"
    """For a run, auto is the GPU where torch sees one; for an ONNX file the CPU; an engine has its GPU."""
    threads: int = 0
    """CPU threads; 0 leaves the choice to the library."""
    batch_size: int | None = None
    """Pictures a run; None is what the model takes, or 1."""
    overwrite: bool = False
    trust_code: bool = False
    """Run the python: factory of a run that others made."""


@dataclass(frozen=True)
class Inputs:
    """What was found, and the path without suffix of each one's results."""

    pictures: tuple[tuple[Source, PurePath], ...]
    videos: tuple[tuple[Source, PurePath], ...]
    others: int
    """Files in folders that are neither."""


def find_inputs(arguments: Sequence[Path], *, leave_out: Path | None = None) -> Inputs:
    """Find pictures and videos: files, folders and patterns, without what lies in `leave_out`, where results go.

    Raises:
        PictureError: an argument is not there, or holds neither; or there are videos, and no OpenCV.
    """
    found = find_sources(arguments, IMAGE_SUFFIXES + video.SUFFIXES, leave_out=leave_out)
    named = list(zip(found.sources, unique_stems([source.name for source in found.sources]), strict=True))
    films = [pair for pair in named if _is_video(pair[0])]
    if films:
        video.require_opencv()
    return Inputs(tuple(pair for pair in named if not _is_video(pair[0])), tuple(films), found.others)


def predict(
    model: Path,
    inputs: Inputs,
    out_dir: Path,
    config: PredictConfig,
    *,
    tally: Tally | None = None,
    on_item: Callable[[Tally], None] | None = None,
) -> PredictReport:
    """Label pictures at their own size, with the preprocessing that was saved with the model, and write the results.

    Each kind has a folder in `out_dir`, where results keep the names and folders of their pictures. Pictures that EXIF
    data says are rotated are turned upright, as viewers show them. What cannot be read is in the report, and the others
    are done.

    Args:
        model: a run, an ONNX file or an engine.
        inputs: from `find_inputs`.
        out_dir: made where it is not there.
        config: how.
        tally: kept up to date, for a caller who stops on the way.
        on_item: told after each picture or frame.

    Raises:
        PrunekitError: the model cannot be run, or results are there already; nothing is written then.
        OSError: nothing more can be written.
    """
    classes, tally = _classes_of(model), tally or Tally()
    style = Style((classes or numbered(MAX_CLASSES)).palette, config.alpha)
    _refuse_taken(inputs, out_dir, config, classes)
    with open_runner(
        model,
        provider=_provider(model, config.device),
        threads=config.threads,
        trust_code=config.trust_code,
        graph=None,
    ) as runner:
        labeller = Labeller(
            runner,
            contract_for(runner, model),
            batch_size(runner, config.batch_size),
            None if classes is None else len(classes),
        )
        stopwatch = Stopwatch()
        run = functools.partial(run_items, labeller, tally=tally, stopwatch=stopwatch, on_item=on_item)
        try:
            _run_all(inputs, out_dir, config.kinds, style, run, stopwatch)
        finally:  # what is done when Ctrl-C ends the rest has its legend too
            if tally.written:
                write_whole(out_dir / LEGEND, encode_legend(classes or numbered(tally.classes)))
        return report(model, labeller, classes, out_dir, config.kinds, tally, stopwatch)


def count_frames(inputs: Inputs) -> int:
    """Return how many pictures there are, frames of videos included as far as their headers count them."""
    total = len(inputs.pictures)
    for source, _ in inputs.videos:
        with suppress(PictureError), Video(source.path) as opened:  # what is wrong with it is said when it is its turn
            total += opened.frames
    return total


def _run_all(
    inputs: Inputs,
    out_dir: Path,
    kinds: tuple[str, ...],
    style: Style,
    run: Callable[..., None],
    stopwatch: Stopwatch,
) -> None:
    items = [Item(stem, functools.partial(_read, source.path), str(source.path)) for source, stem in inputs.pictures]
    run(items, write_pictures(out_dir, kinds, style))
    for source, stem in inputs.videos:
        _film(source, stem, out_dir, kinds, style, run, stopwatch)


def _film(
    source: Source,
    stem: PurePath,
    out_dir: Path,
    kinds: tuple[str, ...],
    style: Style,
    run: Callable[..., None],
    stopwatch: Stopwatch,
) -> None:
    try:
        opened = Video(source.path)
    except PictureError as error:
        run([Item(stem, functools.partial(_refuse, error), str(source.path))], _write_nothing)
        return
    with opened, video.writing(out_dir, kinds, style, stem, opened.fps) as write:
        run(opened.items(stem, stopwatch), write)


def _refuse(error: PictureError) -> ByteArray:
    raise error


def _write_nothing(_: Labelled) -> None:
    """Stand for a writer where nothing can be read."""


def _read(path: Path) -> ByteArray:
    return read_image(path, turn=True).permute(1, 2, 0).contiguous().numpy()


def _is_video(source: Source) -> bool:
    return source.path.suffix.lower() in video.SUFFIXES


def _classes_of(model: Path) -> Classes | None:
    if not model.is_dir():
        return classes_beside(model)
    from prunekit.modelfile import read_card
    from prunekit.run import open_run

    card = read_card(open_run(model))
    return Classes(card.class_names, card.palette)


def _provider(model: Path, device: str) -> str | None:
    """Return what `open_runner` takes for a device."""
    if not model.is_dir():
        return None if device == "auto" else device
    if device != "auto":
        return device
    from prunekit.training.device import resolve_device

    return resolve_device("auto").type


def _refuse_taken(inputs: Inputs, out_dir: Path, config: PredictConfig, classes: Classes | None) -> None:
    targets = [target(out_dir, kind, stem) for kind in config.kinds for _, stem in inputs.pictures]
    for kind in config.kinds:
        frames = kind == "mask"
        targets += [
            out_dir / kind / stem if frames else target(out_dir, kind, stem, video.WRITTEN) for _, stem in inputs.videos
        ]
    legend = out_dir / LEGEND
    if classes is not None and legend.is_file() and legend.read_bytes() != encode_legend(classes):
        targets.append(legend)
    sources = [source.path for source, _ in (*inputs.pictures, *inputs.videos)]
    refuse_existing(targets, sources, overwrite=config.overwrite)
