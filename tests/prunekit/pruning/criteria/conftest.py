"""Evidence on drawn networks, and what a gate is by its definition."""

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from prunekit.pruning import analyse
from prunekit.pruning.coupling import Coupling, Group, Slot
from prunekit.pruning.evidence import Evidence, Labelled

Gated = Callable[[Mapping[str, Tensor]], Tensor]


def labelled(count: int, batch: int, classes: int, size: int, seed: int) -> list[Labelled]:
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(count):
        images_B3HW = torch.randn(batch, 3, size, size, generator=generator, dtype=torch.float64)
        labels_BHW = torch.randint(classes, (batch, size, size), generator=generator)
        rows.append(Labelled(images_B3HW, labels_BHW))
    return rows


COUPLINGS: dict[tuple[str, tuple[int, ...]], Coupling] = {}


def coupling_of(network: nn.Module, images_B3HW: Tensor) -> Coupling:
    """Analyse each structure once: the analysis takes longer than any criterion."""
    key = (repr(network), tuple(images_B3HW.shape))
    if key not in COUPLINGS:
        COUPLINGS[key] = analyse(network, (images_B3HW,))
    return COUPLINGS[key]


def make_evidence(
    network: nn.Module, *, count: int = 2, batch: int = 2, classes: int = 4, size: int = 8, seed: int = 0
) -> Evidence:
    """Float64, so that properties hold to rounding."""
    network = network.double().eval()
    rows = labelled(count, batch, classes, size, seed)

    def loss(images_B3HW: Tensor, labels_BHW: Tensor) -> Tensor:
        return F.cross_entropy(network(images_B3HW), labels_BHW, ignore_index=255)

    return Evidence(
        network, coupling_of(network, rows[0].images_B3HW[:2]), lambda: rows, network, loss, classes, seed=seed
    )


@pytest.fixture(scope="session")
def evidence_for() -> Callable[..., Evidence]:
    return make_evidence


def gated_slots(group: Group, coupling: Coupling) -> list[Slot]:
    """The slots that read the group, without depthwise layers inside it; if there are none, those that make it."""
    inside = {grouped.layer for grouped in coupling.grouped}
    outer = [slot for slot in group.slots if slot.parameter.rpartition(".")[0] not in inside]
    return [slot for slot in outer if slot.role == "in"] or [slot for slot in outer if slot.role == "out"]


def gated_weights(network: nn.Module, coupling: Coupling, gates: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the parameters with each unit's slices multiplied by its gate where it leaves its group."""
    weights = dict(network.named_parameters())
    for group in coupling.free:
        place = {int(label): unit for unit, label in enumerate(group.units)}
        padded = torch.cat([gates[group.name], gates[group.name].new_ones(1)])
        for slot in gated_slots(group, coupling):
            factor = padded[[place.get(int(label), -1) for label in slot.labels]]
            shape = [1] * weights[slot.parameter].dim()
            shape[slot.dim] = -1
            weights[slot.parameter] = weights[slot.parameter] * factor.reshape(shape)
    return weights


@pytest.fixture(scope="session")
def gated_loss() -> Callable[[Evidence, Labelled], Gated]:
    """The loss of a batch as a function of explicit gates, built into the weights."""

    def build(evidence: Evidence, batch: Labelled) -> Gated:
        def loss(gates: Mapping[str, Tensor]) -> Tensor:
            weights = gated_weights(evidence.network, evidence.coupling, gates)
            logits = functional_call(evidence.network, weights, (batch.images_B3HW,), tie_weights=True)
            return F.cross_entropy(logits, batch.labels_BHW)

        return loss

    return build


@pytest.fixture(scope="session")
def ones() -> Callable[[Evidence], dict[str, Tensor]]:
    def build(evidence: Evidence) -> dict[str, Tensor]:
        return {
            group.name: torch.ones(group.width, dtype=torch.float64, requires_grad=True)
            for group in evidence.coupling.free
        }

    return build


class NormedNetwork(nn.Module):
    """A norm behind every layer: residual sum, depthwise, grouped and transposed convolution, tied weights, concat."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.stem, self.stem_norm = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.inner, self.inner_norm = nn.Conv2d(6, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5)
        self.back, self.back_norm = nn.Conv2d(5, 6, 1, bias=False), nn.BatchNorm2d(6)
        self.depth, self.depth_norm = nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False), nn.BatchNorm2d(6)
        self.point, self.point_norm = nn.Conv2d(6, 8, 1, bias=False), nn.BatchNorm2d(8)
        self.group, self.group_norm = nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=False), nn.BatchNorm2d(8)
        self.up, self.up_norm = nn.ConvTranspose2d(8, 7, 2, stride=2, bias=False), nn.BatchNorm2d(7)
        self.left, self.left_norm = nn.Conv2d(7, 7, 1, bias=False), nn.BatchNorm2d(7)
        self.right = nn.Conv2d(7, 7, 1, bias=False)
        self.right.weight = self.left.weight
        self.classifier = nn.Conv2d(13, 4, 1)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.3)
                nn.init.normal_(module.running_mean, std=0.1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.stem_norm(self.stem(images)))
        x = F.relu(x + self.back_norm(self.back(F.relu(self.inner_norm(self.inner(x))))))
        y = F.relu(self.depth_norm(self.depth(x)))
        y = F.relu(self.group_norm(self.group(F.relu(self.point_norm(self.point(y))))))
        y = F.avg_pool2d(F.relu(self.up_norm(self.up(y))), 2)
        y = F.relu(self.left_norm(self.left(y))) + F.relu(self.right(y))
        return self.classifier(torch.cat([x, y], dim=1))


@pytest.fixture(scope="session")
def normed_network() -> Callable[..., nn.Module]:
    return NormedNetwork
