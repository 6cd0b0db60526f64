"""Rules for layers with weights: they make channels and consume them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prunekit.pruning.analysis.rules.elementwise import pointwise
from prunekit.pruning.analysis.rules.space import freeze_along
from prunekit.pruning.analysis.walk.ids import DRAWN, nothing
from prunekit.pruning.analysis.walk.interpreter import Computed, Interpreter, RawCost, Weight
from prunekit.pruning.analysis.walk.values import RawGroups
from prunekit.pruning.coupling import layer_of


def convolution(ctx: Interpreter, x: Tensor, weight: object, bias: object = None, *rest: object) -> Tensor:
    """conv1d, conv2d, conv3d: (input, weight, bias, stride, padding, dilation, groups)."""
    return _convolve(ctx, x, weight, bias, int(rest[3]) if len(rest) > 3 else 1, transposed=False)  # type: ignore[call-overload]


def transposed_convolution(ctx: Interpreter, x: Tensor, weight: object, bias: object = None, *rest: object) -> Tensor:
    """conv_transposeNd: (input, weight, bias, stride, padding, output_padding, groups, dilation)."""
    return _convolve(ctx, x, weight, bias, int(rest[3]) if len(rest) > 3 else 1, transposed=True)  # type: ignore[call-overload]


def general_convolution(ctx: Interpreter, x: Tensor, weight: object, bias: object, *rest: Any) -> Tensor:
    """aten.convolution: (..., stride, padding, dilation, transposed, output_padding, groups)."""
    return _convolve(ctx, x, weight, bias, rest[5], transposed=rest[3])


def _convolve(ctx: Interpreter, x: Tensor, weight: object, bias: object, groups: int, *, transposed: bool) -> Tensor:
    if not isinstance(weight, (Weight, Computed)):
        return _made_of_features(ctx, x, weight, bias)
    spatial = len(weight.shape) - 2
    ids_in = ctx.channels(x, x.dim() - spatial - 1)
    width = weight.shape[1] * groups if transposed else weight.shape[0]
    dim_in, dim_out = (0, 1) if transposed else (1, 0)
    if groups == 1:
        ids_in = ctx.slot(weight, dim_in, "in", ids_in)
        ids_out = ctx.slot(weight, dim_out, "out", ctx.space.fresh((width,)))
    else:
        ids_out = _grouped(ctx, weight, ids_in, groups, width, transposed=transposed)
    _shifted(ctx, bias, ids_out)
    shape = ctx.shape if not transposed else tuple(x.shape)
    positions = int(np.prod(shape[len(shape) - spatial :])) * int(np.prod(weight.shape[2:])) * _batch(shape, spatial)
    along, per_group = (
        (ids_in, ids_out[: width // groups]) if transposed else (ids_out, ids_in[: len(ids_in) // groups])
    )
    if any(group.ids is ids_in for group in ctx.grouped.values()):
        per_group = nothing(per_group.shape)  # whole groups go: the width of one stays
    ctx.costs.append(RawCost(ctx.layer, positions, (along, per_group)))
    view = ids_out.reshape(-1, *([1] * spatial))
    return view.expand(ctx.shape)


def _batch(shape: Sequence[int], spatial: int) -> int:
    return int(np.prod(shape[: len(shape) - spatial - 1]))


def _grouped(
    ctx: Interpreter, weight: Weight | Computed, ids_in: Tensor, groups: int, width: int, *, transposed: bool
) -> Tensor:
    """Tie the channels of a grouped convolution: whole groups go, or the same positions of every group."""
    in_GI = ids_in.reshape(groups, -1)  # G groups, I input channels of a group
    out_GO = ctx.slot(weight, 1 if transposed else 0, "out", ctx.space.fresh((width,))) if not transposed else None
    if out_GO is None:
        return _grouped_transposed(ctx, weight, ids_in, in_GI, width)
    out_GO = out_GO.reshape(groups, -1)
    if _same_positions(ctx, in_GI):
        ctx.space.unite(out_GO[:1].expand_as(out_GO), out_GO)
        ctx.slot(weight, 1, "in", in_GI[0])
    else:
        ctx.space.unite(in_GI[:, :1].expand_as(in_GI), in_GI)
        ctx.space.unite(in_GI[:, :1].expand_as(out_GO), out_GO)
        _freeze_partly_nothing(ctx, in_GI, out_GO)
        _note_groups(ctx, weight, groups, ids_in)
    return out_GO.reshape(-1)


def _grouped_transposed(
    ctx: Interpreter, weight: Weight | Computed, ids_in: Tensor, in_GI: Tensor, width: int
) -> Tensor:
    """Whole groups of a transposed convolution: the input dimension is cut, the output one is per group and stays."""
    groups = in_GI.shape[0]
    ctx.slot(weight, 0, "in", in_GI)
    out_GO = ctx.space.fresh((groups, width // groups))
    ctx.space.unite(in_GI[:, :1].expand_as(in_GI), in_GI)
    ctx.space.unite(in_GI[:, :1].expand_as(out_GO), out_GO)
    _freeze_partly_nothing(ctx, in_GI, out_GO)
    _note_groups(ctx, weight, groups, ids_in)
    return out_GO.reshape(-1)


def _freeze_partly_nothing(ctx: Interpreter, in_GI: Tensor, out_GO: Tensor) -> None:
    stuck = (in_GI <= DRAWN).any(dim=1)
    if bool(stuck.any()):
        reason = "its group of a grouped convolution reads channels that cannot be cut"
        ctx.space.freeze(in_GI[stuck], reason)
        ctx.space.freeze(out_GO[stuck], reason)


def _same_positions(ctx: Interpreter, in_GI: Tensor) -> bool:
    """Tell whether each group already reads the same channels in the same places, as per-class projections do."""
    if in_GI.shape[1] == 1 or bool((in_GI <= DRAWN).any()):
        return False
    labels = torch.from_numpy(ctx.space.labels())[in_GI.long()]
    return bool((labels == labels[:1]).all())


def _note_groups(ctx: Interpreter, weight: Weight | Computed, groups: int, ids_in: Tensor) -> None:
    """Note the number of groups for the modules that may keep it: the weight's and the one that is called."""
    name = weight.name if isinstance(weight, Weight) else weight.node.name
    for layer in {layer_of(name) if isinstance(weight, Weight) else ctx.layer, ctx.layer}:
        ctx.grouped[layer, name] = RawGroups(layer, groups, ids_in)


