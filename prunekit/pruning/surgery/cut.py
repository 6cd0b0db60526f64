"""Carrying a pruning plan out: slices of parameters and buffers, attributes of modules, and the proof of equality."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.optim import Optimizer

from prunekit.equality.compare import TOLERANCE, Comparison, compare
from prunekit.errors import PruneError
from prunekit.pruning.surgery.plan import Plan, Slice

_NOT_PROVED = "The cut network is not proved equal to the masked one."

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
GROUPED = (*_CONVOLUTIONS, *_TRANSPOSED, nn.GroupNorm)
"""Modules that keep the number of their groups."""


def pruned(module: nn.Module, plan: Plan) -> nn.Module:
    """Return a pruned copy; `module` stays as it is.

    Raises:
        PruneError: the plan does not fit the network.
    """
    return prune_(copy.deepcopy(module), plan)


def prune_(
    module: nn.Module,
    plan: Plan,
    *,
    optimiser: Optimizer | None = None,
    example_inputs: tuple[Any, ...] | None = None,
) -> nn.Module:
    """Prune `module` in place and return it; on an error it is left unchanged.

    Args:
        module: the network; modules stay what they are, tied parameters stay tied.
        plan: what to keep.
        optimiser: keeps its settings and its state for what remains (momenta are cut like their parameters).
        example_inputs: if given, a cut copy is first proved equal to the masked network on them.

    Raises:
        PruneError: the plan names a parameter the network lacks or one of another size, or the cut is not exact.
    """
    tensors = _tensors(module)
    replaced = _sliced(tensors, plan)
    layers = {name: _layer(module, name) for name in plan.groups}
    if example_inputs is not None:
        check_exact(module, plan, example_inputs)
    by_identity = {id(tensors[name]): value for name, value in replaced.items()}
    for owner in list(module.modules()):
        _replace(owner, by_identity)
    for name, groups in plan.groups.items():
        setattr(layers[name], "num_groups" if isinstance(layers[name], nn.GroupNorm) else "groups", groups)
    for owner in module.modules():
        _refresh_attributes(owner)
    if optimiser is not None:
        _follow(optimiser, {id(tensors[name]): name for name in replaced}, replaced, plan)
    return module


def check_exact(
    module: nn.Module,
    plan: Plan,
    example_inputs: tuple[Any, ...],
    tolerance: float = TOLERANCE,
    *,
    training: bool = False,
) -> float:
    """Return the exactness of a plan; in training mode zero where random numbers hide it.

    Raises:
        PruneError: it is above `tolerance` and rounding does not explain that, or nothing can be proved.
    """
    compared = _compared(module, plan, example_inputs, tolerance, training=training)
    if compared.equal:
        return compared.decisive
    if training and compared.drawn:
        return 0.0
    blame = "" if compared.unproved else "The analysis misread this network; please report its code. "
    where = "In training mode: " if training else ""
    raise PruneError(f"{_NOT_PROVED} {where}{compared.why()} {blame}Nothing was changed.")


def exactness(module: nn.Module, plan: Plan, example_inputs: tuple[Any, ...]) -> float:
    """Return the largest difference between the pruned and the masked network, relative to the largest output.

    Both run in evaluation mode, without gradients and under one seed. Where they differ by more than 1e-4 in the
    precision they have, float64 decides: rounding may make a max-pooling pick another place in either network, and a
    misread network stays wrong. Zero means equal to the last bit.

    Raises:
        PruneError: nothing can be said: an output is not finite or has another shape, the pruned network or float64
            does not run, or random numbers drawn in evaluation mode depend on the channels.
    """
    compared = _compared(module, plan, example_inputs, TOLERANCE)
    if compared.unproved is not None:
        raise PruneError(f"{_NOT_PROVED} {compared.unproved}")
    return compared.decisive


def _compared(
    module: nn.Module, plan: Plan, example_inputs: tuple[Any, ...], tolerance: float, *, training: bool = False
) -> Comparison:
    def pair(wide: bool) -> tuple[nn.Module, nn.Module]:
        source = copy.deepcopy(module).double() if wide else module
        return masked(source, plan), pruned(source, plan)

    return compare(pair, example_inputs, tolerance, training=training)


def _follow(optimiser: Optimizer, names: dict[int, str], replaced: dict[str, Tensor], plan: Plan) -> None:
    """Put the cut parameters into the optimiser and cut their state where it has the parameter's shape."""
    rows = {name: [row for row in plan.slices if row.parameter == name] for name in replaced}
    for group in optimiser.param_groups:
        for index, old in enumerate(group["params"]):
            name = names.get(id(old))
            if name is None:
                continue
            group["params"][index] = replaced[name]
            state = optimiser.state.pop(old, {})
            optimiser.state[replaced[name]] = {
                key: _cut(value, rows[name]) if isinstance(value, Tensor) and value.shape == old.shape else value
                for key, value in state.items()
            }


