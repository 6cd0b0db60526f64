"""All sources of one run, one after the other: the pictures together, each video, a camera."""

import contextlib
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, Optional

from prunekit_runtime.errors import PictureError
from prunekit_runtime.predicting import video
from prunekit_runtime.predicting.drawing import Style
from prunekit_runtime.predicting.items import picture_item
from prunekit_runtime.predicting.job import Tally, target, write_pictures
from prunekit_runtime.predicting.labelling import Item
from prunekit_runtime.predicting.naming import refuse_existing
from prunekit_runtime.predicting.sources import Source
from prunekit_runtime.predicting.stopwatch import Stopwatch
from prunekit_runtime.streaming.camera import Camera
from prunekit_runtime.streaming.pipeline import Model, Pipeline, Write
from prunekit_runtime.streaming.report import StreamReport, film_stages, picture_stages, stream_report

CAMERA_STEM = PurePath("camera")
Named = Sequence[tuple[Source, PurePath]]
OnItem = Callable[[Tally, float, int], None]
"""Told how far it is, the seconds passed, and how many there are, 0 where that is not known."""


@dataclass(frozen=True)
class Inputs:
    """What is to be labelled, and the path without suffix of each one's results."""

    pictures: Named
    films: Named
    camera: Optional[str] = None
    frames: Optional[int] = None
    """After which the camera ends; None is never."""


@dataclass(frozen=True)
class Output:
    """Where results go, and what they are."""

    out_dir: Path
    kinds: tuple[str, ...]
    style: Style

    def refuse_taken(self, inputs: Inputs, *, overwrite: bool) -> None:
        """Refuse to write over a picture that is read, or over anything unless `overwrite` says so.

        Raises:
            PictureUsageError: some names are taken.
        """
        films = [stem for _, stem in inputs.films] + [CAMERA_STEM] * (inputs.camera is not None)
        targets = [target(self.out_dir, kind, stem) for kind in self.kinds for _, stem in inputs.pictures]
        for kind in self.kinds:  # masks of a film are numbered pictures in a folder
            suffix = "" if kind == "mask" else video.WRITTEN
            targets += [target(self.out_dir, kind, stem, suffix) for stem in films]
        sources = [source.path for source, _ in (*inputs.pictures, *inputs.films)]
        refuse_existing(targets, sources, overwrite=overwrite)


@dataclass
class Job:
    """A model and what it is to label; counts over all sources."""

    model: Model
    classes: int
    inputs: Inputs
    output: Output
    threads: int
    """That read, and as many that write."""
    on_item: OnItem = lambda *_: None
    total: Tally = field(default_factory=Tally)

    def streams(self) -> Generator[StreamReport, None, None]:
        """Do all of it, and yield how each source went.

        Raises:
            OSError: nothing more can be written, as on a full disk.
            PrunekitError: the model and the classes do not go together, or the camera is gone.
        """
        inputs = self.inputs
        if inputs.pictures:
            yield self._pictures([picture_item(source, stem) for source, stem in inputs.pictures])
        for source, stem in inputs.films:
            yield self._film(source.path, stem)
        if inputs.camera is not None:
            yield self._camera(inputs.camera)

    def _pictures(self, items: list[Item]) -> StreamReport:
        tally, stopwatch = Tally(), Stopwatch()
        write = write_pictures(self.output.out_dir, self.output.kinds, self.output.style)
        self._stream(items, write, tally, stopwatch, writers=self.threads, expected=len(items))
        shown = f"{len(items)} pictures" if len(items) > 1 else items[0].shown
        return stream_report(shown, picture_stages(self.threads, self.threads), tally, stopwatch)

    def _film(self, path: Path, stem: PurePath) -> StreamReport:
        try:
            film = video.Video(path)
        except PictureError as error:
            return self._refused(str(path), error)
        tally, stopwatch = Tally(), Stopwatch()
        with film, self._film_writer(stem, film.fps) as write:
            frames = film.items(stem, stopwatch)
            self._stream(frames, write, tally, stopwatch, expected=film.frames, eager=True)
        return stream_report(str(path), film_stages(self.threads, 1), tally, stopwatch)

    def _camera(self, name: str) -> StreamReport:
        tally, stopwatch = Tally(), Stopwatch()
        most = self.inputs.frames
        with Camera(name) as camera:
            with self._film_writer(CAMERA_STEM, camera.fps) as write, _until_interrupted(most):
                frames = camera.items(CAMERA_STEM, stopwatch, most=most)
                self._stream(frames, write, tally, stopwatch, expected=most or 0, live=True)
            dropped = camera.dropped
        return stream_report(f"camera {name}", film_stages(self.threads, 1), tally, stopwatch, dropped=dropped)

    def _film_writer(self, stem: PurePath, fps: float) -> "contextlib.AbstractContextManager[Write]":
        return video.writing(self.output.out_dir, self.output.kinds, self.output.style, stem, fps)

    def _stream(
        self,
        items: Iterable[Item],
        write: Write,
        tally: Tally,
        stopwatch: Stopwatch,
        *,
        expected: int,
        writers: int = 1,
        live: bool = False,
        eager: bool = False,
    ) -> None:
        pipeline = Pipeline(self.model, self.classes, self.threads, writers, live)
        try:
            pipeline.run(
                ready(items, stopwatch) if eager else items,
                write,
                tally=tally,
                stopwatch=stopwatch,
                on_item=lambda tally: self.on_item(tally, stopwatch.total_s(), expected),
            )
        finally:
            self._add(tally)

    def _add(self, tally: Tally) -> None:
        self.total.written += tally.written
        self.total.failed += tally.failed
        self.total.pixels += tally.pixels

    def _refused(self, shown: str, error: PictureError) -> StreamReport:
        tally, stopwatch = Tally(failed=[(shown, str(error))]), Stopwatch()
        self.on_item(tally, 0.0, 0)
        self._add(tally)
        return stream_report(shown, (), tally, stopwatch)


def ready(items: Iterable[Item], stopwatch: Stopwatch) -> Generator[Item, None, None]:
    """Yield items that are read already: a video gives one frame after the other."""
    for item in items:
        try:
            with stopwatch.timing("decoding"):
                picture_HW3 = item.read()
        except Exception as error:
            yield Item(item.stem, _raising(error), item.shown)
        else:
            yield Item(item.stem, _giving(picture_HW3), item.shown)


def _giving(value: Any) -> Callable[[], Any]:
    return lambda: value


def _raising(error: Exception) -> Callable[[], Any]:
    def read() -> Any:
        raise error

    return read


@contextlib.contextmanager
def _until_interrupted(frames: Optional[int]) -> Generator[None, None, None]:
    """Take Ctrl-C for the end of a camera that has no other."""
    try:
        yield
    except KeyboardInterrupt:
        if frames is not None:
            raise
