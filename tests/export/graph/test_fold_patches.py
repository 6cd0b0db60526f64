"""`fold` in files: the sums of torch, without the operator Col2Im."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunekit_export.graph import export_onnx
from prunekit_export.graph.fold_patches import folded
from prunekit_export.parity import parity


@pytest.mark.parametrize("seed", range(60))
def test_drawn_patches_are_added_up_as_in_torch(seed: int) -> None:
    random = np.random.default_rng(seed)
    kernel, gaps, border, step = (tuple(random.integers(low, high, 2).tolist()) for low, high in _RANGES)
    if seed % 3 == 0:
        gaps, border, step = (1, 1), (0, 0), kernel  # side by side
    size = [int(random.integers(gap * (side - 1) + 1, 15)) for gap, side in zip(gaps, kernel, strict=True)]
    options = {"kernel_size": kernel, "dilation": gaps, "padding": border, "stride": step}
    images = torch.from_numpy(random.standard_normal((2, 3, *size)))
    patches = torch.randn_like(F.unfold(images, **options))
    torch.testing.assert_close(folded(patches, size, **options), F.fold(patches, size, **options))
    torch.testing.assert_close(folded(patches[0], size, **options), F.fold(patches[0], size, **options))


_RANGES = ((1, 5), (1, 3), (0, 3), (1, 4))


class Patched(nn.Module):
    def __init__(self, kernel: int, step: int) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1)
        self.kernel, self.step = kernel, step

    def forward(self, images: Tensor) -> Tensor:
        features = self.first(images)
        patches = F.unfold(features, kernel_size=self.kernel, stride=self.step)
        return self.last(F.fold(patches.relu(), features.shape[2:], kernel_size=self.kernel, stride=self.step))


@pytest.mark.parametrize(("kernel", "step"), [(2, 2), (4, 2)])
@pytest.mark.parametrize("dynamic", [False, True])
def test_files_have_no_col2im_and_compute_the_network(kernel: int, step: int, dynamic: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Patched(kernel, step).eval()
    path = export_onnx(network, tmp_path / "m.onnx", height=16, width=24, dynamic=dynamic, batch=1, stride=4).path
    assert "Col2Im" not in {node.op_type for node in onnx.load_model(path).graph.node}
    shapes = [(1, 16, 24), *([(2, 12, 32), (1, 20, 8)] if dynamic else [])]
    assert parity(network, path, shapes=shapes).max_rel < 1e-5
