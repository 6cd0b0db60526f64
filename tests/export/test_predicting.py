"""`prunekit predict` without the command line: one answer whatever runs the network, every picture accounted for."""

import os
import sys
import types
from pathlib import Path, PurePath

import numpy as np
import pytest
import torch
from PIL import Image

from prunekit.data.images import read_image
from prunekit.data.labels.class_list import ClassList
from prunekit.data.labels.masks import read_mask
from prunekit.data.registry import open_dataset
from prunekit.errors import ConfigError, DataError
from prunekit.metrics import ConfusionMatrix
from prunekit.modelfile import new_card, rebuild, save_model
from prunekit.pictures.legend import encode_legend
from prunekit.recipe import merge, parse_recipe
from prunekit.run import RunDirectory
from prunekit_export.errors import ExportError
from prunekit_export.predicting import PredictConfig, count_frames, find_inputs, predict
from prunekit_export.running import evaluate_model
from prunekit_export.running.runners import TorchRunner
from prunekit_export.workflow import ExportConfig, export_model
from prunekit_runtime.__main__ import main as runtime
from prunekit_runtime.classes import Classes, numbered
from prunekit_runtime.errors import PictureError, PrunekitError
from prunekit_runtime.predicting.job import Tally
from prunekit_runtime.predicting.stopwatch import Stopwatch
from prunekit_runtime.preprocessing import Preprocessing

