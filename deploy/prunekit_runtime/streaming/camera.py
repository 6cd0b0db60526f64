"""A camera by OpenCV: always its newest frame, whatever the model takes, so that labels are of now."""

import threading
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any, Optional

import numpy as np

from prunekit_runtime.errors import PictureError, PictureUsageError
from prunekit_runtime.predicting.labelling import Item
from prunekit_runtime.predicting.stopwatch import Stopwatch
from prunekit_runtime.predicting.video import DIGITS, USUAL_FPS, require_opencv
from prunekit_runtime.preprocessing import ByteArray

_PIPELINE = " ! "  # between the elements of a GStreamer pipeline
_SILENT_S = 10.0  # a camera that gives nothing for so long is taken to be gone


class Camera:
    """A camera that is being read by a thread of its own, which drops frames that nobody took.

    Args:
        name: a number, a device such as /dev/video0, or a GStreamer pipeline that ends in appsink.

    Raises:
        PictureError: OpenCV is not installed, or the camera does not open.
    """

    def __init__(self, name: str) -> None:
        opencv = require_opencv()
        self.name = name
        if _PIPELINE in name:
            self._capture: Any = opencv.VideoCapture(name, opencv.CAP_GSTREAMER)
        else:
            self._capture = opencv.VideoCapture(int(name) if name.isdecimal() else name)
        if not self._capture.isOpened():
            self._capture.release()
            raise PictureUsageError(
                f"OpenCV opens no camera {name!r}. Give a number (0 is the first), a device such as /dev/video0, or a "
                "GStreamer pipeline that ends in appsink, for which OpenCV has to be built with GStreamer."
            )
        fps = float(self._capture.get(opencv.CAP_PROP_FPS))
        self.fps = fps if 0 < fps <= 1000 else USUAL_FPS
        self.dropped = 0
        """Frames that came while the model was busy with others."""
        self._changed = threading.Condition()
        self._newest_HW3: Optional[ByteArray] = None
        self._ended = self._closed = False
        self._thread = threading.Thread(target=self._watch, name="camera", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Camera":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the camera."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(_SILENT_S)

    def items(self, stem: PurePath, stopwatch: Stopwatch, *, most: Optional[int] = None) -> Iterator[Item]:
        """Yield the newest frame each time, at most `most`, under the numbers from 000001; ends where the camera does.

        Raises:
            PictureError: the camera gives nothing.
        """
        count = 0
        while most is None or count < most:
            with stopwatch.timing("decoding"):
                frame_HW3 = self._taken()
            if frame_HW3 is None:
                return
            count += 1
            yield Item(stem / f"{count:0{DIGITS}d}", _giving(frame_HW3), f"camera {self.name}, frame {count}")

    def _taken(self) -> Optional[ByteArray]:
        with self._changed:
            came = self._changed.wait_for(
                lambda: self._newest_HW3 is not None or self._ended or self._closed, _SILENT_S
            )
            if not came:
                raise PictureError(f"Camera {self.name} has given no frame for {_SILENT_S:.0f} s. Check its cable.")
            frame_HW3, self._newest_HW3 = self._newest_HW3, None
        return frame_HW3

    def _watch(self) -> None:
        while not self._closed:
            came, frame_HW3 = self._capture.read()
            with self._changed:
                if came and not self._closed:
                    self.dropped += self._newest_HW3 is not None
                    self._newest_HW3 = np.ascontiguousarray(frame_HW3[..., ::-1])  # OpenCV gives BGR
                self._ended = not came
                self._changed.notify_all()
            if not came:
                break
        self._capture.release()


def _giving(frame_HW3: ByteArray) -> Any:
    return lambda: frame_HW3
