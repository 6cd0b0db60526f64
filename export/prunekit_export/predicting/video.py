"""Videos by OpenCV: frames in; masks out as numbered PNGs, drawings as a video.

H W the frames' size.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from prunekit_export.errors import ExportError
from prunekit_export.require import require
from prunekit_runtime.pictures.png_writer import encode_mask
from prunekit_runtime.pictures.writing import replacing, write_whole
from prunekit_runtime.predicting.drawing import Style, draw
from prunekit_runtime.predicting.job import target
from prunekit_runtime.predicting.labelling import Item
from prunekit_runtime.spelling import spelled

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path, PurePath

    from prunekit_runtime.predicting.labelling import Labelled
    from prunekit_runtime.predicting.stopwatch import Stopwatch
    from prunekit_runtime.preprocessing import ByteArray

SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
WRITTEN = ".mp4"
_CODEC = "mp4v"  # MPEG-4 part 2, which every build of OpenCV writes
_USUAL_FPS = 25.0  # where a file does not say
_DIGITS = 6  # of a frame's number
_MISSING = 0.02  # of the frames that a header counts, which is an estimate in some formats


class Video:
    """A video that is being read, frame by frame.

    Raises:
        ExportError: OpenCV is not installed, or the file is no video that it reads.
    """

    def __init__(self, path: Path) -> None:
        opencv: Any = require("cv2")
        self.path = path
        self._opencv = opencv
        self._capture: Any = opencv.VideoCapture(str(path))
        if not self._capture.isOpened():
            self.close()
            raise ExportError(f"{path} is not a video that OpenCV can read. Convert it to MP4 with H.264.")
        self.frames = max(0, int(self._capture.get(opencv.CAP_PROP_FRAME_COUNT)))
        """As the header counts them; 0 where it does not."""
        fps = float(self._capture.get(opencv.CAP_PROP_FPS))
        self.fps = fps if 0 < fps <= 1000 else _USUAL_FPS

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._capture.release()

    def items(self, stem: PurePath, stopwatch: Stopwatch) -> Iterator[Item]:
        """Yield the frames, each to be read before the next is asked for, under the numbers from 000001."""
        count = 0
        while True:
            with stopwatch.timing("decoding"):
                more = self._capture.grab()
            if not more:
                break
            count += 1
            yield Item(stem / f"{count:0{_DIGITS}d}", self._read, f"{self.path}, frame {count}")
        if count < self.frames * (1 - _MISSING) - 1 or not count:
            yield Item(stem, _cut_off(self.path, count, self.frames), str(self.path))

    def _read(self) -> ByteArray:
        read, frame_HW3 = self._capture.retrieve()
        if not read:
            raise ExportError("The frame is damaged. Repair the video, or convert it again.")
        return np.ascontiguousarray(frame_HW3[..., ::-1])  # OpenCV gives BGR


def _cut_off(path: Path, count: int, announced: int) -> Callable[[], ByteArray]:
    """Return the reader of what is not there, so that it is said and counted like any other picture that fails."""

    def read() -> ByteArray:
        raise ExportError(f"{path} ends after {count} of {announced} frames: it is damaged or cut off. Copy it again.")

    return read


@contextlib.contextmanager
def writing(
    out_dir: Path, kinds: tuple[str, ...], style: Style, stem: PurePath, fps: float
) -> Generator[Callable[[Labelled], None]]:
    """Yield what writes a labelled frame; the drawn videos take their names when the block ends well."""
    numbers: set[str] = set()
    with contextlib.ExitStack() as stack:
        drawn = {
            kind: stack.enter_context(_Film.at(target(out_dir, kind, stem, WRITTEN), fps))
            for kind in kinds
            if kind != "mask"
        }

        def write(labelled: Labelled) -> None:
            if "mask" in kinds:
                content = encode_mask(labelled.labels_HW, style.palette)
                write_whole(target(out_dir, "mask", labelled.item.stem), content)
                numbers.add(labelled.item.stem.name)
            for kind, film in drawn.items():
                film.add(draw(kind, labelled.image_HW3, labelled.labels_HW, style))

        yield write
    if "mask" in kinds:
        _clear_older(out_dir / "mask" / stem, numbers)


def _clear_older(folder: Path, numbers: set[str]) -> None:
    """Remove what a longer video left where this one's masks were written over its own."""
    for path in folder.glob("[0-9]" * _DIGITS + ".png"):
        if path.stem not in numbers:
            path.unlink()


class _Film:
    """A video that is being written; it has its size from the first frame."""

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path, fps
        self._opencv: Any = require("cv2")
        self._writer: Any = None

    @classmethod
    @contextlib.contextmanager
    def at(cls, path: Path, fps: float) -> Generator[_Film]:
        """Yield a film that takes the name `path` when the block ends well and it has frames."""
        with contextlib.suppress(_NoFrames), replacing(path) as temporary:
            film = cls(temporary, fps)
            try:
                yield film
            finally:
                film.close()
            if film.is_empty():
                raise _NoFrames

    def add(self, frame_HW3: ByteArray) -> None:
        height, width = (side - side % 2 for side in frame_HW3.shape[:2])  # the codec takes even sizes
        if self._writer is None:
            code = self._opencv.VideoWriter_fourcc(*_CODEC)
            self._writer = self._opencv.VideoWriter(str(self._path), code, self._fps, (width, height))
        if not self._writer.isOpened():
            masks = spelled("--as mask", 'kinds=["mask"]')
            raise ExportError(f"This OpenCV writes no {_CODEC} video. Ask for masks alone: {masks}")
        self._writer.write(np.ascontiguousarray(frame_HW3[:height, :width, ::-1]))

    def is_empty(self) -> bool:
        return self._writer is None

    def close(self) -> None:
        if self._writer is not None:
            self._writer.release()


class _NoFrames(Exception):  # noqa: N818  no error: nothing is to be written
    """A film ended without a frame."""
