import onnx
import pytest
from onnx import TensorProto, helper

from prunekit_export.graph import ExportReport
from prunekit_export.graph.pass_base import run_passes
from prunekit_export.graph.strip import StripPass


@pytest.fixture
def talkative() -> onnx.ModelProto:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["images"], ["inner"], doc_string="/home/someone/net.py:3")],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, [1], doc_string="/home/someone")],
    )
    nodes = [
        helper.make_node("If", ["yes"], ["logits"], then_branch=branch, else_branch=branch),
        helper.make_node("Identity", ["images"], ["other"], name="If_0"),
    ]
    graph = helper.make_graph(
        nodes,
        "main",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1])],
        [helper.make_tensor("yes", TensorProto.BOOL, [], [True])],
        doc_string="/home/someone",
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    for proto in (graph.node[0], graph.node[0].attribute[0].g.node[0], graph.input[0], graph.initializer[0], graph):
        proto.metadata_props.add(key="pkg.torch.onnx.stack_trace", value="/home/someone/net.py")
    model.graph.CopyFrom(graph)
    model.metadata_props.add(key="pkg.torch.program", value="/home/someone")
    model.metadata_props.add(key="prunekit.classes", value="sky,road")
    return model


def test_nothing_of_the_build_host_is_left(talkative: onnx.ModelProto) -> None:
    result = StripPass()(talkative)
    assert result.modified
    assert b"/home/someone" not in result.model.SerializeToString()
    assert b"/home/someone" in talkative.SerializeToString(), "the argument stays as it was"
    assert [(p.key, p.value) for p in result.model.metadata_props] == [("prunekit.classes", "sky,road")]


def test_every_node_has_a_name_of_its_own(talkative: onnx.ModelProto) -> None:
    names = [node.name for node in StripPass()(talkative).model.graph.node]
    assert all(names)
    assert len(set(names)) == len(names)


def test_second_run_changes_nothing(talkative: onnx.ModelProto) -> None:
    once = StripPass()(talkative).model
    again = run_passes(once, [StripPass(), StripPass()])
    assert not again.modified
    assert again.model is once


def test_exported_file_names_no_path_of_this_machine(dynamic_file: ExportReport) -> None:
    content = dynamic_file.path.read_bytes()
    for trace in (b"site-packages", b"conftest", b"stack_trace", b"/torch/", b"pkg."):
        assert trace not in content
