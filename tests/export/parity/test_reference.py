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
