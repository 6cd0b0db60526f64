"""Which batch norm reads which convolution, and nothing else does: seen by running the network once.

The run counts every tensor operation that touches a convolution's output or parameters, so shortcuts, shared modules
and weights that are used twice are found in any network, traceable or not.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Exact types: a subclass may compute something else.
PRODUCERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)


@torch.no_grad()
def adjacent_pairs(module: nn.Module, inputs: tuple[Tensor, ...]) -> list[tuple[str, str]]:
    """Return (name of the convolution or linear layer, name of its batch norm) for each pair that can be folded.

    `module` must be in evaluation mode. Left out is what a fold would change elsewhere: shared modules and parameters,
    parametrised ones, modules with hooks, batch norms without running statistics.
    """
    watched = [child for child in module.modules() if type(child) in PRODUCERS + NORMS]
    plain = {child for child in watched if _is_plain(child)} - _shared(module)
    record = _Record({id(p): child for child in watched if type(child) in PRODUCERS for p in child.parameters()})
    with ExitStack() as stack:
        for child in watched:
            stack.callback(child.register_forward_pre_hook(record.enter).remove)
            stack.callback(child.register_forward_hook(record.leave).remove)
        with record:
            returned = module(*inputs)
    for leaf in tree_leaves(returned):
        record.use(leaf)
    names = {child: name for name, child in module.named_modules()}
    pairs = [(producer, norm) for norm, producer in record.readers.items() if {norm, producer} <= plain]
    return [(names[producer], names[norm]) for producer, norm in pairs if record.is_alone(producer, norm)]


class _Record(TorchDispatchMode):
    """Counts uses: of the producers' outputs outside batch norms, and of their parameters outside themselves."""

    def __init__(self, parameters: dict[int, nn.Module]) -> None:
        super().__init__()
        self.parameters = parameters
        # Tensors are told apart by identity; holding them keeps an identity from being given twice.
        self.outputs: dict[int, tuple[Tensor, nn.Module]] = {}
        self.readers: dict[nn.Module, nn.Module] = {}
        self.calls: Counter[nn.Module] = Counter()
        self.other_uses: Counter[nn.Module] = Counter()
        self.inside: list[nn.Module] = []

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for leaf in tree_leaves((args, kwargs or {})):
            self.use(leaf)
        return func(*args, **(kwargs or {}))

    def use(self, leaf: object) -> None:
        current = self.inside[-1] if self.inside else None
        owner = self.parameters.get(id(leaf))
        if owner is not None and owner is not current:
            self.other_uses[owner] += 1
        if id(leaf) in self.outputs and type(current) not in NORMS:
            self.other_uses[self.outputs[id(leaf)][1]] += 1

    def enter(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.inside.append(module)
        self.calls[module] += 1
        if type(module) in NORMS and id(inputs[0]) in self.outputs:
            tensor, producer = self.outputs[id(inputs[0])]
            # A batch norm works on dimension 1, which is a linear layer's output dimension on (batch, features) only.
            if tensor.ndim == (2 if isinstance(producer, nn.Linear) else 4):
                self.readers[module] = producer
            else:
                self.other_uses[producer] += 1

    def leave(self, module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:
        self.inside.pop()
        if type(module) in PRODUCERS:
            self.outputs[id(output)] = (output, module)

    def is_alone(self, producer: nn.Module, norm: nn.Module) -> bool:
        """Whether this batch norm, called once, is all that reads the producer, called once."""
        once = self.calls[producer] == 1 and self.calls[norm] == 1
        readers = sum(source is producer for source in self.readers.values())
        return once and readers == 1 and self.other_uses[producer] == 0


def _is_plain(module: nn.Module) -> bool:
    hooks = module._forward_hooks or module._forward_pre_hooks  # pyright: ignore[reportPrivateUsage]  no public view of hooks
    if hooks or is_parametrized(module):
        return False
    return not isinstance(module, NORMS) or module.running_var is not None


def _shared(module: nn.Module) -> set[nn.Module]:
    """Modules that have two names, or a parameter that another module has too."""
    everywhere = [child for _, child in module.named_modules(remove_duplicate=False)]
    owners = Counter(id(p) for child in everywhere for p in child.parameters(recurse=False))
    names = Counter(everywhere)
    return {
        child for child in names if names[child] > 1 or any(owners[id(p)] > 1 for p in child.parameters(recurse=False))
    }
