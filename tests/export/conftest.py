from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper
from torch import Tensor, nn

from prunekit_export.graph import ExportReport, export_onnx


class TinyNet(nn.Module):
    """Two scales, concat, resize by size: odd sizes work without padding."""

    def __init__(self, num_classes: int = 5, gain: float = 1.0) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 8, 3, 2, 1)
        self.head = nn.Conv2d(14, num_classes, 1)
        self.gain = gain

    def forward(self, images_B3HW: Tensor) -> Tensor:
        fine = F.relu(self.norm(self.first(images_B3HW))) * self.gain / self.gain
        coarse = F.relu(self.second(fine))
        coarse = F.interpolate(coarse, fine.shape[-2:], mode="bilinear", align_corners=False)
        logits = self.head(torch.cat([fine, coarse], dim=1))
        return F.interpolate(logits, images_B3HW.shape[-2:], mode="bilinear", align_corners=False)


@pytest.fixture(scope="session")
def tiny_net() -> TinyNet:
    torch.set_num_threads(1)
    torch.manual_seed(3)
    net = TinyNet()
    nn.init.normal_(net.norm.weight, 1.0, 0.3)
    nn.init.normal_(net.norm.running_mean, 0.0, 0.3)
    return net


@pytest.fixture(scope="session")
def dynamic_file(tiny_net: TinyNet, tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    path = tmp_path_factory.mktemp("dynamic") / "model.onnx"
    return export_onnx(tiny_net, path, height=32, width=48, dynamic=True, metadata={"prunekit.note": "kept"})


@pytest.fixture(scope="session")
def static_file(tiny_net: TinyNet, tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    path = tmp_path_factory.mktemp("static") / "model.onnx"
    return export_onnx(tiny_net, path, height=33, width=47, batch=2, dynamic=False)


@pytest.fixture(scope="session")
def overflowing_net() -> TinyNet:
    torch.manual_seed(4)
    return TinyNet(gain=3e5)


@pytest.fixture
def random_graph() -> Callable[[int], onnx.ModelProto]:
    return draw_graph


def draw_graph(seed: int) -> onnx.ModelProto:
    """Draw a model of 4 to 12 nodes over (N, 4, h, w): convolutions, element-wise ops, resizes, shape arithmetic."""
    random = np.random.default_rng(seed)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def weight(*shape: int, scale: float = 0.3) -> str:
        name = f"w{len(weights)}"
        values = random.normal(0, scale, shape).astype(np.float32)
        weights.append(onnx.numpy_helper.from_array(values, name))
        return name

    def integers(*values: int) -> str:
        name = f"w{len(weights)}"
        weights.append(onnx.numpy_helper.from_array(np.array(values, dtype=np.int64), name))
        return name

    def add(op: str, *inputs: str, **attributes: object) -> str:
        name = f"t{len(nodes)}"
        nodes.append(helper.make_node(op, list(inputs), [name], name=f"{op}_{len(nodes)}", **attributes))
        return name

    def conv(x: str) -> str:
        return add("Conv", x, weight(4, 4, 3, 3, scale=0.15), weight(4), pads=[1, 1, 1, 1])

    def there_and_back(x: str) -> str:
        scales = onnx.numpy_helper.from_array(np.array([1, 1, 2, 2], dtype=np.float32), f"scales{len(weights)}")
        weights.append(scales)
        size = add("Shape", x)
        return add("Resize", add("Resize", x, "", scales.name, mode="linear"), "", "", size, mode="linear")

    def per_pixel(x: str) -> str:
        # Shape arithmetic in float32: the number of pixels, which fp16 could not hold for real images.
        count = add(
            "Cast", add("ReduceProd", add("Slice", add("Shape", x), integers(2), integers(4)), keepdims=0), to=1
        )
        return add("Div", add("Mul", x, count), count)

    def pooled(x: str) -> str:
        return add("Add", x, add("ReduceMean", x, integers(2, 3)))

    def gate(x: str) -> str:
        return add("Mul", x, add("Sigmoid", x))

    def constant(x: str) -> str:
        value = onnx.numpy_helper.from_array(np.full((), 0.5, dtype=np.float32))
        return add("Add", x, add("Constant", value=value))

    steps = [conv, there_and_back, per_pixel, pooled, gate, constant, lambda x: add("Relu", x)]
    tensors = [add("Conv", "images", weight(4, 3, 1, 1))]
    for _ in range(random.integers(2, 7)):
        tensors.append(steps[random.integers(len(steps))](tensors[random.integers(len(tensors))]))
        if random.random() < 0.4:
            tensors.append(add("Add", tensors[-1], tensors[random.integers(len(tensors))]))
    nodes.append(helper.make_node("Identity", [tensors[-1]], ["logits"], name="last"))
    graph = helper.make_graph(
        nodes,
        "drawn",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 4, "h", "w"])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
