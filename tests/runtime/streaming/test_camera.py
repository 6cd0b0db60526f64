"""A camera made of arrays: the newest frame is taken, others are counted, and a dead camera is told."""

import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pytest

from prunekit_runtime.__main__ import main
from prunekit_runtime.errors import PictureError
from prunekit_runtime.predicting.stopwatch import Stopwatch
from prunekit_runtime.streaming import camera as camera_module
from prunekit_runtime.streaming.camera import Camera


class Capture:
    """Gives frames 1, 2, ... whenever `step` is set, and remembers that it was let go."""

    opened: "list[Any]"
    frames = 5

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.number = 0
        self.step = threading.Semaphore(0)
        self.waits = threading.Event()
        self.released = False
        type(self).opened.append(self)

    def isOpened(self) -> bool:
        return self.arguments[0] != 9

    def get(self, _: int) -> float:
        return 30.0

    def read(self) -> tuple[bool, Any]:
        self.waits.set()
        self.step.acquire()
        self.number += 1
        if self.number > self.frames:
            return False, None
        return True, np.full((4, 6, 3), self.number, dtype=np.uint8)

    def release(self) -> None:
        self.released = True


@pytest.fixture
def captures(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Capture]]:
    Capture.opened = []
    module = types.SimpleNamespace(VideoCapture=Capture, CAP_GSTREAMER=1800, CAP_PROP_FPS=5)
    monkeypatch.setitem(sys.modules, "cv2", module)  # pyright: ignore[reportArgumentType]  a stand-in
    yield Capture.opened
    for capture in Capture.opened:
        capture.step.release(100)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("0", (0,)),
        ("/dev/video2", ("/dev/video2",)),
        ("nvarguscamerasrc ! appsink", ("nvarguscamerasrc ! appsink", 1800)),
    ],
)
def test_a_camera_is_a_number_a_device_or_a_pipeline(captures: list[Capture], name: str, arguments: Any) -> None:
    with Camera(name) as camera:
        assert captures[0].arguments == arguments
        assert camera.fps == 30
        captures[0].step.release(100)
    assert captures[0].released


def test_the_newest_frame_is_taken_and_older_ones_are_counted(captures: list[Capture]) -> None:
    with Camera("0") as camera:
        captures[0].step.release(6)  # five frames, and the end
        camera._thread.join(20)
        frames = [item.read()[0, 0, 0] for item in camera.items(PurePath("camera"), Stopwatch())]
    assert frames == [5]
    assert camera.dropped == 4


def test_a_camera_that_does_not_open_is_one_error(captures: list[Capture]) -> None:
    with pytest.raises(PictureError, match="opens no camera '9'"):
        Camera("9")


def test_a_camera_that_gives_nothing_is_told(captures: list[Capture], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_module, "_SILENT_S", 0.05)
    with Camera("0") as camera, pytest.raises(PictureError, match="no frame"):
        next(iter(camera.items(PurePath("camera"), Stopwatch())))


def test_frames_of_a_camera_become_masks(
    captures: list[Capture], runnable: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--bundle", str(runnable), "--backend", "ort", "--model", "labels", "--as", "mask"]
    monkeypatch.setattr(Capture, "read", lambda *_: (True, np.full((4, 6, 3), 7, dtype=np.uint8)))
    assert main(["run", *arguments, "--camera", "0", "--frames", "3"]) == 0
    masks = sorted(path.name for path in (runnable / "reports/run/mask/camera").iterdir())
    assert masks == ["000001.png", "000002.png", "000003.png"]
    assert "camera 0: 3 written" in capsys.readouterr().out
