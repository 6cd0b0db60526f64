"""Weights that are computed on the way: what is cut equals the masked network, what cannot be cut says why."""

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import orthogonal, spectral_norm, weight_norm

from prunekit.errors import PruneError
from prunekit.pruning import Coupling, analyse, exactness, masked, pruned, verify
from prunekit.pruning.surgery import make_plan

TOLERANCE = 1e-5


class Standardised(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.var((1, 2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()
        return F.conv2d(x, w, self.bias, self.stride, self.padding)


class ScaledStandardised(nn.Conv2d):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)
        self.gain = nn.Parameter(torch.rand(outputs, 1, 1, 1) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.reshape(1, self.out_channels, -1)
        w = F.batch_norm(flat, None, None, weight=self.gain.view(-1), training=True, momentum=0.0, eps=1e-6)
        return F.conv2d(x, w.reshape_as(self.weight), self.bias, padding=1)


class Written(nn.Module):
    """A convolution of 3 to 8 channels, a layer given as a function of parameters, a convolution that reads it."""

    def __init__(self, layer: Callable[..., Tensor], *shapes: tuple[int, ...], width: int = 12) -> None:
        super().__init__()
        self.a, self.out = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(width, 4, 1)
        self.weights = nn.ParameterList([nn.Parameter(torch.rand(shape) + 0.5) for shape in shapes])
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.layer(self.a(x), *self.weights))


def rows(x: Tensor, weight: Tensor) -> Tensor:
    return F.linear(x.permute(0, 2, 3, 1), weight).permute(0, 3, 1, 2)


def around(layer: nn.Module, width: int = 12) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), layer, nn.Conv2d(width, 4, 1))


BOTH_FREE: dict[str, Callable[[], nn.Module]] = {
    "weight norm": lambda: around(weight_norm(nn.Conv2d(8, 12, 3))),
    "weight norm, transposed": lambda: around(weight_norm(nn.ConvTranspose2d(8, 12, 3), dim=1)),
    "weight norm by inputs": lambda: around(weight_norm(nn.ConvTranspose2d(8, 12, 3))),
    "weight norm of all": lambda: around(weight_norm(nn.Conv2d(8, 12, 3), dim=None)),
    "spectral norm": lambda: around(spectral_norm(nn.Conv2d(8, 12, 3))),
    "scaled outputs": lambda: Written(lambda x, w, g: F.conv2d(x, w * g), (12, 8, 1, 1), (12, 1, 1, 1)),
    "scaled inputs": lambda: Written(lambda x, w, g: F.conv2d(x, w * g), (12, 8, 1, 1), (1, 8, 1, 1)),
    "cast": lambda: Written(lambda x, w: F.conv2d(x, w.double().float()), (12, 8, 1, 1)),
    "summed branches": lambda: Written(
        lambda x, w, v: F.conv2d(x, w + F.pad(v, (1, 1, 1, 1)), padding=1), (12, 8, 3, 3), (12, 8, 1, 1)
    ),
    "folded norm": lambda: Written(
        lambda x, w, g, b: F.conv2d(x, w * (g / (g * g + 1e-3).sqrt()).view(-1, 1, 1, 1), b * g),
        *((12, 8, 3, 3), (12,), (12,)),
    ),
    "length with an epsilon": lambda: Written(
        lambda x, w, g: F.conv2d(x, w * g / (w.pow(2).sum((1, 2, 3), keepdim=True) + 1e-6).sqrt()),
        *((12, 8, 3, 3), (12, 1, 1, 1)),
    ),
    "normalised rows": lambda: Written(lambda x, w: F.conv2d(x, F.normalize(w.flatten(1)).view_as(w)), (12, 8, 3, 3)),
    "squashed": lambda: Written(lambda x, w: F.conv2d(x, w.tanh()), (12, 8, 3, 3)),
    "low rank": lambda: Written(
        lambda x, w, a, b: F.conv2d(x, w + (a @ b)[:, :, None, None]), (12, 8, 1, 1), (12, 4), (4, 8)
    ),
    "turned": lambda: Written(lambda x, w: rows(x, w.t()), (8, 12)),
    "split in three": lambda: Written(lambda x, w: rows(x, w.chunk(3)[1]) + rows(x, w.chunk(3)[2]), (36, 8)),
}

OUTPUTS_FREE: dict[str, Callable[[], nn.Module]] = {
    "standardised": lambda: around(Standardised(8, 12, 3)),
    "scaled and standardised": lambda: around(ScaledStandardised(8, 12)),
}

