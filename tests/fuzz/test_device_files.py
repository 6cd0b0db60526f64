"""What a device reads: golden files, ONNX files, the headers of engines."""

import io
import zipfile

import numpy as np
import pytest

from prunekit_runtime.measuring.golden import GoldenCheck
from prunekit_runtime.running.ort import OrtRunner
from prunekit_runtime.running.plan import read_plan_header


def test_golden(fuzz, mutate, tmp_path):
    generator = np.random.default_rng(0)
    images, logits = (generator.standard_normal((1, channels, 6, 8)).astype(np.float32) for channels in (3, 5))
    picture = generator.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    GoldenCheck(images, logits, picture).save(tmp_path / "whole.npz")
    whole = (tmp_path / "whole.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "whole.npz") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}

    def make(draw):
        if draw.random() < 0.4:
            return mutate.bytes(draw, whole)
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
            damaged = draw.choice(sorted(members))
            for name, content in members.items():
                head = mutate.bytes(draw, content[:128], most=2) + content[128:] if name == damaged else content
                archive.writestr(name, head)
        return stream.getvalue()

    fuzz(make, GoldenCheck.load, "golden.npz")


def test_engine_header(fuzz, mutate):
    content = b"ftrt" + bytes(20) + bytes((10, 3, 0, 26)) + bytes(100)
    fuzz(lambda draw: mutate.bytes(draw, content), read_plan_header, "model.plan")


@pytest.fixture(scope="module")
def model():
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    h, kind = onnx.helper, onnx.TensorProto.FLOAT
    weights = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    sizes = np.array([1, 4, 8, 12], np.int64)
    graph = h.make_graph(
        [
            h.make_node("Conv", ["images", "weights"], ["features"], pads=[1, 1, 1, 1], strides=[2, 2]),
            h.make_node("Relu", ["features"], ["active"]),
            h.make_node("Resize", ["active", "", "", "sizes"], ["logits"], mode="linear"),
        ],
        "segmenter",
        [h.make_tensor_value_info("images", kind, [1, 3, 8, 12])],
        [h.make_tensor_value_info("logits", kind, [1, 4, 8, 12])],
        [onnx.numpy_helper.from_array(weights, "weights"), onnx.numpy_helper.from_array(sizes, "sizes")],
    )
    return h.make_model(graph, opset_imports=[h.make_opsetid("", 20)], ir_version=10)


def test_onnx(fuzz, mutate, model):
    content = model.SerializeToString()
    numbers = (0, -1, 1, 3, 7, 2**31, 2**40, 2**62)
    words = ("", "images", "a" * 6000, "\x1b[2J", "Loop", "ConstantOfShape", "../../x", "é")

    def make(draw):
        if draw.random() < 0.5:
            return mutate.bytes(draw, content)
        damaged = type(model).FromString(content)
        for _ in range(draw.randint(1, 3)):
            _damage(draw, damaged.graph)
        return damaged.SerializeToString()

    def _damage(draw, graph):
        value = draw.choice((*graph.input, *graph.output))
        tensor, node = draw.choice(graph.initializer), draw.choice(graph.node)
        choice = draw.randrange(8)
        if choice == 0:
            draw.choice(value.type.tensor_type.shape.dim).dim_value = draw.choice(numbers)
        elif choice == 1:
            tensor.dims[draw.randrange(len(tensor.dims))] = draw.choice(numbers)
        elif choice == 2:
            node.op_type = draw.choice(words)
        elif choice == 3:
            draw.choice((tensor, node, value, graph)).name = draw.choice(words)
        elif choice == 4:
            node.input[draw.randrange(len(node.input))] = draw.choice(words)
        elif choice == 5:
            value.type.tensor_type.elem_type = draw.choice((0, 2, 7, 10, 99))
        elif choice == 6 and node.attribute:
            attribute = draw.choice(node.attribute)
            attribute.ints.extend([draw.choice(numbers)]) if attribute.ints else setattr(attribute, "s", b"\xff")
        else:
            tensor.data_location, tensor.raw_data = 1, b""
            entry = tensor.external_data.add()
            entry.key, entry.value = "location", draw.choice(("/etc/passwd", "../x", "/dev/zero", "x"))

    def read(path):
        with OrtRunner(path) as runner:
            runner.run(np.zeros((1, 3, 8, 12), np.float32))

    fuzz(make, read, "model.onnx")
