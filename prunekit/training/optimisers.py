"""SGD and AdamW over two groups of parameters: weights decay, norms and biases do not."""

from torch import Tensor, nn, optim

from prunekit.recipe import TrainConfig


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
    """Give back to the optimiser what `optimiser_tensors` returned."""
    parameters = dict(network.named_parameters())
    for path, value in tensors.items():
        name, _, key = path.rpartition("/")
        optimiser.state[parameters[name]][key] = _like(parameters[name], value)


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    if value.shape != parameter.shape:
        return value.clone()  # a step counter, which torch keeps on the CPU
    # The parameter's own device and strides: fused kernels walk parameter and moments with one index.
    return parameter.detach().to(value.dtype, copy=True).copy_(value)
