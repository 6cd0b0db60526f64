"""Narrow strided 1x1 convolutions compute on contiguous copies, and training them damages no memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from prunekit.models.narrow import NarrowConvolutionsContiguous

ROOT = Path(__file__).parents[3]

# Without the context this ends in SIGABRT or SIGSEGV on a CPU with AVX2 and no AVX-512, which the environment asks for.
TRAINED = """
import torch
from torch import nn
from prunekit.models.narrow import NarrowConvolutionsContiguous

torch.set_num_threads(1)
for channels in range(1, 8):
    for size in range(7, 17):
        layer = nn.Conv2d(channels, 8, 1, stride=2)
        images_BCHW = torch.randn(2, size, size, channels).movedim(-1, 1).requires_grad_()
        with NarrowConvolutionsContiguous():
            layer(images_BCHW).square().sum().backward()
        others = [torch.empty(17 * n) for n in range(1, 40)]
"""

TRAINED_BY_FIT = """
import sys
from pathlib import Path
import torch
from prunekit.recipe import parse_recipe
from prunekit.run import RunDirectory
from prunekit.workflows.train import train

recipe = parse_recipe({
    "model": {"name": "python:prunekit.models.street:street_net?width=4"},
    "data": {"train_images": 8, "val_images": 1, "height": 32, "width": 32},
    "train": {"epochs": 2, "batch_size": 2, "threads": 1, "device": "cpu", "channels_last": True},
})
for number in range(3):
    train(recipe, RunDirectory(Path(sys.argv[1]) / str(number)), resume=False)
"""


def _run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "deploy")]),
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
    }
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, env=environment, check=False
    )


def test_narrow_convolutions_damage_no_memory() -> None:
    ended = _run(TRAINED)
    assert ended.returncode == 0, ended.stderr


def test_training_a_narrow_network_damages_no_memory(tmp_path: Path) -> None:
    ended = _run(TRAINED_BY_FIT, str(tmp_path))
    assert ended.returncode == 0, ended.stderr


def _gradients(layer: nn.Conv2d, images_BCHW: Tensor) -> list[Tensor]:
    images_BCHW = images_BCHW.detach().requires_grad_()
    layer.zero_grad()
    out_BOHW = layer(images_BCHW)
    out_BOHW.square().sum().backward()
    assert images_BCHW.grad is not None
    return [out_BOHW.detach(), images_BCHW.grad, *(p.grad for p in layer.parameters() if p.grad is not None)]


@pytest.mark.parametrize("channels", [1, 2, 7, 8, 15])
@pytest.mark.parametrize("stride", [2, (1, 3)])
def test_values_and_gradients_are_those_of_the_layer(channels: int, stride: int | tuple[int, int]) -> None:
    torch.manual_seed(channels)
    layer = nn.Conv2d(channels, 5, 1, stride=stride).double().to(memory_format=torch.channels_last)
    images_BCHW = torch.randn(2, channels, 9, 12, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    expected = _gradients(layer, images_BCHW)
    with NarrowConvolutionsContiguous():
        got = _gradients(layer, images_BCHW)
    for want, have in zip(expected, got, strict=True):
        torch.testing.assert_close(have, want)


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "copied"),
    [(4, 1, 2, True), (1, 1, 2, True), (15, 1, 3, True), (16, 1, 2, False), (4, 1, 1, False), (4, 3, 2, False)],
)
def test_only_narrow_strided_1x1_convolutions_change_their_layout(
    channels: int, kernel: int, stride: int, copied: bool
) -> None:
    layer = nn.Conv2d(channels, 8, kernel, stride=stride).to(memory_format=torch.channels_last)
    images_BCHW = torch.randn(2, 12, 12, channels).movedim(-1, 1)
    with NarrowConvolutionsContiguous():
        node = layer(images_BCHW).grad_fn
    used_BCHW: Tensor = node._saved_input
    assert (used_BCHW.stride() != images_BCHW.stride()) == copied
