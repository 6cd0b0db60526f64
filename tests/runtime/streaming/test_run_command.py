"""`run` from end to end, with ONNX Runtime: the same files as `predict`, and nothing else in the bundle."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prunekit_runtime.__main__ import main
from prunekit_runtime.bundle import open_bundle
from prunekit_runtime.pictures.png_writer import encode_picture

Run = Callable[..., int]


@pytest.fixture
def run(runnable: Path) -> Run:
    return lambda *arguments: main(["run", "--bundle", str(runnable), "--backend", "ort", *map(str, arguments)])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Write pictures of several sizes, and one that is cut off."""
    draw = np.random.default_rng(0)
    for name in ("a", "deep/b", "c", "d"):
        path = tmp_path / "photos" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width = draw.integers(4, 20, 2)
        path.write_bytes(encode_picture(draw.integers(0, 256, (height, width, 3), dtype=np.uint8)))
    (tmp_path / "photos/c.png").write_bytes((tmp_path / "photos/d.png").read_bytes()[:-20])
    return tmp_path / "photos"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("graph", ["labels", "logits"])
def test_it_writes_what_predict_writes_of_the_same_model(
    run: Run, runnable: Path, photos: Path, tmp_path: Path, graph: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = ("--as", "mask,overlay,contour")
    assert run(photos, "--model", graph, "--out", tmp_path / "ours", *kinds) == 1
    said = capsys.readouterr()
    model = runnable / f"models/{graph}.onnx"
    contract = ("--contract", str(runnable / "preprocessing.json"))
    (runnable / "models/classes.json").write_bytes((runnable / "classes.json").read_bytes())
    assert main(["predict", str(model), str(photos), "--out", str(tmp_path / "theirs"), *contract, *kinds]) == 1
    assert contents(tmp_path / "ours") == contents(tmp_path / "theirs")
    assert len(contents(tmp_path / "ours")) == 9
    assert said.err.count("No result:") == 1
    assert "c.png is damaged or cut off" in said.err
    assert "3 written, 1 failed" in said.out
    assert "the slowest is" in said.out


def test_results_and_report_lie_where_the_bundle_still_opens(
    run: Run, runnable: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(runnable)
    assert (
        main(["run", str(photos / "a.png"), str(photos / "d.png"), "--backend", "ort", "--model", "labels", "--json"])
        == 0
    )
    assert sorted(contents(runnable / "reports/run")) == ["mask/a.png", "mask/d.png", "overlay/a.png", "overlay/d.png"]
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((runnable / "reports/run.json").read_text())
    (stream,) = printed["streams"]
    assert stream["written"] == 2
    assert set(stream["stage_rates"]) == {"reading", "network", "writing"}
    assert stream["slowest"] in stream["stage_rates"]
    open_bundle(runnable)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "a camera: --camera 0"),
        (("a.png", "--camera", "0"), "a camera: --camera 0"),
        (("a.png", "--frames", "3"), "files end by themselves"),
        (("nowhere",), "nowhere does not exist"),
        (("a.png", "--as", "masks"), "Did you mean mask"),
        (("a.png", "--alpha", "2"), "--alpha 0 to 1"),
        (("a.png", "--model", "fp16"), "Name one: --model NAME"),
        (("a.png", "--out", "bundle/out"), "does not open"),
        (("a.png", "--bundle", "photos"), "holds no bundle"),
    ],
)
def test_what_cannot_be_asked_for_is_one_sentence_and_writes_nothing(
    run: Run,
    runnable: Path,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(photos)
    chosen = ("--model", "labels") if "--model" not in arguments else ()
    before = contents(runnable.parent)
    places = [str(runnable / "out") if word == "bundle/out" else word for word in arguments]
    assert run(*chosen, *places) == 2
    assert words in capsys.readouterr().err
    assert contents(runnable.parent) == before


def test_without_tensorrt_the_error_names_the_other_backend(
    runnable: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    assert main(["run", "--bundle", str(runnable), "--model", "labels", str(photos)]) == 2
    assert "--backend ort" in capsys.readouterr().err


def test_results_that_are_there_are_kept_unless_asked_otherwise(
    run: Run, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--model", "labels", photos / "a.png") == 0
    assert run("--model", "labels", photos / "a.png") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run("--model", "labels", photos / "a.png", "--overwrite") == 0


def test_a_video_or_a_camera_without_opencv_says_what_to_install(
    run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    (photos / "clip.mp4").touch()
    for source in ([photos], ["--camera", "0"]):
        assert run("--model", "labels", *source) == 2
        assert "apt install python3-opencv" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_whole_files_and_says_how_many(runnable: Path, tmp_path: Path, number: int, code: int) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    content = encode_picture(np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8))
    for name in range(400):
        (photos / f"{name:03d}.png").write_bytes(content)
    command = [sys.executable, "-m", "prunekit_runtime", "run", str(photos), "--out", str(out)]
    options = ["--backend", "ort", "--model", "labels", "--threads", "1", "--as", "mask,overlay,side-by-side"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "deploy")}
    process = subprocess.Popen([*command, *options], cwd=runnable, env=environment, stderr=subprocess.PIPE, text=True)
    while not (out / "side-by-side").is_dir():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    written = sorted(path.name for path in (out / "mask").iterdir())
    assert 0 < len(written) < 400
    assert all(sorted(path.name for path in kind.iterdir()) == written for kind in out.iterdir())
    assert all(len(set(map(len, contents(kind).values()))) == 1 for kind in out.iterdir())
    assert f"{len(written)} pictures are done" in said
    assert "Traceback" not in said


def test_frames_of_a_real_video_become_masks_and_a_film(run: Run, photos: Path, tmp_path: Path) -> None:
    cv2: Any = pytest.importorskip("cv2")
    film = cv2.VideoWriter(str(photos / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (32, 24))
    for number in range(7):
        film.write(np.full((24, 32, 3), 30 * number, dtype=np.uint8))
    film.release()
    assert run("--model", "labels", photos / "clip.avi", "--out", tmp_path / "out") == 0
    masks = [f"mask/clip/{number:06d}.png" for number in range(1, 8)]
    assert sorted(contents(tmp_path / "out")) == [*masks, "overlay/clip.mp4"]
    drawn = cv2.VideoCapture(str(tmp_path / "out/overlay/clip.mp4"))
    assert int(drawn.get(cv2.CAP_PROP_FRAME_COUNT)) == 7
    drawn.release()