def _shifted(ctx: Interpreter, bias: object, ids_out: Tensor) -> None:
    if isinstance(bias, (Weight, Computed)):
        ctx.slot(bias, 0, "out", ids_out)
    elif isinstance(bias, Tensor):
        ctx.space.freeze(bias, "shifts a layer by a computed value")
        ctx.space.freeze(ids_out, "is shifted by a computed value")


def _made_of_features(ctx: Interpreter, x: Tensor, weight: object, bias: object) -> Tensor:
    for value in (x, weight, bias):
        if isinstance(value, (Tensor, Weight, Computed)):
            ctx.space.freeze(ctx.ids_of(value), "feeds a layer whose weight is computed on the way")
    return nothing(ctx.shape)


def linear(ctx: Interpreter, x: Tensor, weight: object, bias: object = None) -> Tensor:
    """Linear over the last dimension."""
    if not isinstance(weight, (Weight, Computed)):
        return _made_of_features(ctx, x, weight, bias)
    ids_in = ctx.slot(weight, 1, "in", ctx.channels(x, -1))
    ids_out = ctx.slot(weight, 0, "out", ctx.space.fresh((weight.shape[0],)))
    _shifted(ctx, bias, ids_out)
    ctx.costs.append(RawCost(ctx.layer, int(np.prod(ctx.shape[:-1])), (ids_out, ids_in)))
    return ids_out.expand(ctx.shape)


def channel_norm(ctx: Interpreter, x: Tensor, *rest: object) -> Tensor:
    """batch_norm and instance_norm: one scale, shift, mean and variance per channel."""
    ids = ctx.channels(x, 1)
    for value in rest[:4]:
        if isinstance(value, (Weight, Computed)):
            ids = ctx.slot(value, 0, "norm", ids)
        elif isinstance(value, Tensor):
            ctx.space.freeze(value, "scales a norm by a computed value")
            ctx.space.freeze(ids, "is scaled by a computed value")
    return ids.reshape(-1, *([1] * (x.dim() - 2))).expand(ctx.shape)


def layer_norm(ctx: Interpreter, x: Tensor, normalized_shape: Sequence[int], *rest: object) -> Tensor:
    """A norm over the last dimensions mixes their channels: they stay."""
    freeze_along(ctx, x, range(x.dim() - len(normalized_shape), x.dim()), "is normalised together with other channels")
    return pointwise(ctx, x, *[value for value in rest if isinstance(value, (Tensor, Weight, Computed))])


def group_norm(ctx: Interpreter, x: Tensor, groups: int, *rest: object) -> Tensor:
    """A norm over groups of channels: whole groups go, since each is normalised by itself."""
    ids = ctx.channels(x, 1)
    if groups == 1:
        ctx.space.freeze(ids, "is normalised together with other channels")
    for value in rest[:2]:
        if isinstance(value, (Weight, Computed)):
            ids = ctx.slot(value, 0, "norm", ids)
        elif isinstance(value, Tensor):
            ctx.space.freeze(value, "scales a norm by a computed value")
            ctx.space.freeze(ids, "is scaled by a computed value")
    ids_GI = ids.reshape(groups, -1)
    ctx.space.unite(ids_GI[:, :1].expand_as(ids_GI), ids_GI)
    _freeze_partly_nothing(ctx, ids_GI, ids_GI)
    weight = rest[0] if rest else None
    if isinstance(weight, (Weight, Computed)):
        _note_groups(ctx, weight, groups, ids)
    else:
        assert ctx.node is not None
        ctx.grouped[ctx.layer, ctx.node.name] = RawGroups(ctx.layer, groups, ids)
    return ids.reshape(-1, *([1] * (x.dim() - 2))).expand(x.shape)


def prelu(ctx: Interpreter, x: Tensor, weight: object) -> Tensor:
    """One slope per channel, or one for all."""
    if isinstance(weight, (Weight, Computed)) and weight.shape[0] > 1:
        ids = ctx.slot(weight, 0, "norm", ctx.channels(x, 1))
        return ids.reshape(-1, *([1] * (x.dim() - 2))).expand(x.shape)
    if isinstance(weight, Tensor):
        ctx.space.freeze(weight, "is a slope that is computed on the way")
        ctx.space.freeze(x, "is scaled by slopes that are computed on the way")
    return x
