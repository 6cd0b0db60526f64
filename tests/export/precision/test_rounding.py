"""An fp16 file run as float32 with roundings gives what the onnx package gives for the file itself."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from prunekit_export.parity.reference import RoundingRunner
from prunekit_export.precision import HalfPass, RoundingError, rounded


def _half(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], shape: list[object]) -> onnx.ModelProto:
    """Make a model from images (float32) over `half`, their fp16 form, to the tensor `logits`, fp16."""
    graph = helper.make_graph(
        [helper.make_node("Cast", ["images"], ["half"], to=TensorProto.FLOAT16), *nodes],
        "half",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT16, None)],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("seed", range(25))
def test_drawn_networks_give_what_the_onnx_package_gives(
    random_graph: Callable[[int], onnx.ModelProto], seed: int
) -> None:
    half = HalfPass()(random_graph(seed)).model
    images = np.random.default_rng(seed).standard_normal((2, 3, 9, 14)).astype(np.float32)
    expected = np.asarray(ReferenceEvaluator(half).run(None, {"images": images})[0], dtype=np.float64)
    got = RoundingRunner(half).run(images)
    # Half a step of fp16 for each of up to a dozen operators, whose sums the evaluator takes in another order.
    np.testing.assert_allclose(got, expected, atol=np.abs(expected).max() * 2.0**-8)
    assert got.dtype == np.float32


@pytest.mark.parametrize("seed", range(10))
def test_every_result_is_a_number_that_fp16_has(random_graph: Callable[[int], onnx.ModelProto], seed: int) -> None:
    half = HalfPass()(random_graph(seed)).model
    images = np.random.default_rng(seed).standard_normal((1, 3, 8, 8)).astype(np.float32)
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in onnx.shape_inference.infer_shapes(half).graph.value_info
    }
    names = [name for node in half.graph.node for name in node.output if types.get(name) == TensorProto.FLOAT16]
    watched = rounded(half)
    watched.graph.ClearField("output")
    watched.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    from prunekit_export.precision import open_session

    results = open_session(watched, optimise=False).run(names, {"images": images})
    assert names
    for name, result in zip(names, results, strict=True):
        np.testing.assert_array_equal(result, result.astype(np.float16).astype(np.float32), err_msg=name)


def test_an_overflow_between_two_operators_is_seen() -> None:
    nodes = [
        helper.make_node("Mul", ["half", "large"], ["huge"]),
        helper.make_node("Mul", ["huge", "small"], ["logits"]),
    ]
    weights = {"large": np.float16([60000]), "small": np.float16([1 / 60000])}
    got = RoundingRunner(_half(nodes, weights, [1, 1, 1, 2])).run(np.array([[[[1, 4]]]], np.float32))
    assert np.isinf(got[..., 1]).all()
    assert got[..., 0] == pytest.approx(1, abs=2e-3)


def test_subnormal_numbers_round_as_in_fp16() -> None:
    nodes = [helper.make_node("Mul", ["half", "small"], ["logits"])]
    images = np.float32([[[[3, 1.4, 1e-3, 0.37]]]])
    got = RoundingRunner(_half(nodes, {"small": np.float16([6e-8])}, [1, 1, 1, 4])).run(images)
    exact = images.astype(np.float16).astype(np.float32) * np.float32(np.float16(6e-8))
    np.testing.assert_array_equal(got, exact.astype(np.float16).astype(np.float32))


def test_a_sum_of_many_rounds_once() -> None:
    # 2049 ones: fp16 sums stop at 2048, and 2050 is the nearest number above that fp16 has.
    weights = {"w": np.ones((1, 2051, 1, 1), np.float16)}
    nodes = [helper.make_node("Conv", ["half", "w"], ["logits"])]
    got = RoundingRunner(_half(nodes, weights, [1, 2051, 1, 1])).run(np.ones((1, 2051, 1, 1), np.float32))
    assert got.item() == 2052


def test_a_subgraph_is_refused_by_the_operators_name() -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["half"], ["out"])],
        "b",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT16, None)],
    )
    other = helper.make_graph(
        [helper.make_node("Neg", ["half"], ["out2"])],
        "c",
        [],
        [helper.make_tensor_value_info("out2", TensorProto.FLOAT16, None)],
    )
    nodes = [helper.make_node("If", ["yes"], ["logits"], then_branch=branch, else_branch=other)]
    model = _half(nodes, {"yes": np.array([True])}, [1, 1, 1, 1])
    with pytest.raises(RoundingError, match="If"):
        rounded(model)


@pytest.mark.parametrize("operator", ["GridSample", "ConvTranspose"])
def test_operators_that_the_onnx_package_runs_in_python_take_no_time(operator: str) -> None:
    random = np.random.default_rng(0)
    if operator == "GridSample":
        weight = np.clip(random.standard_normal((1, 128, 256, 2)), -1, 1)
        shape, options = (1, 64, 128, 256), {}
    else:
        weight = random.standard_normal((64, 32, 4, 4)) / 32
        shape, options = (1, 64, 64, 96), {"strides": [2, 2], "pads": [1, 1, 1, 1]}
    nodes = [helper.make_node(operator, ["half", "w"], ["logits"], **options)]
    runner = RoundingRunner(_half(nodes, {"w": weight.astype(np.float16)}, list(shape)))
    # In Python either would outlast the time limit of a test.
    got = runner.run(random.standard_normal(shape).astype(np.float32))
    assert np.isfinite(got).all()
    assert got.std() > 0
