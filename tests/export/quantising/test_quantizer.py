"""Q/DQ nodes on drawn networks: as TensorRT takes them, exact in their scales, and close to float32."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from prunekit_export.errors import ExportError
from prunekit_export.graph import save_onnx
from prunekit_export.precision import HalfPass, macs_by_type
from prunekit_export.quantising import CALIBRATIONS, Ranges, calibrated, layers_of, quantised
from prunekit_export.quantising.layers import PRODUCTS
from prunekit_runtime.running.ort import OrtRunner

Draw = Callable[[int], onnx.ModelProto]
ZERO = 0


def products(model: onnx.ModelProto) -> list[str]:
    return [node.name for node in model.graph.node if node.op_type in PRODUCTS]


def saved(model: onnx.ModelProto, path: Path) -> Path:
    save_onnx(model, path, stride=1)
    return path


def images(seed: int, count: int = 2) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.standard_normal((1, 3, 16, 24)).astype(np.float32) for _ in range(count)]


@pytest.mark.drawn(40)
def test_a_drawn_network_is_quantised_as_tensorrt_takes_it(draw: Draw, tmp_path: Path, seed: int) -> None:
    model = draw(seed)
    before = model.SerializeToString(deterministic=True)
    chosen = [name for name in products(model) if np.random.default_rng(seed).random() < 0.8]
    ranges = calibrated(saved(model, tmp_path / "model.onnx"), images(seed), "minmax")
    result = quantised(model, ranges, chosen)
    assert model.SerializeToString(deterministic=True) == before
    onnx.checker.check_model(result, full_check=True)
    made = {name: node for node in result.graph.node for name in node.output}
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in result.graph.initializer}
    for node in result.graph.node:
        if node.name in chosen:  # directly, or the int8 kernel is lost
            assert [made[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2
            assert all(name not in made for name in node.input[2:])  # the bias stays a float
        elif node.name in products(model):
            assert all(made[name].op_type != "DequantizeLinear" for name in node.input if name in made)
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert tensors[node.input[2]].dtype == np.int8
            assert not tensors[node.input[2]].any()
            scales = tensors[node.input[1]]
            assert (scales > ZERO).all()
            assert (scales.astype(np.float16).astype(np.float32) == scales).all()


@pytest.mark.drawn(40)
def test_weights_are_off_by_half_a_step_at_most(draw: Draw, tmp_path: Path, seed: int) -> None:
    model = draw(seed)
    ranges = calibrated(saved(model, tmp_path / "model.onnx"), images(seed), "minmax")
    result = quantised(model, ranges, products(model))
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in result.graph.initializer}
    for weight in model.graph.initializer:
        levels = tensors.get(f"{weight.name}_quantized")
        if levels is None:
            continue
        scales = tensors[f"{weight.name}_scale"].reshape(-1, 1, 1, 1)
        error = np.abs(numpy_helper.to_array(weight) - levels * scales)
        assert (error <= scales * 0.5001).all()
        assert np.abs(levels).max() <= 127


@pytest.mark.drawn(30)
def test_numbers_stay_close_and_the_fp16_pass_keeps_the_int8_kernels(draw: Draw, tmp_path: Path, seed: int) -> None:
    model, shown = draw(seed), images(seed)
    path = saved(model, tmp_path / "model.onnx")
    chosen = products(model)
    result = quantised(model, calibrated(path, shown, "minmax"), chosen)
    half = HalfPass()(result).model
    onnx.checker.check_model(half, full_check=True)
    made = {name: node for node in half.graph.node for name in node.output}
    for node in half.graph.node:
        if node.name in chosen:
            assert [made[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2
    assert set(macs_by_type(half, (1, 3, 16, 24))) == {"int8"}
    with OrtRunner(path) as full, OrtRunner(saved(half, tmp_path / "int8.onnx"), optimise=False) as low:
        for image in shown:
            expected, got = full.run(image), low.run(image)
            assert np.abs(got - expected).max() <= 0.25 * np.abs(expected).max()
            assert np.abs(got - expected).mean() <= 0.15 * np.abs(expected).mean()


def test_nothing_to_quantise_changes_nothing(draw: Draw, tmp_path: Path) -> None:
    model = draw(0)
    ranges = calibrated(saved(model, tmp_path / "model.onnx"), images(0), "minmax")
    assert quantised(model, ranges, []).SerializeToString(deterministic=True) == model.SerializeToString(
        deterministic=True
    )


def test_a_range_that_is_missing_or_too_large_is_named(draw: Draw) -> None:
    model = draw(0)
    with pytest.raises(ExportError, match=r"images reaches 1\.0e"):
        quantised(model, Ranges("minmax", 1, {"images": 1e8}), products(model)[:1])
    with pytest.raises(ExportError, match="no range for images"):
        quantised(model, Ranges("minmax", 1, {}), products(model))


@pytest.mark.parametrize("method", CALIBRATIONS)
def test_residual_additions_read_a_product_that_is_not_quantised_again(method: str, draw: Draw, tmp_path: Path) -> None:
    model = next(drawn for drawn in map(draw, range(50)) if any(node.op_type == "Add" for node in drawn.graph.node))
    path = saved(model, tmp_path / "model.onnx")
    result = quantised(model, calibrated(path, images(1), method), products(model))  # type: ignore[arg-type]
    made = {name: node for node in result.graph.node for name in node.output}
    for node in result.graph.node:
        if node.op_type == "Add":
            assert made[node.input[0]].op_type == "Conv"


def test_what_is_worth_int8_is_quantised_and_the_rest_is_named(draw: Draw) -> None:
    for seed in range(20):
        model = draw(seed)
        layers = layers_of(model)
        assert {*layers.quantised, *(layer.name for layer in layers.kept)} == set(products(model))
        kept = {layer.name: layer.reason for layer in layers.kept}
        assert kept[products(model)[0]] == "it has 3 input channels, and int8 pays from 16 on"
        assert kept[products(model)[-1]] == "it gives the logits"
