"""How much channels repeat each other, place by place: second moments of feature maps, collected on data.

SIRFP (arXiv 2412.12672) measures redundancy on un-pooled maps, because pooling hides where channels fire. prunekit does
the same where the consumers see the channels, after activation and residual sum, on sampled positions. Cosines of the
accumulated second moments have no scale, so layers, crop sizes and pooled branches can be compared.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from prunekit.errors import PruneError
from prunekit.pruning.coupling import Coupling, Group, Slot

# Places sampled of each batch: the maps of shallow layers have far more than a C x C moment needs.
POSITIONS = 1024


@dataclass
class Tap:
    """The place where one group is measured: a module's input or output, and the channel of each unit there."""

    group: str
    layer: str
    at: str
    index: Tensor
    """Channel of each unit, int64."""
    moment: Tensor | None = None
    """Summed second moments [C, C]; None until data was seen."""
    generator: torch.Generator = field(default_factory=torch.Generator)

    def add(self, features: Tensor, channel_dim: int) -> None:
        """Add the second moments of one batch at `POSITIONS` random places."""
        x_CN = features.detach().movedim(channel_dim, 0).flatten(1).float()
        if x_CN.shape[1] > POSITIONS:
            places = torch.randint(x_CN.shape[1], (POSITIONS,), generator=self.generator).to(x_CN.device)
            x_CN = x_CN.index_select(1, places)
        x_CN = x_CN.index_select(0, self.index.to(x_CN.device))
        moment_CC = x_CN @ x_CN.T
        self.moment = moment_CC if self.moment is None else self.moment + moment_CC


def cosine(moment_CC: Tensor) -> Tensor:
    """Return absolute cosines, zero on the diagonal; a channel that is always zero repeats everything (cosine 1)."""
    norm_C = moment_CC.diagonal().clamp_min(0).sqrt()
    silent_C = norm_C <= 1e-6 * norm_C.max().clamp_min(1e-30)
    safe_C = norm_C.masked_fill(silent_C, 1.0)
    result_CC = (moment_CC / safe_C[:, None] / safe_C[None, :]).abs().clamp_max(1.0)
    result_CC = result_CC.masked_fill(silent_C[:, None] | silent_C[None, :], 1.0)
    return result_CC.fill_diagonal_(0.0)


def collect(
    network: nn.Module,
    coupling: Coupling,
    batches: Iterable[Tensor],
    *,
    seed: int = 0,
    forward: Callable[[Tensor], object] | None = None,
) -> dict[str, Tensor]:
    """Return the redundancy matrix of every free group, measured while the network runs over `batches`.

    Args:
        network: the network that was analysed; run in evaluation mode, its mode is left as it was.
        coupling: its analysis.
        batches: images_B3HW, on the network's device.
        seed: of the sampled positions.
        forward: how to run a batch, where it is not `network(images)`.

    Raises:
        PruneError: no batch was given, or a group is never seen because its layers are not called as modules.
    """
    taps = [tap for group in coupling.free for tap in _taps(group, network, seed)]
    handles = [_attach(tap, network) for tap in taps]
    modes = [(child, child.training) for child in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            for images_B3HW in batches:
                (forward or network)(images_B3HW)
    finally:
        for handle in handles:
            handle.remove()
        for child, training in modes:
            child.training = training
    return {group.name: _combined(group, [tap for tap in taps if tap.group == group.name]) for group in coupling.free}


def _combined(group: Group, taps: list[Tap]) -> Tensor:
    """Average over the consumers that saw data; over the producers where no consumer is a module."""
    for at in ("input", "output"):
        seen = [cosine(tap.moment).cpu() for tap in taps if tap.at == at and tap.moment is not None]
        if seen:
            return torch.stack(seen).mean(dim=0)
    raise PruneError(
        f"Group {group.name} was never seen while the data ran: no batch was given, or its layers are not called "
        "as modules. Choose --criterion l2, which reads weights only."
    )


def _taps(group: Group, network: nn.Module, seed: int) -> list[Tap]:
    taps = [_tap(group, slot, "input") for slot in group.slots if slot.role == "in"]
    taps += [
        _tap(group, slot, "output") for slot in group.slots if slot.role == "out" and slot.parameter.endswith("weight")
    ]
    found = [tap for tap in taps if tap is not None and _is_layer(network, tap.layer)]
    for tap in found:
        tap.generator.manual_seed(seed)
    return found


def _tap(group: Group, slot: Slot, at: str) -> Tap | None:
    """Find the first position of each unit in a slot; a slot that lacks some units cannot measure the group."""
    labels, first = np.unique(slot.labels, return_index=True)
    where = np.searchsorted(labels, group.units)
    if (where >= len(labels)).any() or (labels[where] != group.units).any():
        return None
    return Tap(group.name, slot.parameter.rpartition(".")[0], at, torch.from_numpy(first[where].astype(np.int64)))


def _is_layer(network: nn.Module, name: str) -> bool:
    try:
        network.get_submodule(name)
    except AttributeError:
        return False
    return True


def _attach(tap: Tap, network: nn.Module) -> torch.utils.hooks.RemovableHandle:
    layer = network.get_submodule(tap.layer)
    channel_dim = -1 if isinstance(layer, nn.Linear) else 1

    def before(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        if tap.at == "input":
            tap.add(args[0], channel_dim)

    def after(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        del args
        tap.add(output, channel_dim)

    return layer.register_forward_pre_hook(before) if tap.at == "input" else layer.register_forward_hook(after)
