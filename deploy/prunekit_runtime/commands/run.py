"""`python3 -m prunekit_runtime run`: pictures, videos or a camera through a bundle's model, to masks and drawings."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prunekit_runtime.commands.bundled import Opened, add_model_options, opened, results_folder
from prunekit_runtime.commands.numbers import positive
from prunekit_runtime.commands.stepline import Complaints, StepLine
from prunekit_runtime.errors import PictureUsageError
from prunekit_runtime.pictures.reading import SUFFIXES
from prunekit_runtime.pictures.writing import write_whole
from prunekit_runtime.predicting import video
from prunekit_runtime.predicting.drawing import KINDS, Style
from prunekit_runtime.predicting.job import Tally, chosen_kinds
from prunekit_runtime.predicting.naming import unique_stems
from prunekit_runtime.predicting.sources import Source, find_sources
from prunekit_runtime.streaming import MAX_THREADS, Inputs, Job, Output, StreamReport, usual_threads
from prunekit_runtime.text import printable

REPORT = "run.json"
OUT = "run"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments and options to a parser."""
    parser.set_defaults(command=command)
    parser.add_argument(
        "sources",
        type=Path,
        nargs="*",
        metavar="source",
        help="picture (PNG, PPM; JPEG with Pillow or OpenCV), video (with OpenCV), folder or pattern",
    )
    add_model_options(parser)
    parser.add_argument(
        "--camera", metavar="CAMERA", help="number, device such as /dev/video0, or GStreamer pipeline (with OpenCV)"
    )
    parser.add_argument("--frames", type=positive, help="end after so many frames of the camera (default: Ctrl-C)")
    parser.add_argument("--out", type=Path, help=f"folder to write to (default: reports/{OUT} of the bundle)")
    parser.add_argument("--as", dest="kinds", action="append", default=[], metavar="KIND", help=" | ".join(KINDS))
    parser.add_argument("--alpha", type=float, default=0.5, help="share of the colour in an overlay (0.5)")
    parser.add_argument(
        "--workers", type=_workers, help="threads that read, and as many that write (default: the cores, at most 4)"
    )
    parser.add_argument("--overwrite", action="store_true", help="write over results that are there already")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def command(options: argparse.Namespace) -> int:
    """Label all sources; 1 if a picture could not be labelled."""
    _check(options)
    with opened(options) as model:
        job = _job(model, options)
        progress = _Progress()
        job.on_item = progress
        try:
            reports = list(job.streams())
        except BaseException:
            progress.close()
            if job.total.written:
                sys.stderr.write(printable(f"{job.total.written} pictures are done and lie in {job.output.out_dir}.\n"))
            raise
        progress.close()
    report = _as_json(model, job, reports)
    write_whole(model.bundle.reports_dir / REPORT, (json.dumps(report, indent=1) + "\n").encode())
    sys.stdout.write(
        (json.dumps(report, indent=1) if options.json else printable(_as_text(model, job, reports))) + "\n"
    )
    return 1 if job.total.failed else 0


class _Progress:
    """Shows how far it is, and says why a picture has no labels as soon as that is known."""

    def __init__(self) -> None:
        self._line = StepLine()
        self._tally: "Tally | None" = None
        self._complain = Complaints(self._line)

    def __call__(self, tally: Tally, passed_s: float, expected: int) -> None:
        if tally is not self._tally:  # of the next source
            self._tally, self._complain = tally, Complaints(self._line)
        self._complain(tally)
        if passed_s > 0:
            of = f"/{expected}" if expected else ""
            self._line(f"{tally.done}{of} pictures, {tally.done / passed_s:.1f} images/s")

    def close(self) -> None:
        """Take the line away."""
        self._line.close()


def _check(options: argparse.Namespace) -> None:
    if bool(options.sources) == (options.camera is not None):
        raise PictureUsageError("Name pictures, videos, a folder or a pattern, or else a camera: --camera 0")
    if options.frames is not None and options.camera is None:
        raise PictureUsageError("--frames ends a camera, and files end by themselves. Leave it out.")


def _job(model: Opened, options: argparse.Namespace) -> Job:
    """Find everything, and refuse what cannot be done before anything is written."""
    bundle = model.bundle
    out_dir = results_folder(bundle, options.out, OUT)
    output = Output(out_dir, chosen_kinds(options.kinds), Style(bundle.classes.palette, options.alpha))
    inputs = _inputs(options, out_dir)
    output.refuse_taken(inputs, overwrite=options.overwrite)
    return Job(model.model, len(bundle.classes), inputs, output, options.workers or usual_threads())


def _inputs(options: argparse.Namespace, out_dir: Path) -> Inputs:
    if options.camera is not None:
        return Inputs((), (), options.camera, options.frames)
    sources: Sequence[Source] = find_sources(options.sources, SUFFIXES + video.SUFFIXES, leave_out=out_dir).sources
    named = list(zip(sources, unique_stems([source.name for source in sources]), strict=True))
    films = [pair for pair in named if video.is_video(pair[0].path)]
    if films:
        video.require_opencv()
    return Inputs([pair for pair in named if not video.is_video(pair[0].path)], films)


def _as_json(model: Opened, job: Job, reports: Sequence[StreamReport]) -> dict[str, Any]:
    names = model.bundle.classes.names
    return {
        "bundle": model.bundle.name,
        "model": model.entry.name,
        "ran_on": model.model.name,
        "out_dir": str(job.output.out_dir),
        "kinds": job.output.kinds,
        "classes": names,
        "pixels": [int(count) for count in job.total.pixels[: len(names)]],
        "streams": [each.to_json() for each in reports],
    }


def _as_text(model: Opened, job: Job, reports: Sequence[StreamReport]) -> str:
    head = f"{model.entry.name} on {model.model.name}: {', '.join(job.output.kinds)} in {job.output.out_dir}"
    return "\n".join((head, *(each.to_text() for each in reports)))


def _workers(text: str) -> int:
    value = positive(text)
    if value > MAX_THREADS:
        raise argparse.ArgumentTypeError(f"{value} is above {MAX_THREADS}")
    return value