CLEAR = 1e-3  # a difference of logits that no rounding turns round
SETTINGS = {
    "data.height": 32,
    "data.width": 48,
    "data.val_images": 6,
    "data.train_images": 4,
    "model.name": "python:prunekit.models.street:street_net?width=8",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunDirectory:
    """A run whose network was drawn, not trained; it is fed at a size that is no picture's own."""
    source = RunDirectory(tmp_path_factory.mktemp("predicting") / "run")
    source.path.mkdir()
    recipe = parse_recipe(merge({}, SETTINGS))
    source.write_recipe(recipe)
    card = new_card(recipe.model, open_dataset(recipe.data, "val").classes, Preprocessing(40, 56, pad_multiple=16))
    torch.manual_seed(1)
    segmenter = rebuild(card)
    save_model(source, segmenter, card)
    return source


@pytest.fixture(scope="module")
def onnx_file(run) -> Path:
    pytest.importorskip("onnxruntime")
    export_model(run, ExportConfig(dynamic=True), run.path / "export")
    return run.path / "export/model.onnx"


@pytest.fixture(scope="module")
def photos(run, tmp_path_factory) -> Path:
    """The validation pictures, some in a folder below, and one of another size."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "below").mkdir()
    dataset = open_dataset(run.recipe().data, "val")
    for index in range(len(dataset)):
        image = Image.fromarray(dataset[index].image_3HW.permute(1, 2, 0).numpy())
        image.save(folder / ("below" if index % 2 else ".") / f"{index}.png")
    image.resize((77, 51)).save(folder / "odd.png")
    return folder


def predicted(model, source, out, **config):
    return predict(model, find_inputs([Path(source)], leave_out=out), out, PredictConfig(**{"device": "cpu", **config}))


def labels(path):
    return np.array(Image.open(path))


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


def test_torch_onnx_and_the_device_give_the_same_masks(run, onnx_file, photos, tmp_path, capsys):
    for name, model in (("torch", run.path), ("onnx", onnx_file)):
        report = predicted(model, photos, tmp_path / name, batch_size=3, kinds=("mask", "contour"))
        assert report.written == 7
        assert np.count_nonzero(report.pixels) > 1
        assert not report.failed
    device = ["predict", str(onnx_file), str(photos), "--out", str(tmp_path / "device"), "--as", "mask,contour"]
    assert runtime([*device, "--batch-size", "3"]) == 0
    found = names(tmp_path / "device")
    assert names(tmp_path / "torch") == names(tmp_path / "onnx") == sorted(["legend.png", *found])
    with TorchRunner(run.path) as runner:
        for name in found:
            paths = [tmp_path / way / name for way in ("torch", "onnx", "device")]
            assert paths[1].read_bytes() == paths[2].read_bytes(), name
            if name.startswith("mask/"):
                image_HW3 = np.array(Image.open(photos / name.removeprefix("mask/")))
                assert labels(paths[0]).shape == image_HW3.shape[:2]
                clear_HW = decided(runner, image_HW3)
                np.testing.assert_array_equal(labels(paths[0])[clear_HW], labels(paths[1])[clear_HW])


def decided(runner, image_HW3):
    logits_KHW = runner.contract.restore_logits(runner.run(runner.contract.prepare(image_HW3)), *image_HW3.shape[:2])
    best_2HW = np.sort(logits_KHW, axis=0)[-2:]
    clear_HW = best_2HW[1] - best_2HW[0] > CLEAR
    assert clear_HW.mean() > 0.98
    return clear_HW


def test_the_labels_are_those_that_eval_counts(run, photos, tmp_path):
    predicted(run.path, photos, tmp_path, kinds=("mask",), batch_size=2)
    data = run.recipe().data
    dataset = open_dataset(data, "val")
    matrix = ConfusionMatrix(len(dataset.classes), dataset.classes.ignore_index)
    for index in range(len(dataset)):
        path = tmp_path / "mask" / ("below" if index % 2 else ".") / f"{index}.png"
        matrix.update(dataset[index].labels_HW, torch.from_numpy(labels(path)))
    assert matrix.to_json() == evaluate_model(run.path, data=data).metrics


def test_masks_are_masks_to_train_on(run, photos, tmp_path):
    report = predicted(run.path, photos, tmp_path, kinds=("mask",))
    classes = open_dataset(run.recipe().data, "val").classes
    mask = Image.open(tmp_path / "mask/0.png")
    assert mask.mode == "P"
    assert mask.getpalette()[: 3 * len(classes)] == [part for colour in classes.palette for part in colour]
    counted = np.zeros(len(classes), dtype=np.int64)
    for path in (tmp_path / "mask").rglob("*.png"):
        as_labels = read_mask(
            path, ClassList(classes, coloured=True, ignore_index=255, ignore_colour=None, masks="auto")
        )
        np.testing.assert_array_equal(as_labels, labels(path))
        counted += np.bincount(as_labels.ravel(), minlength=len(classes))
    assert report.pixels == tuple(counted.tolist())


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_rotated_photo_is_labelled_upright(run, photos, tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"rotated.{suffix}"
    image = Image.open(photos / "0.png")
    lossless = {"lossless": True} if suffix == "webp" else {}
    image.save(path, exif=exif, **lossless)
    with pytest.raises(DataError, match="EXIF"):
        read_image(path)  # a mask may be turned or not; here there is none
    upright_3HW = read_image(path, turn=True)
    turned = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_270, 8: Image.Transpose.ROTATE_90}
    expected_HW3 = np.array(image.transpose(turned[orientation])).astype(int)
    error_HW3 = np.abs(upright_3HW.permute(1, 2, 0).numpy() - expected_HW3)
    assert error_HW3.mean() < (20 if suffix == "jpg" else 1e-9)
    predicted(run.path, path, tmp_path / "out", kinds=("mask", "side-by-side"))
    assert labels(tmp_path / "out/mask/rotated.png").shape == expected_HW3.shape[:2]
    Image.fromarray(upright_3HW.permute(1, 2, 0).numpy()).save(tmp_path / "upright.png")
    predicted(run.path, tmp_path / "upright.png", tmp_path / "again", kinds=("mask",))
    same = labels(tmp_path / "again/mask/upright.png") == labels(tmp_path / "out/mask/rotated.png")
    assert same.all()


def test_bad_pictures_are_said_as_training_says_them_and_the_others_done(run, photos, tmp_path):
    bad = tmp_path / "bad"
    bad.mkdir()
    Image.fromarray(np.full((9, 9), 300, dtype=np.uint16)).save(bad / "deep.png")
    Image.new("RGBA", (9, 9), (1, 2, 3, 4)).save(bad / "transparent.png")
    (bad / "cut.png").write_bytes((photos / "0.png").read_bytes()[:200])
    (bad / "good.png").write_bytes((photos / "0.png").read_bytes())
    tally, seen = Tally(), []
    inputs = find_inputs([bad], leave_out=tmp_path / "out")
    config = PredictConfig(device="cpu", kinds=("mask",), batch_size=2)
    report = predict(run.path, inputs, tmp_path / "out", config, tally=tally, on_item=lambda now: seen.append(now.done))
    assert names(tmp_path / "out") == ["legend.png", "mask/good.png"]
    assert report.written == 1
    assert seen == [1, 2, 3, 4]
    for failed in report.failed:
        with pytest.raises(DataError) as raised:
            read_image(Path(failed["picture"]))
        assert failed["reason"] == str(raised.value)


def test_names_of_any_bytes_and_stems_that_are_shared(run, photos, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for name in (b"caf\xe9.png", b"a.png", b"a.tif", b"x.y.png"):
        Image.open(photos / "0.png").save(source / os.fsdecode(name))
    predicted(run.path, source, tmp_path / "out", kinds=("mask",))
    written = {os.fsencode(path.name) for path in (tmp_path / "out/mask").iterdir()}
    assert written == {b"caf\xe9.png", b"a.png.png", b"a.tif.png", b"x.y.png"}


def test_nothing_is_written_over_and_nothing_left_behind(run, photos, tmp_path):
    predicted(run.path, photos / "0.png", tmp_path, kinds=("mask",))
    before = (tmp_path / "mask/0.png").stat().st_ino
    with pytest.raises(PictureError, match="1 of the 7 files"):
        predicted(run.path, photos, tmp_path, kinds=("mask",))
    assert names(tmp_path) == ["legend.png", "mask/0.png"]
    predicted(run.path, photos, tmp_path, kinds=("mask",), overwrite=True)
    assert (tmp_path / "mask/0.png").stat().st_ino != before
    assert len(names(tmp_path)) == 8


def test_the_legend_of_another_model_is_not_written_over(run, photos, tmp_path):
    (tmp_path / "legend.png").write_bytes(encode_legend(numbered(3)))
    with pytest.raises(PictureError, match=r"legend\.png"):
        predicted(run.path, photos / "0.png", tmp_path)


@pytest.mark.parametrize("count", [1, 19, 150])
def test_legends_show_each_colour_once(count):
    classes = numbered(count)
    named = Classes(tuple(f"{name} 道路 {'x' * 60}" for name in classes.names), classes.palette)
    content = encode_legend(named)
    assert content == encode_legend(named)


def test_what_the_model_takes_is_what_it_gets(run, onnx_file, photos, tmp_path):
    export_model(run, ExportConfig(batch=2), tmp_path / "static")
    model = tmp_path / "static/model.onnx"
    with pytest.raises(PrunekitError, match="takes 2 images at once"):
        predicted(model, photos, tmp_path / "out", batch_size=3)
    report = predicted(model, photos, tmp_path / "out", kinds=("mask",))
    assert (report.batch_size, report.written) == (2, 7)
    predicted(onnx_file, photos, tmp_path / "one", kinds=("mask",))
    for name in names(tmp_path / "one"):
        if name.startswith("mask"):
            assert (labels(tmp_path / "one" / name) == labels(tmp_path / "out" / name)).mean() > 0.999


def test_devices_are_as_asked(run, photos, tmp_path):
    with pytest.raises(ExportError, match="torch runs on cpu or cuda"):
        predicted(run.path, photos, tmp_path / "out", device="tensorrt")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="cuda"):
            predicted(run.path, photos, tmp_path / "out", device="cuda")
    assert not (tmp_path / "out").exists()


def test_stages_add_up():
    ticks = iter((0.0, 1.0, 3.0, 4.0, 4.5, 9.0))
    watch = Stopwatch(lambda: next(ticks))
    with watch.timing("decoding"):
        pass
    with pytest.raises(KeyError), watch.timing("decoding"):
        raise KeyError
    assert watch.seconds["decoding"] == 2.5
    assert watch.total_s() == 9.0


class FakeFilm:
    """OpenCV's two classes: a video is a text file of its frames' grey values; what is written is kept so, too."""

    CAP_PROP_FRAME_COUNT, CAP_PROP_FPS = 7, 5

    class VideoCapture:
        def __init__(self, path):
            text = Path(path).read_text()
            self.greys = [int(word) for word in text.split()[1:]] if text.startswith("film") else None
            self.announced = 0 if self.greys is None else int(text.split()[0].removeprefix("film"))

        def isOpened(self):
            return self.greys is not None

        def get(self, what):
            return {7: float(self.announced), 5: 12.5}[what]

        def grab(self):
            if not self.greys:
                return False
            self.grey = self.greys.pop(0)
            return True

        def retrieve(self):
            return self.grey >= 0, np.full((31, 21, 3), max(0, self.grey), dtype=np.uint8)

        def release(self):
            pass

    class VideoWriter:
        def __init__(self, path, code, fps, size):
            self.path, self.words = path, [f"film{code}", str(fps), str(size)]

        def isOpened(self):
            return True

        def write(self, frame):
            self.words.append("x".join(map(str, frame.shape)))

        def release(self):
            Path(self.path).write_text(" ".join(self.words))

    @staticmethod
    def VideoWriter_fourcc(*letters):
        return "".join(letters)


@pytest.fixture
def opencv(monkeypatch):
    module = types.ModuleType("cv2")
    for name in dir(FakeFilm):
        if not name.startswith("__"):
            setattr(module, name, getattr(FakeFilm, name))
    monkeypatch.setitem(sys.modules, "cv2", module)


def test_a_video_becomes_masks_and_a_video(run, opencv, tmp_path):
    (tmp_path / "clip.mp4").write_text("film3 10 20 30")
    inputs = find_inputs([tmp_path], leave_out=tmp_path / "out")
    assert count_frames(inputs) == 3
    report = predicted(run.path, tmp_path, tmp_path / "out", kinds=("mask", "overlay"), batch_size=2)
    assert report.written == 3
    frames = [f"mask/clip/00000{number}.png" for number in (1, 2, 3)]
    assert names(tmp_path / "out") == ["legend.png", *frames, "overlay/clip.mp4"]
    assert labels(tmp_path / "out" / frames[0]).shape == (31, 21)
    shape = "30x20x3"
    assert (tmp_path / "out/overlay/clip.mp4").read_text() == f"filmmp4v 12.5 (20, 30) {shape} {shape} {shape}"


def test_a_shorter_video_leaves_no_frame_of_the_longer_one(run, opencv, tmp_path):
    for text in ("film3 1 2 3", "film2 1 2"):
        (tmp_path / "clip.mp4").write_text(text)
        predicted(run.path, tmp_path / "clip.mp4", tmp_path / "out", kinds=("mask",), overwrite=True)
    assert names(tmp_path / "out") == ["legend.png", "mask/clip/000001.png", "mask/clip/000002.png"]


@pytest.mark.parametrize(
    ("text", "written", "words"),
    [
        ("film9 1 2", 2, "ends after 2 of 9 frames"),
        ("film3 1 -1 3", 2, "frame 2: The frame is damaged"),
        ("film0", 0, "ends after 0"),
        ("noise", 0, "not a video that OpenCV can read"),
    ],
)
def test_a_bad_video_is_counted_and_the_others_done(run, opencv, photos, tmp_path, text, written, words):
    (tmp_path / "clip.mp4").write_text(text)
    (tmp_path / "z.png").write_bytes((photos / "0.png").read_bytes())
    report = predicted(run.path, tmp_path, tmp_path / "out", kinds=("contour",))
    assert report.written == written + 1
    assert len(report.failed) == 1
    assert words in f"{report.failed[0]['picture'].rpartition(', ')[2]}: {report.failed[0]['reason']}"
    assert (tmp_path / "out/contour/clip.mp4").exists() == bool(written)
    assert not list((tmp_path / "out").rglob(".*"))


def test_an_interrupted_video_keeps_its_masks_and_no_half_film(run, opencv, tmp_path):
    (tmp_path / "clip.mp4").write_text("film3 1 2 3")

    def stop(tally):
        if tally.written == 2:
            raise KeyboardInterrupt

    inputs, config = (
        find_inputs([tmp_path], leave_out=tmp_path / "out"),
        PredictConfig(device="cpu", kinds=("mask", "overlay")),
    )
    with pytest.raises(KeyboardInterrupt):
        predict(run.path, inputs, tmp_path / "out", config, on_item=stop)
    assert names(tmp_path / "out") == ["legend.png", "mask/clip/000001.png", "mask/clip/000002.png"]


def test_a_video_without_opencv_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    (tmp_path / "clip.mp4").touch()
    with pytest.raises(PictureError, match=r"prunekit\[video\]"):
        find_inputs([tmp_path / "clip.mp4"], leave_out=tmp_path / "out")


def test_a_real_video(run, photos, tmp_path):
    opencv = pytest.importorskip("cv2")
    code = opencv.VideoWriter_fourcc(*"mp4v")
    film = opencv.VideoWriter(str(tmp_path / "clip.mp4"), code, 10.0, (48, 32))
    for number in (0, 2, 4):
        film.write(opencv.imread(str(photos / f"{number}.png")))
    film.release()
    report = predicted(run.path, tmp_path / "clip.mp4", tmp_path / "out", kinds=("mask", "side-by-side"))
    assert (report.written, len(report.failed)) == (3, 0)
    drawn = opencv.VideoCapture(str(tmp_path / "out/side-by-side/clip.mp4"))
    assert drawn.get(opencv.CAP_PROP_FRAME_COUNT) == 3
    assert drawn.read()[1].shape == (32, 100, 3)
    assert find_inputs([tmp_path / "clip.mp4"], leave_out=tmp_path).videos[0][1] == PurePath("clip")
