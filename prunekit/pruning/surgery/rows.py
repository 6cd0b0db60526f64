"""A layer's weight by the channels that it reads: one form for linear layers, convolutions and transposed ones."""

from typing import cast

import torch
from torch import Tensor, nn


def weight_rows(layer: nn.Module) -> Tensor:
    """Return a copy of the weight [I, O/groups, k]: input channels of all groups, outputs of one, kernel places.

    Float64, on the CPU. Input i belongs to group i // (I / groups), whose outputs those are.
    """
    weight = cast(Tensor, layer.weight).detach().double().cpu()
    if isinstance(layer, nn.Linear):
        return weight.T[..., None].clone()
    if cast(bool, layer.transposed):
        return weight.flatten(2).clone()
    return weight.flatten(2).unflatten(0, (cast(int, layer.groups), -1)).transpose(1, 2).flatten(0, 1).clone()


def set_weight_rows_(layer: nn.Module, rows_IOk: Tensor) -> None:
    """Write rows that `weight_rows` gave back into the layer's weight."""
    weight = cast(Tensor, layer.weight)
    if isinstance(layer, nn.Linear):
        values = rows_IOk[..., 0].T
    elif cast(bool, layer.transposed):
        values = rows_IOk.reshape(weight.shape)
    else:
        values = rows_IOk.unflatten(0, (cast(int, layer.groups), -1)).transpose(1, 2).reshape(weight.shape)
    with torch.no_grad():
        weight.copy_(values)
