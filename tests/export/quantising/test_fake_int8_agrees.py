"""What quantisation-aware training sees is what an int8 file computes."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from prunekit.training.fake_int8 import FakeInt8, suits_int8
from prunekit_export.graph import export_onnx
from prunekit_export.precision import open_session
from prunekit_export.quantising import calibrated, layers_of, quantised

CLASSES = 5


MIDDLES = {
    "conv": lambda: nn.Conv2d(16, 32, 3, padding=1, stride=2),
    "grouped": lambda: nn.Conv2d(16, 32, 3, padding=1, groups=16),
    "pointwise": lambda: nn.Conv2d(16, 32, 1, bias=False),
    "transposed": lambda: nn.ConvTranspose2d(16, 32, 2, stride=2),
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", MIDDLES)
def test_a_file_computes_what_the_training_sees(kind: str, seed: int, tmp_path: Path) -> None:
    torch.manual_seed(seed)
    ends = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(32, CLASSES, 1)  # too few channels; the classifier
    network = nn.Sequential(ends[0], nn.ReLU(), MIDDLES[kind](), nn.ReLU(), ends[1]).eval()
    images = torch.randn(1, 3, 16, 24)
    path = export_onnx(network, tmp_path / "m.onnx", height=16, width=24, dynamic=False, batch=1, stride=1).path
    model = onnx.load_model(path)
    layers = layers_of(model)
    assert len(layers.quantised) == 1
    low = quantised(model, calibrated(path, [images.numpy()], "minmax"), layers.quantised)
    got = open_session(low, optimise=False).run(None, {model.graph.input[0].name: images.numpy()})[0]
    with torch.no_grad():
        plain = network(images).numpy()
        with FakeInt8(CLASSES):
            seen = network(images).numpy()
    apart = np.abs(seen - plain).mean()
    assert apart > 0, "int8 rounds something"
    # A value between two levels may fall either way by the order of sums before it.
    assert np.abs(got - seen).mean() < 0.02 * apart


@pytest.mark.parametrize("seed", range(30))
def test_the_same_layers_are_left_out(seed: int) -> None:
    random = np.random.default_rng(seed)
    channels_in, channels_out, groups = (int(random.choice([4, 8, 12, 16, 20, 24])) for _ in range(3))
    groups = groups if channels_in % groups == 0 and channels_out % groups == 0 else 1
    weight = np.zeros((channels_out, channels_in // groups, 1, 1), np.float32)
    last = np.zeros((CLASSES, channels_out, 1, 1), np.float32)
    helper = onnx.helper
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"], name="asked", group=groups),
        helper.make_node("Conv", ["y", "v"], ["z"], name="last"),
    ]
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, channels, 4, 4])
        for name, channels in (("x", channels_in), ("z", CLASSES))
    ]
    weights = [onnx.numpy_helper.from_array(weight, "w"), onnx.numpy_helper.from_array(last, "v")]
    model = helper.make_model(helper.make_graph(nodes, "two", ends[:1], ends[1:], weights))
    assert ("asked" in layers_of(model).quantised) == suits_int8(channels_in, channels_out, groups)
