"""The fp16 pass on drawn graphs: valid, typed as promised, and close to float32 by the reference evaluator."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from prunekit_export.errors import ExportError
from prunekit_export.precision import HalfPass
from prunekit_export.precision.half import unsafe_weight_nodes

Draw = Callable[[int], onnx.ModelProto]
relaxed = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    values = {v.name: v.type.tensor_type.elem_type for v in (*inferred.value_info, *inferred.input, *inferred.output)}
    return values | {w.name: w.data_type for w in inferred.initializer}


def casts(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == "Cast"]


def evaluate(model: onnx.ModelProto, images_N3hw: np.ndarray) -> np.ndarray:
    return ReferenceEvaluator(model).run(None, {"images": images_N3hw})[0]


def one_node(op: str, *, weight: float = 1.0, **attributes: object) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node(op, ["images", "w"], ["logits"], name="only", **attributes)],
        "one",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3, 4, 4])],
        [onnx.numpy_helper.from_array(np.full((3, 1, 1), weight, dtype=np.float32), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@relaxed
@given(seed=st.integers(0, 2**31))
def test_drawn_graph_stays_close_and_valid(random_graph: Draw, seed: int) -> None:
    model = random_graph(seed)
    before = model.SerializeToString(deterministic=True)
    result = HalfPass()(model)
    assert result.modified
    assert model.SerializeToString(deterministic=True) == before
    onnx.checker.check_model(result.model, full_check=True)
    images = np.random.default_rng(seed).standard_normal((1, 3, 5, 7)).astype(np.float32)
    full, half = evaluate(model, images), evaluate(result.model, images)
    assert half.dtype == np.float32
    assert np.abs(full - half).max() <= 2e-2 * max(1.0, float(np.abs(full).max()))


@relaxed
@given(seed=st.integers(0, 2**31), kept=st.sets(st.integers(0, 30)))
def test_each_cast_stands_between_fp16_and_fp32(random_graph: Draw, seed: int, kept: set[int]) -> None:
    model = random_graph(seed)
    names = [node.name for node in model.graph.node if node.op_type != "Constant"]
    keep = frozenset(names[index] for index in kept if index < len(names))
    converted = HalfPass(keep)(model).model
    types = types_of(converted)
    own = {node.name for node in casts(model)}
    added = [node for node in casts(converted) if node.name not in own]
    pairs = [(types[node.input[0]], types[node.output[0]]) for node in added]
    assert set(pairs) <= {(TensorProto.FLOAT, TensorProto.FLOAT16), (TensorProto.FLOAT16, TensorProto.FLOAT)}
    assert len({(node.input[0], types[node.output[0]]) for node in added}) == len(added), "one Cast per tensor"
    for node in converted.graph.node:
        if node.name in keep:
            assert TensorProto.FLOAT16 not in {types[name] for name in node.output if name}, node.name


@relaxed
@given(seed=st.integers(0, 2**31))
def test_second_run_changes_nothing(random_graph: Draw, seed: int) -> None:
    once = HalfPass()(random_graph(seed)).model
    assert TensorProto.FLOAT not in {w.data_type for w in once.graph.initializer if len(w.dims) == 4}
    again = HalfPass()(once)
    assert not again.modified
    assert again.model is once


@pytest.mark.parametrize("fixture", ["dynamic_file", "static_file"])
def test_exported_network_has_two_casts_and_half_the_weights(fixture: str, request: pytest.FixtureRequest) -> None:
    model = onnx.load_model(request.getfixturevalue(fixture).path)
    converted = HalfPass()(model).model
    assert len(casts(converted)) == 2
    assert [v.type.tensor_type.elem_type for v in (*converted.graph.input, *converted.graph.output)] == [1, 1]
    types = types_of(converted)
    for node in converted.graph.node:
        if node.op_type == "Conv":
            assert {types[name] for name in (*node.input, *node.output)} == {TensorProto.FLOAT16}
    assert {p.key: p.value for p in converted.metadata_props} == {p.key: p.value for p in model.metadata_props}


def test_resize_scales_stay_float32(random_graph: Draw) -> None:
    resizes = 0
    for seed in range(12):
        converted = HalfPass()(random_graph(seed)).model
        types = types_of(converted)
        for node in converted.graph.node:
            if node.op_type == "Resize" and len(node.input) == 3:
                resizes += 1
                assert types[node.input[2]] == TensorProto.FLOAT
                assert types[node.input[0]] == TensorProto.FLOAT16
    assert resizes


@pytest.mark.parametrize("weight", [1e5, -7e4, 1e-9])
def test_weight_that_does_not_fit_is_refused_and_named(weight: float) -> None:
    model = one_node("Mul", weight=weight)
    assert unsafe_weight_nodes(model) == {"only"}
    with pytest.raises(ExportError, match="Weight w of node only does not fit fp16"):
        HalfPass()(model)
    assert not HalfPass(frozenset({"only"}))(model).modified


@pytest.mark.parametrize("weight", [65504.0, -65504.0, 6e-8, 0.0])
def test_weight_at_the_edge_of_fp16_is_taken(weight: float) -> None:
    model = one_node("Mul", weight=weight)
    assert not unsafe_weight_nodes(model)
    assert HalfPass()(model).modified


def test_unknown_name_in_keep_fp32_is_refused() -> None:
    with pytest.raises(ExportError, match="names nobody, and the file has no such node"):
        HalfPass(frozenset({"nobody"}))(one_node("Mul"))


def test_subgraph_and_foreign_operator_are_refused() -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["images"], ["inner"])],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, [1, 3, 4, 4])],
    )
    model = one_node("Mul")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "yes"))
    choice = helper.make_node("If", ["yes"], ["chosen"], name="choice", then_branch=branch, else_branch=branch)
    model.graph.node.append(choice)
    with pytest.raises(ExportError, match=r"choice \(If\) holds a subgraph"):
        HalfPass()(model)
    foreign = one_node("Mul")
    foreign.graph.node[0].domain = "com.microsoft"
    with pytest.raises(ExportError, match=r"com\.microsoft\.Mul"):
        HalfPass()(foreign)
