"""An export with the graph from pictures to labels: its sizes, precisions and engines, and who takes the file."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import nn

from prunekit.data.registry import open_dataset
from prunekit.modelfile import new_card, rebuild, save_model
from prunekit.recipe import parse_recipe
from prunekit.run import RunDirectory
from prunekit_export.errors import ExportError, ExportUsageError
from prunekit_export.graph import value_dims
from prunekit_export.pipeline import export_into
from prunekit_export.predicting import PredictConfig, find_inputs, predict
from prunekit_export.request import ExportRequest, ExportSummary
from prunekit_export.running import ProfileConfig, evaluate_model, open_runner, profile_models
from prunekit_export.staging import staged
from prunekit_export.workflow import ExportConfig, export_model
from prunekit_runtime.__main__ import main
from prunekit_runtime.errors import RunnerError
from prunekit_runtime.preprocessing import Preprocessing, read_contract
from prunekit_runtime.running.picturing import open_picture_model

pytest.importorskip("onnxruntime", reason="parity runs in ONNX Runtime")
NAMES = ("sky", "road", "car", "pole", "sign")
PALETTE = [(index, 2 * index, 3 * index) for index in range(5)]
DATA = {"height": 33, "width": 47, "val_images": 5, "train_images": 2}
MODEL = {"name": "python:prunekit.models.street:street_net?width=8"}
SIZE = (33, 47)
PICTURES = [np.random.default_rng(seed).integers(0, 256, (40, 61, 3), dtype=np.uint8) for seed in range(2)]


def export(segmenter: nn.Module, out_dir: Path, **options: Any) -> ExportSummary:
    values: dict[str, Any] = {
        "height": 32,
        "width": 48,
        "contract": Preprocessing(32, 48),
        "class_names": NAMES,
        "palette": PALETTE,
        "pictures": PICTURES,
        "end2end": True,
    }
    with staged(out_dir) as stage:
        return export_into(stage, ExportRequest(segmenter, **(values | options)))


def dims(path: Path) -> tuple[list[Any], list[Any]]:
    graph = onnx.load_model(path).graph
    ends = ([(value.name, value_dims(value)) for value in values] for values in (graph.input, graph.output))
    return next(ends), next(ends)


def test_bf16_from_pictures_to_labels_at_any_size(tiny_net: nn.Module, tmp_path: Path) -> None:
    calibration = [torch.from_numpy(Preprocessing(32, 48).prepare(picture)) for picture in PICTURES]
    summary = export(
        tiny_net, tmp_path, precision="bf16", dynamic=True, picture_size="any", confidence=True, calibration=calibration
    )
    assert summary.onnx_half is not None
    assert summary.parity_half is not None
    assert summary.parity_half.macs == {"bf16": 1}
    assert [each.file for each in summary.labels] == ["model.labels.onnx", "model.bf16.labels.onnx"]
    assert "model.bf16.onnx" in (tmp_path / "trtexec.txt").read_text()
    with open_runner(tmp_path / "model.bf16.onnx") as runner:
        assert runner.name.endswith("results rounded to bf16")


def test_the_file_says_what_it_is(tiny_net: nn.Module, tmp_path: Path) -> None:
    summary = export(tiny_net, tmp_path, picture_size=(54, 96), confidence=True)
    assert sorted(summary.files) == sorted(tmp_path.iterdir())
    path = tmp_path / "model.labels.onnx"
    assert dims(path) == (
        [("pictures", (1, 54, 96, 3))],
        [("labels", (1, 54, 96)), ("confidence", (1, 54, 96))],
    )
    said = {entry.key: entry.value for entry in onnx.load_model(path).metadata_props}
    assert said["prunekit.graph"] == "labels"
    assert {"prunekit.preprocessing", "prunekit.classes"} <= said.keys()


def test_without_pictures_it_takes_those_of_the_size_before_padding(tiny_net: nn.Module, tmp_path: Path) -> None:
    export(tiny_net, tmp_path, contract=Preprocessing(30, 44, pad_multiple=16), pictures=())
    assert dims(tmp_path / "model.labels.onnx")[0] == [("pictures", (1, 30, 44, 3))]


@pytest.mark.parametrize("contract", [Preprocessing(32, 48), Preprocessing(0, 0, pad_multiple=16)])
def test_an_open_file_takes_any_number_of_pictures_of_any_size(
    tiny_net: nn.Module, tmp_path: Path, contract: Preprocessing
) -> None:
    summary = export(tiny_net, tmp_path, contract=contract, dynamic=True)
    assert len(summary.labels[0].sizes) == 3
    written = read_contract(tmp_path / "preprocessing.json")
    with (
        open_picture_model(summary.onnx_path, written) as apart,
        open_picture_model(tmp_path / "model.labels.onnx", written) as inside,
    ):
        for picture in (PICTURES[0], PICTURES[0][:33, :17]):
            size = picture.shape[:2]
            expected, got = (model.labels(model.compute(model.prepare(picture)), *size) for model in (apart, inside))
            assert (expected == got).mean() > 0.99


def test_fp16_has_a_file_of_its_own_that_normalises_in_float32(tiny_net: nn.Module, tmp_path: Path) -> None:
    summary = export(tiny_net, tmp_path, precision="fp16", calibration=[torch.randn(2, 3, 32, 48)])
    assert [labels.file for labels in summary.labels] == ["model.labels.onnx", "model.fp16.labels.onnx"]
    assert [labels.tolerance for labels in summary.labels] == [1e-3, 2e-2]
    assert sorted(summary.files) == sorted(tmp_path.iterdir())
    nodes = onnx.load_model(tmp_path / "model.fp16.labels.onnx").graph.node
    [divided] = [node for node in nodes if node.op_type == "Div"]
    readers = [node for node in nodes if divided.output[0] in node.input]
    assert [node.op_type for node in readers] == ["Cast"], "the network's own Cast to fp16 stands behind it"
    [best] = [node for node in nodes if node.op_type == "ArgMax"]
    makers = {output: node for node in nodes for output in node.output}
    resized = makers[best.input[0]]
    assert (resized.op_type, makers[resized.input[0]].op_type) == ("Resize", "Cast"), "logits are resized in float32"


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
@pytest.mark.parametrize("dynamic", [False, True])
def test_the_engine_is_built_from_the_file(tiny_net: nn.Module, tmp_path: Path, dynamic: bool) -> None:
    options: dict[str, Any] = {"precision": "fp16", "calibration": [torch.randn(2, 3, 32, 48)], "dynamic": dynamic}
    summary = export(tiny_net, tmp_path, trt=True, **options)
    assert summary.engine is not None
    assert summary.engine.onnx == "model.fp16.labels.onnx"
    assert summary.engine.profile.optimum == (1, 40, 61, 3)
    assert summary.engine.precision == "fp16"


def test_an_export_whose_file_labels_otherwise_leaves_nothing(
    tiny_net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prunekit_export import pipeline

    whole = pipeline.picture_parity

    def with_another(logits: Path, labels: Path, contract: Preprocessing, *rest: Any) -> Any:
        return whole(logits, labels, Preprocessing(32, 48, mean=(0.6, 0.1, 0.4)), *rest)

    monkeypatch.setattr(pipeline, "picture_parity", with_another)
    with pytest.raises(ExportError, match=r"model\.labels\.onnx does not give the labels"):
        export(tiny_net, tmp_path / "export")
    assert not (tmp_path / "export").exists()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    source = RunDirectory(tmp_path_factory.mktemp("end2end") / "run")
    source.path.mkdir()
    recipe = parse_recipe({"data": DATA, "model": MODEL})
    source.write_recipe(recipe)
    card = new_card(recipe.model, open_dataset(recipe.data, "val").classes, Preprocessing(40, 56, pad_multiple=16))
    torch.manual_seed(1)
    save_model(source, rebuild(card), card)
    return source


@pytest.fixture(scope="module")
def exported(run: RunDirectory) -> Path:
    export_model(run, ExportConfig(end2end=True, picture_size=SIZE), run.path / "export")
    return run.path / "export"


def test_both_files_have_the_same_score(run: RunDirectory, exported: Path) -> None:
    data = run.recipe().data
    whole, parts = (evaluate_model(exported / name, data=data) for name in ("model.labels.onnx", "model.onnx"))
    assert whole.metrics["miou"] == pytest.approx(parts.metrics["miou"], abs=1e-3)
    assert whole.metrics["pixels"] == parts.metrics["pixels"]


def test_a_file_of_labels_with_another_number_of_classes_is_not_scored(run: RunDirectory, exported: Path) -> None:
    data = run.recipe().data
    classes = exported / "classes.json"
    whole = classes.read_text()
    classes.write_text('{"names": ["one", "two"], "palette": [[0, 0, 0], [1, 1, 1]]}')
    try:
        with pytest.raises(ExportUsageError, match="The model has 2 classes, the data set"):
            evaluate_model(exported / "model.labels.onnx", data=data)
    finally:
        classes.write_text(whole)


def test_pictures_of_another_size_are_not_scored(run: RunDirectory, exported: Path) -> None:
    data = run.recipe().data.model_copy(update={"height": 35})
    with pytest.raises(RunnerError, match="--picture-size"):
        evaluate_model(exported / "model.labels.onnx", data=data)


def test_a_file_of_labels_is_profiled_on_pictures_and_says_so(exported: Path) -> None:
    paths = [exported / "model.labels.onnx", exported / "model.onnx"]
    report = profile_models(paths, ProfileConfig(runs=2, warmup_runs=1, threads=1))
    whole, parts = report.models
    assert (whole.graph, whole.input_shape) == ("labels", (1, *SIZE, 3))
    assert (parts.graph, parts.input_shape) == ("logits", (1, 3, 48, 64))


@pytest.fixture(scope="module")
def open_export(run: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("open") / "export"
    export_model(run, ExportConfig(end2end=True, dynamic=True), folder)
    return folder


@pytest.mark.slow  # an open export is compared at seven sizes
@pytest.mark.parametrize("batch_size", [None, 2])
def test_both_files_and_both_commands_give_the_same_masks(
    open_export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], batch_size: int | None
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, size in enumerate([SIZE, SIZE, (51, 40)]):
        pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((size[1], size[0])).save(photos / f"{number}.png")
    masks: list[list[Any]] = []
    for name in ("model.onnx", "model.labels.onnx"):
        out = tmp_path / name
        config = PredictConfig(kinds=("mask",), batch_size=batch_size, threads=1)
        report = predict(open_export / name, find_inputs([photos]), out, config)
        assert (report.written, report.failed) == (3, ())
        assert report.classes == tuple(json.loads((open_export / "classes.json").read_text())["names"])
        masks.append([np.asarray(Image.open(path)) for path in sorted((out / "mask").iterdir())])
    device = ["predict", str(open_export / "model.labels.onnx"), str(photos), "--out", str(tmp_path / "device")]
    assert main([*device, "--as", "mask", "--threads", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["written"] == 3
    masks.append([np.asarray(Image.open(path)) for path in sorted((tmp_path / "device/mask").iterdir())])
    for parts, whole, on_device in zip(*masks, strict=True):
        assert (parts == whole).mean() > 0.999
        np.testing.assert_array_equal(whole, on_device)


def test_pictures_of_another_size_are_said_and_the_others_done(exported: Path, tmp_path: Path) -> None:
    for name, size in (("fits", SIZE), ("other", (SIZE[0] + 1, SIZE[1]))):
        Image.fromarray(np.zeros((*size, 3), np.uint8)).save(tmp_path / f"{name}.png")
    inputs = find_inputs([tmp_path / "fits.png", tmp_path / "other.png"])
    report = predict(exported / "model.labels.onnx", inputs, tmp_path / "out", PredictConfig(kinds=("mask",)))
    assert report.written == 1
    [failure] = report.failed
    assert "Give pictures of that size" in failure["reason"]


def test_the_reader_of_the_page_labels_a_picture_as_prunekit_does(exported: Path, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/export.md").read_text()
    [block] = re.findall(r"```python\n(.*?)```", page, re.S)
    (tmp_path / "reader.py").write_text(block)
    picture_HW3 = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    Image.fromarray(picture_HW3).save(tmp_path / "picture.png")
    model = exported / "model.labels.onnx"
    command = [sys.executable, "reader.py", str(model), "picture.png", "mask.png"]
    subprocess.run(command, cwd=tmp_path, check=True)
    with open_picture_model(model, read_contract(exported / "preprocessing.json")) as opened:
        expected_HW = opened.labels(opened.compute(opened.prepare(picture_HW3)), *SIZE)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "mask.png")), expected_HW)