FROZEN: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "orthogonal": (lambda: around(orthogonal(nn.Conv2d(8, 12, 3))), "computed by .*, which the analysis does not"),
    "not zero at zero": (lambda: Written(lambda x, w: F.conv2d(x, w.sigmoid()), (12, 8, 3, 3)), "is not zero where"),
    "of all together": (lambda: Written(lambda x, w: F.conv2d(x, w - w.mean()), (12, 8, 3, 3)), "is standardised"),
}


def drawn(coupling: Coupling, seed: int) -> dict[str, list[int]]:
    generator = np.random.default_rng(seed)
    groups = [group for group in coupling.free if group.width > 1]
    return {g.name: sorted(generator.permutation(g.width)[: generator.integers(1, g.width)].tolist()) for g in groups}


def built(build: Callable[[], nn.Module], seed: int = 0) -> tuple[nn.Module, tuple[Tensor]]:
    torch.manual_seed(seed)
    return build().eval(), (torch.randn(2, 3, 10, 10),)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", [*BOTH_FREE, *OUTPUTS_FREE])
def test_a_cut_of_computed_weights_equals_the_masked_network(name: str, seed: int) -> None:
    network, images = built({**BOTH_FREE, **OUTPUTS_FREE}[name], seed)
    coupling = analyse(network, images)
    keep = drawn(coupling, seed)
    plan = make_plan(coupling, keep)
    assert exactness(network, plan, images) <= TOLERANCE
    assert sum(p.numel() for p in pruned(network, plan).parameters()) == coupling.params(keep)
    assert not torch.allclose(masked(network, plan)(*images), network(*images), atol=1e-3)


@pytest.mark.parametrize("name", BOTH_FREE)
def test_what_reads_and_what_it_makes_are_free(name: str) -> None:
    network, images = built(BOTH_FREE[name])
    widths = sorted(group.width for group in analyse(network, images).free)
    assert widths == [8, 12]


@pytest.mark.parametrize("name", OUTPUTS_FREE)
def test_a_standardised_layer_keeps_its_inputs(name: str) -> None:
    network, images = built(OUTPUTS_FREE[name])
    coupling = analyse(network, images)
    assert [group.width for group in coupling.free] == [12]
    first = next(group for group in coupling.groups if group.width == 8)
    assert first.frozen is not None
    assert "standardised together" in first.frozen


@pytest.mark.parametrize("name", FROZEN)
def test_a_weight_that_cannot_be_cut_says_why(name: str) -> None:
    build, reason = FROZEN[name]
    network, images = built(build)
    coupling = analyse(network, images)
    first = next(group for group in coupling.groups if group.width == 8)
    assert first.frozen is not None
    assert re.search(reason, first.frozen), first.frozen


def test_a_parametrised_layer_is_named_as_the_user_names_it() -> None:
    network, images = built(BOTH_FREE["weight norm"])
    coupling = analyse(network, images)
    assert {group.name for group in coupling.free} == {"0", "1"}
    smaller = pruned(network, make_plan(coupling, {"0": [0, 3], "1": [1, 2, 5]}))
    layer = smaller.get_submodule("1")
    assert (layer.in_channels, layer.out_channels) == (2, 3)
    assert verify(network, make_plan(coupling, {"0": [0, 3], "1": [1, 2, 5]}), coupling, images) <= TOLERANCE


def test_the_power_iteration_of_a_spectral_norm_still_runs_after_a_cut() -> None:
    network, images = built(BOTH_FREE["spectral norm"])
    coupling = analyse(network, images)
    smaller = pruned(network, make_plan(coupling, drawn(coupling, 1))).train()
    layer = smaller.get_submodule("1")
    with torch.no_grad():
        for _ in range(50):
            smaller(*images)
        assert float(torch.linalg.matrix_norm(layer.weight.flatten(1), 2)) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("wrap", [nn.utils.weight_norm, nn.utils.spectral_norm])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_weight_that_cannot_be_copied_is_refused_by_its_layer(wrap: Callable[[nn.Module], nn.Module]) -> None:
    network, images = built(lambda: around(wrap(nn.Conv2d(8, 12, 3))))
    network(*images)
    with pytest.raises(PruneError, match=r"Layer 1 keeps weight.*remove_weight_norm.*parametrizations"):
        analyse(network, images)
