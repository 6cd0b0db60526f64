"""bf16: opset 22, weights and results of 8 significant bits, the range of float32."""

from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from prunekit_export.errors import ExportError, ExportUsageError
from prunekit_export.graph import save_onnx
from prunekit_export.parity.reference import RoundingRunner
from prunekit_export.precision import (
    BF16,
    HalfPass,
    NewerOpsetPass,
    half_of,
    macs_by_type,
    open_session,
    precision_name,
    rounded,
    scan_ranges,
)
from prunekit_export.workflow import ExportConfig
from prunekit_runtime.errors import RunnerError
from prunekit_runtime.running.ort import OrtRunner

Drawn = Callable[[int], onnx.ModelProto]


def _bf16(model: onnx.ModelProto, *keep: str) -> onnx.ModelProto:
    return HalfPass(frozenset(keep), BF16)(NewerOpsetPass()(model).model).model


def _model(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], opset: int = 20) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


@pytest.mark.parametrize("seed", range(15))
def test_drawn_networks_give_what_the_onnx_package_gives(random_graph: Drawn, seed: int) -> None:
    low = _bf16(random_graph(seed))
    images = np.random.default_rng(seed).standard_normal((2, 3, 9, 14)).astype(np.float32)
    expected = np.asarray(ReferenceEvaluator(low).run(None, {"images": images})[0]).astype(np.float64)
    got = RoundingRunner(low).run(images)
    # Half a step of bf16 for each of up to a dozen operators, whose sums the evaluator takes in another order.
    np.testing.assert_allclose(got, expected, atol=np.abs(expected).max() * 2.0**-5)


@pytest.mark.parametrize("seed", range(15))
def test_all_products_of_drawn_networks_are_bf16_and_the_file_is_valid(
    random_graph: Drawn, seed: int, tmp_path: Path
) -> None:
    low = _bf16(random_graph(seed))
    save_onnx(low, tmp_path / "low.onnx")
    assert half_of(low) == BF16
    macs = macs_by_type(low, (1, 3, 8, 8))
    assert set(macs) <= {"bf16"}
    assert precision_name(low, macs) == "bf16"
    assert next(entry.version for entry in low.opset_import) == 22


def test_weights_are_rounded_once_from_float32() -> None:
    weights = np.random.default_rng(0).standard_normal((5, 3, 1, 1)).astype(np.float32) * np.float32(1e30)
    low = _bf16(_model([helper.make_node("Conv", ["images", "w"], ["logits"], name="conv")], {"w": weights}))
    (kept,) = [each for each in low.graph.initializer if each.data_type == TensorProto.BFLOAT16]
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(kept), weights.astype(ml_dtypes.bfloat16))


def test_what_overflows_in_fp16_does_not_in_bf16() -> None:
    weights = {"w": np.full((2, 3, 1, 1), 1e6, np.float32), "v": np.full((2, 2, 1, 1), 1e-6, np.float32)}
    nodes = [
        helper.make_node("Conv", ["images", "w"], ["large"], name="first"),
        helper.make_node("Conv", ["large", "v"], ["logits"], name="second"),
    ]
    images = np.ones((1, 3, 4, 4), np.float32)
    got = RoundingRunner(_bf16(_model(nodes, weights))).run(images)
    np.testing.assert_allclose(got, 6.0, rtol=2.0**-6)


def test_weights_that_fp16_would_make_zero_are_no_reason_to_keep_a_node_in_float32() -> None:
    weights = {"w": np.full((2, 3, 1, 1), 1e-9, np.float32), "v": np.full((2, 2, 1, 1), 1e9, np.float32)}
    nodes = [
        helper.make_node("Conv", ["images", "w"], ["small"], name="first"),
        helper.make_node("Conv", ["small", "v"], ["logits"], name="second"),
    ]
    images = [np.ones((1, 3, 4, 4), np.float32)]
    assert scan_ranges(_model(nodes, weights), images).keep_fp32 == {"first", "second"}
    assert not scan_ranges(_model(nodes, weights), images, BF16).keep_fp32


def test_a_named_node_stays_in_float32() -> None:
    weights = {"w": np.ones((2, 3, 1, 1), np.float32), "v": np.ones((2, 2, 1, 1), np.float32)}
    nodes = [
        helper.make_node("Conv", ["images", "w"], ["between"], name="first"),
        helper.make_node("Conv", ["between", "v"], ["logits"], name="second"),
    ]
    macs = macs_by_type(_bf16(_model(nodes, weights), "second"), (1, 3, 4, 4))
    assert macs == {"bf16": 2 * 3 * 16, "fp32": 2 * 2 * 16}


@pytest.mark.parametrize("seed", range(5))
def test_hard_swish_as_a_product_is_hard_swish(seed: int) -> None:
    model = _model([helper.make_node("HardSwish", ["images"], ["logits"], name="act")], {})
    images = np.random.default_rng(seed).uniform(-5, 5, (1, 3, 4, 4)).astype(np.float32)
    newer = NewerOpsetPass()(model).model
    assert [node.op_type for node in newer.graph.node] == ["HardSigmoid", "Mul"]
    expected, got = (open_session(each, optimise=False).run(None, {"images": images})[0] for each in (model, newer))
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_an_operator_that_changed_its_meaning_is_refused() -> None:
    weights = {"s": np.ones(1, np.float32), "b": np.zeros(1, np.float32)}
    node = helper.make_node("GroupNormalization", ["images", "s", "b"], ["logits"], name="norm", num_groups=1)
    with pytest.raises(ExportError, match=r"GroupNormalization \(norm\).*fp16 or fp32"):
        NewerOpsetPass()(_model([node], weights))
    with pytest.raises(ExportError, match="opset 21"):
        NewerOpsetPass()(_model([helper.make_node("Relu", ["images"], ["logits"])], {}, opset=21))


def test_a_cpu_says_that_it_has_no_bf16(tmp_path: Path) -> None:
    weights = {"w": np.ones((2, 3, 1, 1), np.float32)}
    low = _bf16(_model([helper.make_node("Conv", ["images", "w"], ["logits"], name="conv")], weights))
    onnx.save(low, tmp_path / "low.onnx")
    with pytest.raises(RunnerError, match="bf16 runs on a GPU or as an engine"):
        OrtRunner(tmp_path / "low.onnx")
    assert open_session(rounded(low), optimise=False)


def test_fp8_says_how_to_get_it() -> None:
    with pytest.raises(ExportUsageError, match=r"modelopt\.onnx\.quantization.*--quantize_mode fp8"):
        ExportConfig(precision="fp8")  # pyright: ignore[reportArgumentType]
