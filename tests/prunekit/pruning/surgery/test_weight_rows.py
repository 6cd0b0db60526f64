"""Weights by the channels that they read: what a channel alone makes of each layer is its row."""

import copy

import pytest
import torch
from torch import nn

from prunekit.pruning.surgery import weight_rows
from prunekit.pruning.surgery.rows import set_weight_rows_

LAYERS = [
    nn.Linear(6, 4),
    nn.Conv2d(6, 4, (3, 2)),
    nn.Conv2d(6, 4, 3, groups=2),
    nn.ConvTranspose2d(6, 4, 3),
    nn.ConvTranspose2d(6, 4, 2, groups=2),
]


@pytest.mark.parametrize("layer", LAYERS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_are_a_copy_and_go_back_where_they_came_from(layer: nn.Module, dtype: torch.dtype) -> None:
    layer = copy.deepcopy(layer).to(dtype)
    before = layer.weight.detach().clone()
    rows_IOk = weight_rows(layer)
    rows_IOk += 1.0
    assert torch.equal(layer.weight, before)
    set_weight_rows_(layer, rows_IOk)
    torch.testing.assert_close(layer.weight.detach(), before + 1.0)


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_a_row_is_what_its_channel_adds_to_the_outputs_of_its_group(layer: nn.Module) -> None:
    layer = copy.deepcopy(layer).double()
    groups = getattr(layer, "groups", 1)
    rows_IOk, makes = weight_rows(layer), 4 // groups
    for channel in range(6):
        images = torch.zeros(1, 6, 9, 9, dtype=torch.float64)
        images[:, channel] = 1.0
        with torch.no_grad():
            if isinstance(layer, nn.Linear):
                outputs_O = layer(images[:, :, 0, 0])[0] - layer.bias
            else:
                outputs_O = layer(images)[0, :, 4, 4] - layer.bias
        block = channel // (6 // groups)
        want_O = torch.zeros(4, dtype=torch.float64)
        want_O[block * makes : (block + 1) * makes] = rows_IOk[channel].sum(dim=1)
        torch.testing.assert_close(outputs_O, want_O)
