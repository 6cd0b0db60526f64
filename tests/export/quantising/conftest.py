from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

Draw = Callable[[int], onnx.ModelProto]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keep calibrations of tests out of the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def draw() -> Draw:
    return draw_network


def draw_network(seed: int) -> onnx.ModelProto:
    """Draw 3 to 9 layers over (N, C, 16, 24): convolutions of all kinds, biases, residual additions, activations."""
    random = np.random.default_rng(seed)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def tensor(values: np.ndarray) -> str:
        weights.append(numpy_helper.from_array(values.astype(np.float32), f"w{len(weights)}"))
        return weights[-1].name

    def conv(source: str, fan_in: int, fan_out: int, groups: int, size: int) -> str:
        gain = 1 / np.sqrt(fan_in / groups * size * size)
        scale = gain * 10.0 ** random.uniform(-3, 0.5, (fan_out, 1, 1, 1))  # channels of very different size
        weight = random.standard_normal((fan_out, fan_in // groups, size, size)) * scale
        weight[random.random(fan_out) < 0.1] = 0  # dead ones too
        inputs = [source, tensor(weight)]
        if random.random() < 0.7:
            inputs.append(tensor(random.standard_normal(fan_out)))
        output = f"t{len(nodes)}"
        pads = [size // 2] * 4
        nodes.append(helper.make_node("Conv", inputs, [output], name=f"conv{len(nodes)}", group=groups, pads=pads))
        return output

    def add(op: str, *inputs: str) -> str:
        output = f"t{len(nodes)}"
        nodes.append(helper.make_node(op, list(inputs), [output], name=f"{op}{len(nodes)}"))
        return output

    channels = int(random.choice([8, 16, 24]))
    last = conv("images", 3, channels, 1, 3)
    for _ in range(random.integers(1, 8)):
        before = last
        last = add("Relu", last) if random.random() < 0.7 else last
        groups = int(random.choice([1, 1, 2, channels]))
        last = conv(last, channels, channels, groups, int(random.choice([1, 3])))
        if random.random() < 0.4:
            last = add("Add", last, before)
    logits = conv(last, channels, 5, 1, 1)
    nodes[-1].output[0] = "logits"
    assert logits
    graph = helper.make_graph(
        nodes,
        "drawn",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, 16, 24])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 5, 16, 24])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
