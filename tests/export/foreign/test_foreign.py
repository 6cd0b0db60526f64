"""Files that others made: every way to write the same network gives the same logits behind our ends."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from prunekit.errors import PrunekitError
from prunekit_export.engine import EngineOptions
from prunekit_export.errors import ExportError
from prunekit_export.foreign import FileConfig, export_file, read_foreign
from prunekit_runtime.preprocessing import resize_bilinear
from prunekit_runtime.running.ort import OrtRunner

HEIGHT, WIDTH, CLASSES = 24, 40, 5


def _model(
    *,
    opset: int = 17,
    layout: str = "NCHW",
    dtype: int = TensorProto.FLOAT,
    stride: int = 1,
    mask: int = 0,
    two: bool = False,
    sizes: tuple[Any, Any] = (HEIGHT, WIDTH),
    batch: Any = 1,
    names: tuple[str, str] = ("x", "y"),
    ir_version: int = 8,
) -> onnx.ModelProto:
    """One convolution, in the ways that files differ in."""
    random = np.random.default_rng(3)
    weight = numpy_helper.from_array(random.standard_normal((CLASSES, 3, 3, 3)).astype(np.float32), "w")
    image, out = names
    nodes, value = [], image
    if dtype == TensorProto.UINT8:
        nodes.append(helper.make_node("Cast", [value], ["cast"], to=TensorProto.FLOAT))
        value = "cast"
    if layout == "NHWC":
        nodes.append(helper.make_node("Transpose", [value], ["planes"], perm=[0, 3, 1, 2]))
        value = "planes"
    nodes.append(helper.make_node("Conv", [value, "w"], ["conv"], pads=[1] * 4, strides=[stride] * 2))
    rows, columns = (side if isinstance(side, str) or stride == 1 else -(-side // stride) for side in sizes)
    if stride > 1 and isinstance(sizes[0], str):
        rows, columns = "rows", "columns"
    shape: list[Any] = [batch, CLASSES, rows, columns]
    kind = TensorProto.FLOAT
    if mask:
        nodes.append(helper.make_node("ArgMax", ["conv"], ["best"], axis=1, keepdims=0))
        nodes.append(helper.make_node("Cast", ["best"], [out], to=mask))
        shape, kind = [batch, rows, columns], mask
    elif layout == "NHWC":
        nodes.append(helper.make_node("Transpose", ["conv"], [out], perm=[0, 2, 3, 1]))
        shape = [batch, rows, columns, CLASSES]
    else:
        nodes.append(helper.make_node("Identity", ["conv"], [out]))
    outputs = [helper.make_tensor_value_info(out, kind, shape)]
    if two:
        nodes.append(helper.make_node("Relu", ["conv"], ["aux"]))
        outputs.append(helper.make_tensor_value_info("aux", TensorProto.FLOAT, [batch, CLASSES, rows, columns]))
    given = [batch, *sizes, 3] if layout == "NHWC" else [batch, 3, *sizes]
    inputs = [helper.make_tensor_value_info(image, dtype, given)]
    if ir_version < 4:
        inputs.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, weight.dims))
    graph = helper.make_graph(nodes, "g", inputs, outputs, [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "opset 11": {"opset": 11},
    "opset 13": {"opset": 13},
    "opset 20": {"opset": 20},
    "uint8": {"dtype": TensorProto.UINT8},
    "NHWC": {"layout": "NHWC"},
    "uint8 NHWC": {"dtype": TensorProto.UINT8, "layout": "NHWC"},
    "int64 mask": {"mask": TensorProto.INT64},
    "int32 mask": {"mask": TensorProto.INT32},
    "quarter": {"stride": 4},
    "two outputs": {"two": True},
    "named dims": {"batch": "N", "sizes": ("H", "W")},
    "named dims, half": {"batch": "N", "sizes": ("H", "W"), "stride": 2},
    "weights among the inputs": {"ir_version": 3, "opset": 11},
    "our names": {"names": ("logits", "images")},
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_write_a_network_gives_its_logits(way: str, tmp_path: Path) -> None:
    source, settings = tmp_path / "source.onnx", WAYS[way]
    onnx.save_model(_model(**settings), source)
    name = settings.get("names", ("x", "y"))[1]
    config = FileConfig(output=name if "two" in settings else None, height=HEIGHT, width=WIDTH)
    outcome = export_file(source, config, tmp_path / "out")
    images = np.random.default_rng(0).integers(0, 256, (1, 3, HEIGHT, WIDTH)).astype(np.float32)
    results: Any = ReferenceEvaluator(_model(stride=settings.get("stride", 1))).run(None, {"x": images})
    expected = resize_bilinear(results[0][0], HEIGHT, WIDTH)[None]
    with OrtRunner(outcome.onnx.path) as runner:
        got = runner.run(images)
    assert got.shape == (1, CLASSES, HEIGHT, WIDTH)
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())
    assert outcome.label_agreement >= 0.9999
    assert (tmp_path / "out" / "preprocessing.json").is_file()


def test_a_file_of_bytes_is_given_pixels(tmp_path: Path) -> None:
    onnx.save_model(_model(dtype=TensorProto.UINT8), tmp_path / "s.onnx")
    export_file(tmp_path / "s.onnx", FileConfig(), tmp_path / "out")
    contract = json.loads((tmp_path / "out" / "preprocessing.json").read_text())
    assert (contract["scale"], contract["mean"], contract["std"]) == (1.0, [0.0] * 3, [1.0] * 3)
    with pytest.raises(ExportError, match="prepares them itself"):
        export_file(tmp_path / "s.onnx", FileConfig(mean=(0.5, 0.5, 0.5)), tmp_path / "other")


def test_several_outputs_are_listed(tmp_path: Path) -> None:
    onnx.save_model(_model(two=True), tmp_path / "s.onnx")
    with pytest.raises(ExportError, match="y, aux"):
        export_file(tmp_path / "s.onnx", FileConfig(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_any_size_has_to_be_named(tmp_path: Path) -> None:
    onnx.save_model(_model(sizes=("H", "W")), tmp_path / "s.onnx")
    with pytest.raises(ExportError, match="any size"):
        export_file(tmp_path / "s.onnx", FileConfig(), tmp_path / "out")


def test_weights_beside_the_file_are_taken(tmp_path: Path) -> None:
    onnx.save_model(_model(), tmp_path / "s.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    assert (tmp_path / "w.bin").exists()
    outcome = export_file(tmp_path / "s.onnx", FileConfig(), tmp_path / "out")
    assert not any(tensor.external_data for tensor in onnx.load_model(outcome.onnx.path).graph.initializer)


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "link.bin"])
def test_weights_elsewhere_are_refused(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(4096))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    model = _model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    (folder / "s.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match="own folder"):
        read_foreign(folder / "s.onnx")


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.onnx").write_bytes(b"not a model")
    with pytest.raises(ExportError):
        read_foreign(tmp_path / "s.onnx")
    onnx.save_model(_model(opset=9), tmp_path / "old.onnx")
    with pytest.raises(ExportError, match="opset 9"):
        read_foreign(tmp_path / "old.onnx")


LIGHT = sorted(Path(onnx.__file__).parent.glob("backend/test/data/light/*.onnx"))


@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
def test_networks_of_the_onnx_package_are_read_and_refused_as_no_segmentation(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError) as refused:
        export_file(path, FileConfig(), tmp_path / "out")
    assert len(str(refused.value)) < 600
    assert not (tmp_path / "out").exists()


def test_a_file_of_a_package_that_is_no_image_model_is_refused(tmp_path: Path) -> None:
    source = next(Path(onnx.__file__).parent.glob("backend/test/data/simple/test_*/model.onnx"))
    with pytest.raises(ExportError):
        export_file(source, FileConfig(), tmp_path / "out")


def test_names_of_a_file_command_no_terminal(tmp_path: Path) -> None:
    onnx.save_model(_model(two=True, names=("x", "y\x1b[31m")), tmp_path / "s.onnx")
    for output in (None, "y[31"):
        with pytest.raises(ExportError) as refused:
            export_file(tmp_path / "s.onnx", FileConfig(output=output), tmp_path / "out")
        assert "\x1b" not in str(refused.value)


def test_an_image_beyond_memory_is_refused(tmp_path: Path) -> None:
    onnx.save_model(_model(sizes=(1 << 20, 1 << 20)), tmp_path / "s.onnx")
    with pytest.raises(PrunekitError, match=r"GiB|memory|px|allowed"):
        export_file(tmp_path / "s.onnx", FileConfig(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_file_of_bytes_computes_in_no_uint8(layout: str, tmp_path: Path) -> None:
    onnx.save_model(_model(dtype=TensorProto.UINT8, layout=layout), tmp_path / "s.onnx")
    outcome = export_file(tmp_path / "s.onnx", FileConfig(), tmp_path / "out")
    inferred = onnx.shape_inference.infer_shapes(onnx.load_model(outcome.onnx.path), strict_mode=True)
    assert not [value for value in inferred.graph.value_info if value.type.tensor_type.elem_type == TensorProto.UINT8]


def test_a_mask_smaller_than_the_image_is_refused(tmp_path: Path) -> None:
    onnx.save_model(_model(stride=2, mask=TensorProto.INT64), tmp_path / "s.onnx")
    with pytest.raises(ExportError, match="The mask is"):
        export_file(tmp_path / "s.onnx", FileConfig(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_engine_is_built_of_a_file(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX builds engines without a GPU, and is not installed")
    onnx.save_model(_model(dtype=TensorProto.UINT8, layout="NHWC", stride=4), tmp_path / "s.onnx")
    outcome = export_file(tmp_path / "s.onnx", FileConfig(trt=True, engine=EngineOptions(tf32=True)), tmp_path / "out")
    assert outcome.engine is not None
    assert outcome.engine.tf32
    assert (tmp_path / "out" / outcome.engine.plan).stat().st_size == outcome.engine.plan_bytes
