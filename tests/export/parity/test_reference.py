"""The fast convolution of the reference runner against the onnx package's own."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from prunekit_export.parity.reference import ReferenceRunner


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**31),
    groups=st.sampled_from([1, 3]),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    pads=st.lists(st.integers(0, 2), min_size=4, max_size=4),
    bias=st.booleans(),
    half=st.booleans(),
    auto_pad=st.sampled_from(["NOTSET", "SAME_UPPER", "VALID"]),
)
def test_convolution_equals_the_slow_one(
    seed: int, groups: int, stride: int, dilation: int, pads: list[int], bias: bool, half: bool, auto_pad: str
) -> None:
    random = np.random.default_rng(seed)
    kind = np.float16 if half else np.float32
    attributes = {"auto_pad": auto_pad, "strides": [stride] * 2, "group": groups}
    if auto_pad == "NOTSET":
        attributes |= {"pads": pads, "dilations": [dilation] * 2}
    weight = random.standard_normal((6, 3 // groups, 3, 3)).astype(kind)
    images = random.standard_normal((2, 3, 9, 8)).astype(kind)
    initialisers = [onnx.numpy_helper.from_array(weight, "w")]
    if bias:
        initialisers.append(onnx.numpy_helper.from_array(random.standard_normal(6).astype(kind), "b"))
    onnx_kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Conv", ["images", "w", "b"][: 2 + bias], ["logits"], **attributes)],
        "conv",
        [helper.make_tensor_value_info("images", onnx_kind, [2, 3, 9, 8])],
        [helper.make_tensor_value_info("logits", onnx_kind, None)],
        initialisers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    fast, slow = ReferenceRunner(model).run(images), ReferenceEvaluator(model).run(None, {"images": images})[0]
    assert fast.dtype == slow.dtype == kind
    np.testing.assert_allclose(fast, slow, atol=4e-2 if half else 1e-5)


def test_overflow_is_infinite_as_on_a_gpu() -> None:
    graph = helper.make_graph(
        [helper.make_node("Conv", ["images", "w"], ["logits"])],
        "overflow",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT16, [1, 1, 1, 1])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT16, [1, 1, 1, 1])],
        [onnx.numpy_helper.from_array(np.full((1, 1, 1, 1), 300, dtype=np.float16), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    runner = ReferenceRunner(model)
    assert np.isinf(runner.run(np.full((1, 1, 1, 1), 300, dtype=np.float16))).all()
    assert runner.name.startswith("onnx.reference")
    assert pytest.approx(600) == float(runner.run(np.full((1, 1, 1, 1), 2, dtype=np.float16)).max())


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**31),
    groups=st.sampled_from([1, 2, 4]),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    pads=st.lists(st.integers(0, 2), min_size=4, max_size=4),
    extra=st.lists(st.integers(0, 1), min_size=2, max_size=2),
    bias=st.booleans(),
)
def test_transposed_convolution_equals_onnx_runtime(
    seed: int, groups: int, stride: int, dilation: int, pads: list[int], extra: list[int], bias: bool
) -> None:
    """Not the onnx package's own, which fails on several groups."""
    from prunekit_export.precision import open_session

    random = np.random.default_rng(seed)
    attributes = {"strides": [stride] * 2, "group": groups, "pads": pads, "dilations": [dilation] * 2}
    if stride > 1:
        attributes["output_padding"] = extra
    weight = random.standard_normal((4, 3, 3, 3)).astype(np.float32)
    initialisers = [onnx.numpy_helper.from_array(weight, "w")]
    if bias:
        values = random.standard_normal(3 * groups).astype(np.float32)
        initialisers.append(onnx.numpy_helper.from_array(values, "b"))
    graph = helper.make_graph(
        [helper.make_node("ConvTranspose", ["images", "w", "b"][: 2 + bias], ["logits"], **attributes)],
        "transposed",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [2, 4, 6, 5])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        initialisers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    images = random.standard_normal((2, 4, 6, 5)).astype(np.float32)
    expected = open_session(model).run(None, {"images": images})[0]
    np.testing.assert_allclose(ReferenceRunner(model).run(images), expected, atol=1e-5)
