"""SGD and AdamW over two groups of parameters: weights decay, norms and biases do not."""

from typing import Final

import torch
from torch import Tensor, nn, optim

from prunekit.recipe import TrainConfig

_STEP: Final = "step"  # how often torch has moved the parameter
MAX_STEP: Final = 2.0**53


def make_optimiser(network: nn.Module, config: TrainConfig) -> optim.Optimizer:
    """Return the recipe's optimiser over the parameters of `network` that learn."""
    groups = parameter_groups(network, config.weight_decay)
    if config.optimiser == "sgd":
        return optim.SGD(groups, lr=config.lr, momentum=config.momentum)
    return optim.AdamW(groups, lr=config.lr)


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Split the parameters that learn: those of two and more dimensions decay, scales, shifts and biases do not."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in learning if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in learning if p.ndim < 2], "weight_decay": 0.0},
    ]


def optimiser_tensors(network: nn.Module, optimiser: optim.Optimizer) -> dict[str, Tensor]:
    """Return what the optimiser remembers, as "parameter name/key" -> tensor."""
    return {
        f"{name}/{key}": value
        for name, parameter in network.named_parameters()
        for key, value in optimiser.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def load_optimiser_tensors(network: nn.Module, optimiser: optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give back to the optimiser what `optimiser_tensors` returned.

    Raises:
        ValueError: a parameter is unknown, something of it is missing or unknown, or a tensor has another form.
    """
    parameters = {name: value for name, value in network.named_parameters() if value.requires_grad}
    found: dict[str, dict[str, Tensor]] = {}
    for path, value in tensors.items():
        name, _, key = path.rpartition("/")
        found.setdefault(name, {})[key] = value
    for name, state in found.items():  # a parameter that never had a gradient has no state
        if name not in parameters:
            raise ValueError(f"the optimiser's {name} is no parameter of the network")
        _check_state(name, parameters[name], state, _remembered(optimiser))
    for name, state in found.items():
        optimiser.state[parameters[name]].update({key: _like(parameters[name], key, state[key]) for key in state})


def _remembered(optimiser: optim.Optimizer) -> set[str]:
    """Return what the optimiser keeps of a parameter, under torch's names."""
    if isinstance(optimiser, optim.AdamW):
        return {_STEP, "exp_avg", "exp_avg_sq"}
    return {"momentum_buffer"} if optimiser.defaults["momentum"] else set()


def _check_state(name: str, parameter: Tensor, state: dict[str, Tensor], keys: set[str]) -> None:
    if state.keys() != keys:
        raise ValueError(f"the optimiser's state of {name} holds {sorted(state)}, not {sorted(keys)}")
    for key, value in state.items():
        shape = torch.Size() if key == _STEP else parameter.shape
        if value.shape != shape or value.dtype != (torch.float32 if key == _STEP else parameter.dtype):
            kind, due = f"{value.dtype} {tuple(value.shape)}", tuple(shape)
            raise ValueError(f"the optimiser's {key} of {name} is {kind}, expected {due}")
        low = {_STEP: 1.0, "exp_avg_sq": 0.0}.get(key, -torch.inf)
        if not bool((value.isfinite() & (value >= low)).all()) or (key == _STEP and float(value) > MAX_STEP):
            raise ValueError(f"the optimiser's {key} of {name} is out of range")


def _like(parameter: Tensor, key: str, value: Tensor) -> Tensor:
    if key == _STEP:
        return value.clone()  # torch keeps it on the CPU
    # The parameter's own device and strides: fused kernels walk parameter and moments with one index.
    return parameter.detach().to(value.dtype, copy=True).copy_(value)
