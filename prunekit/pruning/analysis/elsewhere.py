"""Where else a network's code goes: in training, on several images, at other sizes.

A graph is traced in evaluation mode on one example. Code that asks where it is (`if self.training`, `if len(x) > 1`,
`if x.shape[2] < 32`) does something else there, with channels that the graph shows nothing of. Where a network makes
other calls than on the example, it is analysed there too; a plan is proved there whatever the calls are.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from prunekit.pruning.analysis.path import Recorder
from prunekit.pruning.analysis.trial import Call, error, skeleton, without_values

_LARGER = 32  # px; strides of segmentation networks are at most 32


def elsewhere(example_inputs: tuple[Any, ...]) -> Iterator[tuple[Call, ...]]:
    """Yield what to try besides the example: of each tuple the first that the network takes."""
    several = _resized(example_inputs, lambda px: px, copies=2)
    small = _resized(example_inputs, lambda px: max(1, px // 2), copies=2)
    yield Call(small, {}, training=True), Call(several, {}, training=True)
    yield Call(small, {}), Call(several, {})
    yield (Call(_resized(example_inputs, lambda px: px + _LARGER, copies=1), {}),)


def other_ways(module: nn.Module, example_inputs: tuple[Any, ...]) -> list[Call]:
    """Return calls on which the network's code calls other functions of torch than on the example."""
    bare = _uncounting(skeleton(module))

    def names(call: Call) -> list[str] | None:
        """Return the functions that are called; None where the network cannot be called like this."""
        found = _names(bare, without_values(call))
        # Some ops know no shapes, and some code makes tensors elsewhere: then with values.
        return _names(_uncounting(copy.deepcopy(module)), call) if found is None else found

    usual = names(Call(example_inputs, {}))
    if usual is None or "cond" in usual:  # torch compiles both ways of a condition, with calls of its own
        return []
    found: list[Call] = []
    for calls in elsewhere(example_inputs):
        taken, called = next(((call, called) for call in calls if (called := names(call)) is not None), (None, None))
        found += [taken] if taken is not None and called != usual else []
    return found


def _names(network: nn.Module, call: Call) -> list[str] | None:
    with Recorder() as recorder:
        failure = error(network, call)
    return None if failure is not None else [step.name for step in recorder.steps]


def _uncounting(copied: nn.Module) -> nn.Module:
    """Keep batch norms from counting batches, which is all that they call in training alone."""
    for layer in copied.modules():
        if isinstance(layer, nn.modules.batchnorm._NormBase):  # pyright: ignore[reportPrivateUsage]  no public base
            layer.num_batches_tracked = None
    return copied


def _resized(inputs: tuple[Any, ...], side: Callable[[int], int], copies: int) -> tuple[Any, ...]:
    def change(value: Tensor) -> Tensor:
        if value.dim() == 4:
            size = (side(value.shape[2]), side(value.shape[3]))
            if size != tuple(value.shape[2:]):
                value = nn.functional.interpolate(value.float(), size, mode="bilinear").to(value.dtype)
        # The second is mirrored: in training, two equal images are a special case.
        return torch.cat([value, value.flip(-1)]) if value.dim() and copies > 1 else value

    return pytree.tree_map_only(Tensor, change, inputs)
