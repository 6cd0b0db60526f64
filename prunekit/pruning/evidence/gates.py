"""Gate gradients: how the loss would change if a unit's channels were scaled where they leave their group.

Think of a gate m_u = 1 that multiplies the channels of unit u at the input of every layer that reads them. Its
gradient is the sum over places and readers of x dL/dx, so no gate has to be built: one backward pass with hooks gives
the gradients of all groups, sample by sample. m_u = 0 is what pruning does, exactly (masked equals pruned).
Depthwise layers lie inside their group and hold no gate. A group that only products of features read (queries and
keys of an attention) has its gates at the outputs of the layers that make it; products that read a group beside layers,
as in the CCS head, are not seen.

Batch norms keep their running statistics, so the gradient of a batch splits into one part per sample.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from prunekit.errors import PruneError
from prunekit.pruning.coupling import (
    Coupling,
    Group,
    Slot,
    is_inside,
    is_weight,
    layer_of,
    tensor_of,
    unit_index,
    weight_users,
)
from prunekit.pruning.evidence.judged import Judged
from prunekit.pruning.evidence.moments import at_places
from prunekit_runtime.spelling import option


@dataclass(frozen=True)
class Gates:
    """The gate gradients of one group. Float64, on the CPU."""

    gate_SU: Tensor
    """Gradient of each sample's loss by each unit's gate. The mean over S is the gradient of the mean loss."""
    batches: tuple[int, ...]
    """Samples of each batch, in the order of S."""
    moment_UU: Tensor | None = None
    """Sum over places of (x g)(x g)^T, the mean over samples, estimated from the sampled places; summed over readers.

    Its diagonal is what the sum of squared gate gradients would be if places were independent.
    """

    def batch_means(self) -> Tensor:
        """Return the gate gradient of each batch's mean loss, [batches, U]."""
        return torch.stack([part.mean(dim=0) for part in self.gate_SU.split(list(self.batches))])


def gate_gradients(evidence: Judged, *, places: int = 0) -> dict[str, Gates]:
    """Collect the gate gradients of every free group in one pass over the batches.

    A group that the loss does not depend on, such as an auxiliary head's, has gradients of zero.

    Args:
        evidence: its loss is what is differentiated.
        places: random places a batch for `moment_UU`; 0 leaves it out.

    Raises:
        PruneError: there is no batch, a group's layers are not called as modules, or rows at a layer cannot be told
            apart by sample.
    """
    taps = {group.name: _taps(group, evidence.coupling, evidence.network) for group in evidence.coupling.free}
    totals = {group.name: _Total(group.width) for group in evidence.coupling.free}
    generator = torch.Generator().manual_seed(evidence.seed)
    with _watched([tap for group_taps in taps.values() for tap in group_taps], places, generator):
        for batch in evidence.gradients():
            for group in evidence.coupling.free:
                if not totals[group.name].add(taps[group.name], len(batch.images_B3HW)):
                    _check_unused(group, evidence.network)
    return {name: total.gates() for name, total in totals.items()}


def _check_unused(group: Group, network: nn.Module) -> None:
    """Raise where no gate was seen although the weights have gradients."""
    for slot in group.slots:
        gradient = tensor_of(network, slot.parameter).grad
        if slot.role in ("in", "out") and gradient is not None and bool(gradient.any()):
            raise PruneError(
                f"Group {group.name} is used without calling its layers as modules ({slot.parameter}), so its gate "
                "gradients cannot be seen. Choose a criterion that reads weights, such as "
                f"{option('criterion', 'taylor-weight')}."
            )