def _cut(tensor: Tensor, rows: Sequence[Slice]) -> Tensor:
    for row in rows:
        tensor = tensor.index_select(row.dim, torch.tensor(row.keep, device=tensor.device))
    return tensor


def masked(module: nn.Module, plan: Plan) -> nn.Module:
    """Return a dense copy in which every removed position is zero: what the pruned network must equal."""
    dense = copy.deepcopy(module)
    tensors = _tensors(dense)
    with torch.no_grad():
        for row in plan.slices:
            tensor = _checked(tensors, row)
            if row.parameter.endswith("running_var"):
                continue  # a variance of zero would divide by epsilon; scale, shift and mean are zero already
            if _is_direction(dense, row):
                continue  # its length is zero already, and a direction of length zero is 0 / 0
            gone = torch.ones(row.width, dtype=torch.bool)
            gone[torch.tensor(row.keep)] = False
            tensor.index_fill_(row.dim, gone.nonzero().flatten().to(tensor.device), 0)
    return dense


def _is_direction(module: nn.Module, row: Slice) -> bool:
    """Tell whether a slice is of what torch's weight normalisation divides by its own length."""
    owner, _, leaf = row.parameter.rpartition(".")
    norm: Any = module.get_submodule(owner)
    if not isinstance(norm, ParametrizationList) or leaf != "original1":
        return False
    return getattr(norm[0], "dim", None) == row.dim and type(norm[0]).__name__ == "_WeightNorm"


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by every name they have, tied ones included."""
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def _checked(tensors: dict[str, Tensor], row: Slice) -> Tensor:
    tensor = tensors.get(row.parameter)
    if tensor is None:
        raise PruneError(
            f"The plan cuts {row.parameter}, which this network does not have. It was made for another network."
        )
    if row.dim >= tensor.dim() or tensor.shape[row.dim] != row.width:
        raise PruneError(
            f"The plan expects {row.parameter} to have {row.width} positions in dimension {row.dim}; "
            f"its shape is {tuple(tensor.shape)}. It was made for another network."
        )
    return tensor


def _sliced(tensors: dict[str, Tensor], plan: Plan) -> dict[str, Tensor]:
    replaced: dict[str, Tensor] = {}
    for row in plan.slices:
        tensor = _checked(tensors, row)
        replaced[row.parameter] = _cut(replaced.get(row.parameter, tensor.detach()), [row])
    for name, value in replaced.items():
        if isinstance(tensors[name], nn.Parameter):
            replaced[name] = nn.Parameter(value, requires_grad=tensors[name].requires_grad)
    return replaced


def _replace(owner: nn.Module, by_identity: dict[int, Tensor]) -> None:
    for name, value in _own_tensors(owner):
        if id(value) in by_identity:
            setattr(owner, name, by_identity[id(value)])


def _own_tensors(owner: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from list(owner.named_parameters(recurse=False, remove_duplicate=False))
    yield from list(owner.named_buffers(recurse=False, remove_duplicate=False))


def _layer(module: nn.Module, name: str) -> Any:
    try:
        layer = module.get_submodule(name)
    except AttributeError:
        raise PruneError(
            f"The plan names layer {name}, which this network does not have. It was made for another network."
        ) from None
    if not isinstance(layer, GROUPED):
        raise PruneError(f"The plan sets the groups of {name}, but a {type(layer).__name__} has none.")
    return layer


def _refresh_attributes(owner: nn.Module) -> None:
    """Make the size attributes of a module say what its tensors are."""
    layer = cast(Any, owner)
    if isinstance(owner, _CONVOLUTIONS):
        layer.out_channels, layer.in_channels = layer.weight.shape[0], layer.weight.shape[1] * layer.groups
    elif isinstance(owner, _TRANSPOSED):
        layer.in_channels, layer.out_channels = layer.weight.shape[0], layer.weight.shape[1] * layer.groups
    elif isinstance(owner, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(owner, nn.modules.batchnorm._NormBase):  # pyright: ignore[reportPrivateUsage]  no public base
        tensor = layer.weight if layer.weight is not None else layer.running_mean
        layer.num_features = layer.num_features if tensor is None else tensor.shape[0]
    elif isinstance(owner, nn.GroupNorm) and owner.affine:
        layer.num_channels = layer.weight.shape[0]
    elif isinstance(owner, nn.PReLU):
        layer.num_parameters = layer.weight.shape[0]
