"""An ONNX file of a bundle holds all of its weights: one that names another file is refused, wherever it does so."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunekit_runtime.bundle import one_file, open_bundle
from prunekit_runtime.bundle.one_file import refuse_external_data
from prunekit_runtime.errors import BundleError

onnx = pytest.importorskip("onnx")
DecodeError = pytest.importorskip("google.protobuf.message").DecodeError
PLACES = (
    "initializer",
    "node",
    "list of a node",
    "branch",
    "branch of a branch",
    "sparse initializer",
    "sparse node",
    "function",
    "default of a function",
    "training",
)


def tensor(name: str, location: str | None) -> Any:
    """Return a small tensor, here or in another file."""
    made = onnx.numpy_helper.from_array(np.arange(3, dtype=np.float32), name)
    if location is not None:
        made.ClearField("raw_data")
        made.data_location = onnx.TensorProto.EXTERNAL
        made.external_data.add(key="location", value=location)
    return made


def sparse(values: Any) -> Any:
    """Return a sparse tensor of given values."""
    return onnx.helper.make_sparse_tensor(values, onnx.numpy_helper.from_array(np.arange(3)), [5])


def graph(*nodes: Any, **kept: Any) -> Any:
    """Return a graph of given nodes."""
    return onnx.helper.make_graph(list(nodes), "graph", [], [], **kept)


def model_with(place: str, value: Any) -> Any:
    """Return a model that holds a tensor in one place."""
    make_node, make_model = onnx.helper.make_node, onnx.helper.make_model
    constant = make_node("Constant", [], ["c"], value=value)
    branch = make_node("If", ["i"], ["o"], then_branch=graph(constant))
    function: Any = onnx.helper.make_function("own", "F", [], ["c"], [constant], [])
    if place == "default of a function":
        del function.node[:]
        function.attribute_proto.append(onnx.helper.make_attribute("value", value))
    graphs = {
        "initializer": lambda: graph(initializer=[value]),
        "node": lambda: graph(constant),
        "list of a node": lambda: graph(make_node("Own", [], ["c"], values=[value, value])),
        "branch": lambda: graph(branch),
        "branch of a branch": lambda: graph(make_node("If", ["i"], ["o"], branches=[graph(branch)])),
        "sparse initializer": lambda: graph(sparse_initializer=[sparse(value)]),
        "sparse node": lambda: graph(make_node("Constant", [], ["c"], sparse_value=sparse(value))),
    }
    model = make_model(graphs.get(place, graph)(), functions=[function] if "function" in place else [])
    if place == "training":
        model.training_info.add().algorithm.CopyFrom(graph(constant))
    return model


def is_refused(path: Path, content: bytes) -> bool:
    """Say whether bytes are refused."""
    path.write_bytes(content)
    try:
        refuse_external_data(path)
    except BundleError:
        return True
    return False


def names_another_file(message: Any) -> bool:
    """Say whether protobuf itself finds a tensor in another file, in any field of any message."""
    if message.DESCRIPTOR.name == "TensorProto" and (message.data_location != 0 or message.external_data):
        return True
    inner = (value for field, value in message.ListFields() if field.message_type is not None)
    each = (item for value in inner for item in ([value] if hasattr(value, "ListFields") else value))
    return any(names_another_file(item) for item in each)


@pytest.mark.parametrize("place", PLACES)
def test_a_tensor_in_another_file_is_found_wherever_it_stands(tmp_path, place):
    path = tmp_path / "model.onnx"
    path.write_bytes(model_with(place, tensor("secret", None)).SerializeToString())
    refuse_external_data(path)
    path.write_bytes(model_with(place, tensor("secret", "../../etc/passwd")).SerializeToString())
    with pytest.raises(BundleError, match=r"keeps weights \(secret\) in another file.*Write the bundle again"):
        refuse_external_data(path)


def test_a_bundle_whose_model_names_another_file_does_not_open_though_every_hash_is_right(folder, sealed):
    content = model_with("initializer", tensor("w", "fp32.weights")).SerializeToString()
    (folder / "models/fp32.onnx").write_bytes(content)
    (folder / "models/fp32.weights").write_bytes(bytes(12))
    sealed(folder)
    with pytest.raises(BundleError, match=r"models/fp32\.onnx keeps weights \(w\) in another file"):
        open_bundle(folder)


def test_half_of_what_names_another_file_is_enough(tmp_path):
    for field in ("data_location", "external_data"):
        value = tensor("w", "x")
        value.ClearField(field)
        assert is_refused(tmp_path / "model.onnx", model_with("initializer", value).SerializeToString())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"no onnx", "a value of the kind 6|cut short"),
        (b"\x3a\x05\x2a", "cut short"),
        (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "more than ten bytes"),
        (b"\x02\x00", "the field 0"),
        (b"\xba\x80\x80\x80\x80\x01\x00", "the field"),
        (b"\x0b", "a value of the kind 3"),
    ],
)
def test_bytes_that_are_no_onnx_file_are_refused(tmp_path, content, says):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=f"no readable ONNX file: .*({says})"):
        refuse_external_data(path)


def test_a_deep_file_and_one_of_countless_fields_end_in_a_refusal(tmp_path, monkeypatch):
    value, step = b"", 0
    while step < one_file.MAX_DEPTH:  # a graph in an attribute in a node in a graph ...
        for field in (b"\x32", b"\x2a", b"\x0a"):
            value, step = field + _varint(len(value)) + value, step + 1
    assert is_refused(tmp_path / "deep.onnx", b"\x3a" + _varint(len(value)) + value)
    monkeypatch.setattr(one_file, "MAX_FIELDS", 100)
    assert not is_refused(tmp_path / "many.onnx", b"\x08\x01" * 100)
    assert is_refused(tmp_path / "many.onnx", b"\x08\x01" * 101)


def test_a_link_to_a_model_is_not_followed(tmp_path):
    (tmp_path / "real.onnx").write_bytes(model_with("node", tensor("w", None)).SerializeToString())
    os.symlink(tmp_path / "real.onnx", tmp_path / "model.onnx")
    with pytest.raises(OSError, match="model"):
        refuse_external_data(tmp_path / "model.onnx")


@given(data=st.data())
def test_whatever_is_damaged_protobuf_finds_no_other_file_in_what_is_let_through(tmp_path_factory, data):
    place = data.draw(st.sampled_from(PLACES))
    content = bytearray(model_with(place, tensor("w", data.draw(st.sampled_from((None, "x"))))).SerializeToString())
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    try:
        parsed = onnx.ModelProto.FromString(bytes(content))
    except DecodeError:
        is_refused(path, bytes(content))  # nothing but a BundleError comes out
        return
    assert is_refused(path, bytes(content)) or not names_another_file(parsed)


def _varint(value: int) -> bytes:
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*parts, value))