@dataclass
class _Tap:
    """One layer at which a group is gated, and what the current batch left there."""

    layer: str
    modules: tuple[nn.Module, ...]
    """Every module that uses the weight: tied ones too."""
    at_input: bool
    unit_C: Tensor
    """Unit of each channel, or `width` where it is another group's."""
    width: int
    rows: list[Tensor] = field(default_factory=list)
    """[rows, U] of each call."""
    moment_UU: Tensor | None = None

    def add(self, product_BCN: Tensor, places: int, generator: torch.Generator) -> None:
        """Add x dL/dx of one call of the layer."""
        self.rows.append(self._by_unit(product_BCN.sum(dim=2)))
        if places:
            self._add_moment(product_BCN, places, generator)

    def _by_unit(self, values_BC: Tensor) -> Tensor:
        """Sum channels into their units along dimension 1."""
        # The weight of a grouped convolution names the positions of one group; its input holds them once a group.
        self.unit_C = self.unit_C.to(values_BC.device).repeat(values_BC.shape[1] // len(self.unit_C))
        sums = values_BC.new_zeros(values_BC.shape[0], self.width + 1, *values_BC.shape[2:])
        return sums.index_add_(1, self.unit_C, values_BC)[:, : self.width]

    def _add_moment(self, product_BCN: Tensor, places: int, generator: torch.Generator) -> None:
        total, wanted = product_BCN.shape[2], max(1, places // len(product_BCN))
        if total > wanted:
            product_BCN = at_places(product_BCN, torch.randint(total, (wanted,), generator=generator))
        flat_UN = self._by_unit(product_BCN).transpose(0, 1).flatten(1)
        moment_UU = flat_UN @ flat_UN.T * (total / product_BCN.shape[2])
        self.moment_UU = moment_UU if self.moment_UU is None else self.moment_UU + moment_UU

    def take_rows(self, samples: int) -> Tensor | None:
        """Return [samples, U] and forget it; rows of several windows or tokens of a sample lie together."""
        rows, self.rows = self.rows, []
        if not rows:
            return None
        for call in rows:
            if len(call) % samples:
                raise PruneError(
                    f"Layer {self.layer} gets {len(call)} rows for a batch of {samples} images, so what belongs to "
                    "which image is unknown. Choose a criterion that needs no gradients, such as "
                    f"{option('criterion', 'sirfp-unweighted')}."
                )
        return torch.stack([call.reshape(samples, -1, self.width).sum(dim=1) for call in rows]).sum(dim=0)

    def take_moment(self) -> Tensor | None:
        moment_UU, self.moment_UU = self.moment_UU, None
        return moment_UU


class _Total:
    """The running sums of one group."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.parts: list[Tensor] = []
        self.moment_UU: Tensor | None = None

    def add(self, taps: list[_Tap], samples: int) -> bool:
        """Take over what a batch left; tell whether there was anything.

        Times `samples`: the loss is the mean of the samples' losses.
        """
        seen = False
        gate_BU = torch.zeros(samples, self.width, dtype=torch.float64)
        for tap in taps:
            if (rows_BU := tap.take_rows(samples)) is not None:
                seen = True
                gate_BU += samples * rows_BU.cpu().double()
            if (moment_UU := tap.take_moment()) is not None:
                moment_UU = samples**2 * moment_UU.cpu().double()
                self.moment_UU = moment_UU if self.moment_UU is None else self.moment_UU + moment_UU
        self.parts.append(gate_BU)
        return seen

    def gates(self) -> Gates:
        if not self.parts:
            raise PruneError(
                f"Gate gradients need a batch, and there is none. Give one, or choose {option('criterion', 'l2')}."
            )
        gate_SU = torch.cat(self.parts)
        moment_UU = None if self.moment_UU is None else self.moment_UU / len(gate_SU)
        return Gates(gate_SU, tuple(len(part) for part in self.parts), moment_UU)


def _as_BCN(values: Tensor, channel_dim: int) -> Tensor:
    return values.movedim(channel_dim, 1).flatten(2) if values.dim() > 2 else values[..., None]


def _taps(group: Group, coupling: Coupling, network: nn.Module) -> list[_Tap]:
    """Gate the group where it is read; where no layer reads it, where it is made."""
    users = weight_users(network)
    for role in ("in", "out"):
        found = [
            _tap(slot, group, tuple(map(network.get_submodule, users[tensor_of(network, slot.parameter)])))
            for slot in group.slots
            if slot.role == role
            and not is_inside(slot, coupling)
            and is_weight(slot)
            and tensor_of(network, slot.parameter) in users
        ]
        if found:
            return found
    return []


def _tap(slot: Slot, group: Group, modules: tuple[nn.Module, ...]) -> _Tap:
    unit_C = torch.from_numpy(unit_index(slot, group))
    unit_C = unit_C.masked_fill(unit_C < 0, group.width)
    return _Tap(layer_of(slot.parameter), modules, slot.role == "in", unit_C, group.width)


@contextmanager
def _watched(taps: list[_Tap], places: int, generator: torch.Generator) -> Generator[None]:
    """Hook all taps; one alias of a layer's input serves every group that it reads."""
    by_module: dict[tuple[nn.Module, bool], list[_Tap]] = {}
    for tap in taps:
        for module in tap.modules:
            by_module.setdefault((module, tap.at_input), []).append(tap)
    handles = [_attach(module, at_input, own, places, generator) for (module, at_input), own in by_module.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _attach(
    module: nn.Module, at_input: bool, taps: list[_Tap], places: int, generator: torch.Generator
) -> torch.utils.hooks.RemovableHandle:
    channel_dim = -1 if isinstance(module, nn.Linear) else 1

    def alias(features: Tensor) -> Tensor:
        # The gradient of the alias is what comes back through this layer alone, not through the others that read it.
        # An output may be changed in place by what follows, which a view would lose its hook by; an input is not.
        source = features if features.requires_grad else features.detach().requires_grad_()
        aliased, value = source.view_as(source) if at_input else source.clone(), features.detach()

        def after(gradient: Tensor) -> None:
            kind = torch.promote_types(value.dtype, torch.float32)
            product_BCN = _as_BCN(value.to(kind) * gradient.to(kind), channel_dim)
            for tap in taps:
                tap.add(product_BCN, places, generator)

        aliased.register_hook(after)
        return aliased

    def before_call(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        return (alias(args[0]), *args[1:]) if args and torch.is_grad_enabled() else None

    def after_call(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        return alias(output) if torch.is_grad_enabled() else None

    return module.register_forward_pre_hook(before_call) if at_input else module.register_forward_hook(after_call)
