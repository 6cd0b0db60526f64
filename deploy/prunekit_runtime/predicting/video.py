"""Videos and cameras by OpenCV: frames in; masks out as numbered PNGs, drawings as a video.

H W the frames' size.
"""

import contextlib
import importlib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from prunekit_runtime.errors import PictureError, PictureUsageError
from prunekit_runtime.pictures.png_writer import encode_mask
from prunekit_runtime.pictures.writing import replacing, write_whole
from prunekit_runtime.predicting.drawing import Style, draw
from prunekit_runtime.predicting.job import target
from prunekit_runtime.predicting.labelling import Item, Labelled
from prunekit_runtime.predicting.stopwatch import Stopwatch
from prunekit_runtime.preprocessing import ByteArray
from prunekit_runtime.spelling import spelled

SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
WRITTEN = ".mp4"
_CODEC = "mp4v"  # MPEG-4 part 2, which every build of OpenCV writes
USUAL_FPS = 25.0  # where a file does not say
DIGITS = 6  # of a frame's number
_MISSING = 0.02  # of the frames that a header counts, which is an estimate in some formats
_INSTALL = 'On a Jetson: sudo apt install python3-opencv; elsewhere: pip install "prunekit[video]"'


def require_opencv() -> Any:
    """Return the module cv2.

    Raises:
        PictureError: it is not installed, or does not load.
    """
    try:
        return importlib.import_module("cv2")
    except ModuleNotFoundError as error:
        if error.name != "cv2":
            raise PictureError(f"OpenCV is installed but incomplete: {error}. {_INSTALL}") from error
        raise PictureUsageError(
            f"Videos and cameras take OpenCV, the Python package cv2, which is not installed. {_INSTALL}"
        ) from None
    except ImportError as error:  # a library below it is missing: the loader's words are the remedy
        raise PictureError(f"OpenCV is installed but does not load: {error}. {_INSTALL}") from error


class Video:
    """A video that is being read, frame by frame.

    Raises:
        PictureError: OpenCV is not installed, or the file is no video that it reads.
    """

    def __init__(self, path: Path) -> None:
        opencv = require_opencv()
        self.path = path
        self._opencv = opencv
        self._capture: Any = opencv.VideoCapture(str(path))
        if not self._capture.isOpened():
            self.close()
            raise PictureError(f"{path} is not a video that OpenCV can read. Convert it to MP4 with H.264.")
        self.frames = max(0, int(self._capture.get(opencv.CAP_PROP_FRAME_COUNT)))
        """As the header counts them; 0 where it does not."""
        fps = float(self._capture.get(opencv.CAP_PROP_FPS))
        self.fps = fps if 0 < fps <= 1000 else USUAL_FPS

    def __enter__(self) -> "Video":
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
            yield Item(stem / f"{count:0{DIGITS}d}", self._read, f"{self.path}, frame {count}")
        if count < self.frames * (1 - _MISSING) - 1 or not count:
            yield Item(stem, _cut_off(self.path, count, self.frames), str(self.path))

    def _read(self) -> ByteArray:
        read, frame_HW3 = self._capture.retrieve()
        if not read:
            raise PictureError("The frame is damaged. Repair the video, or convert it again.")
        return np.ascontiguousarray(frame_HW3[..., ::-1])  # OpenCV gives BGR


def _cut_off(path: Path, count: int, announced: int) -> Callable[[], ByteArray]:
    """Return the reader of what is not there, so that it is said and counted like any other picture that fails."""

    def read() -> ByteArray:
        raise PictureError(f"{path} ends after {count} of {announced} frames: it is damaged or cut off. Copy it again.")

    return read


@contextlib.contextmanager
def writing(
    out_dir: Path, kinds: tuple[str, ...], style: Style, stem: PurePath, fps: float
) -> Generator[Callable[[Labelled], None], None, None]:
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
    for path in folder.glob("[0-9]" * DIGITS + ".png"):
        if path.stem not in numbers:
            path.unlink()


def is_video(path: Path) -> bool:
    """Tell by the name whether a file is a video."""
    return path.suffix.lower() in SUFFIXES


class _Film:
    """A video that is being written; it has its size from the first frame."""

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path, fps
        self._opencv: Any = require_opencv()
        self._writer: Any = None

    @classmethod
    @contextlib.contextmanager
    def at(cls, path: Path, fps: float) -> Generator["_Film", None, None]:
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
            raise PictureError(f"This OpenCV writes no {_CODEC} video. Ask for masks alone: {masks}")
        self._writer.write(np.ascontiguousarray(frame_HW3[:height, :width, ::-1]))

    def is_empty(self) -> bool:
        return self._writer is None

    def close(self) -> None:
        if self._writer is not None:
            self._writer.release()


class _NoFrames(Exception):  # noqa: N818  no error: nothing is to be written
    """A film ended without a frame."""
