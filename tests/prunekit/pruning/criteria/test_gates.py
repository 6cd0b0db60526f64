"""Gate gradients: what the hooks collect is the derivative by an explicit gate, on drawn networks."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunekit.errors import PruneError
from prunekit.pruning import analyse
from prunekit.pruning.evidence import Evidence, gate_gradients

Build = Callable[[Sequence[str], int], nn.Module]
BLOCK_NAMES = [
    *("Residual", "Projected", "Concat", "Split", "Grouped", "Depthwise", "Transposed", "GroupedTransposed", "Gate"),
    *("Shuffle", "PixelShuffled", "PerPixelLinear", "Slopes", "PooledContext", "ZeroPaddedSkip", "Shared"),
    *("WindowShift", "StripPooled", "InPlace", "Unfolded", "SelectiveKernel", "Volume", "Unshuffled"),
    *("SelfProduct", "EinsumAttention", "ChannelNorms", "GroupNormed", "Unpooled", "Tokens", "RmsNormed", "Sampled"),
    *("SpatialGate", "Sliced", "WrittenSize", "ChannelStatistics", "DualAttention", "UnknownOp", "RelativeBias"),
]


@pytest.mark.drawn(5)
def test_gate_gradients_are_the_derivative_by_an_explicit_gate(
    random_network: Build,
    evidence_for: Callable[..., Evidence],
    gated_loss: Callable[..., Callable[..., Tensor]],
    ones: Callable[[Evidence], dict[str, Tensor]],
    seed: int,
) -> None:
    generator = np.random.default_rng([seed, 2])
    names = [BLOCK_NAMES[index] for index in generator.integers(len(BLOCK_NAMES), size=generator.integers(1, 4))]
    evidence = evidence_for(random_network(names, seed), seed=seed)
    gates = evidence.gates
    for number, batch in enumerate(evidence.batches()):
        explicit = ones(evidence)
        gated_loss(evidence, batch)(explicit).backward()
        for name, gate_U in explicit.items():
            torch.testing.assert_close(gates[name].batch_means()[number], gate_U.grad, atol=1e-10, rtol=1e-7)


@pytest.mark.parametrize("name", BLOCK_NAMES)
def test_every_block_is_seen(random_network: Build, evidence_for: Callable[..., Evidence], name: str) -> None:
    evidence = evidence_for(random_network([name], 1), count=1)
    assert set(evidence.gates) == {group.name for group in evidence.coupling.free}
    assert all(bool(gates.gate_SU.isfinite().all()) for gates in evidence.gates.values())


def test_a_gate_gradient_is_a_finite_difference(
    random_network: Build,
    evidence_for: Callable[..., Evidence],
    gated_loss: Callable[..., Callable[..., Tensor]],
    ones: Callable[[Evidence], dict[str, Tensor]],
) -> None:
    evidence = evidence_for(random_network(["Residual", "Depthwise"], 3), count=1)
    (batch,) = evidence.batches()
    step = 1e-6
    for group in evidence.coupling.free:
        for unit in range(0, group.width, 3):
            losses = []
            for sign in (1, -1):
                gates = {name: gate.detach().clone() for name, gate in ones(evidence).items()}
                gates[group.name][unit] += sign * step
                losses.append(gated_loss(evidence, batch)(gates).item())
            want = (losses[0] - losses[1]) / (2 * step)
            assert evidence.gates[group.name].gate_SU[:, unit].mean().item() == pytest.approx(want, abs=1e-7)


def test_samples_do_not_see_each_other(random_network: Build, evidence_for: Callable[..., Evidence]) -> None:
    """A batch of three gives what three batches of one give."""
    together = evidence_for(random_network(["Projected", "WindowShift"], 0), count=1, batch=4)
    (batch,) = together.batches()
    alone = Evidence(
        together.network,
        together.coupling,
        lambda: [type(batch)(*(value[n : n + 1] for value in batch)) for n in range(4)],
        together.forward,
        together.loss,
        together.num_classes,
    )
    for name, gates in alone.gates.items():
        torch.testing.assert_close(gates.gate_SU, together.gates[name].gate_SU, atol=1e-10, rtol=1e-7)
        assert (gates.batches, together.gates[name].batches) == ((1, 1, 1, 1), (4,))


def test_place_moments_are_those_of_the_products_place_by_place(evidence_for: Callable[..., Evidence]) -> None:
    network = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 4, 1))
    evidence = evidence_for(network, count=2, batch=3)
    gates = gate_gradients(evidence, places=10**6)["0"]
    want_UU = torch.zeros(5, 5, dtype=torch.float64)
    for images_B3HW, labels_BHW in evidence.batches():
        for image, label in zip(images_B3HW, labels_BHW, strict=True):
            x_UHW = network[:2](image).detach().requires_grad_()
            F.cross_entropy(network[2](x_UHW)[None], label[None]).backward()
            product_UN = (x_UHW * x_UHW.grad).detach().flatten(1)
            want_UU += product_UN @ product_UN.T / 6
    torch.testing.assert_close(gates.moment_UU, want_UU)
    assert evidence.gates["0"].moment_UU is None


def test_sampled_places_estimate_the_moment(evidence_for: Callable[..., Evidence]) -> None:
    network = nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU(), nn.Conv2d(5, 4, 1))
    evidence = evidence_for(network, count=4, batch=2, size=24)
    full_UU = gate_gradients(evidence, places=10**6)["0"].moment_UU
    sampled_UU = gate_gradients(evidence, places=800)["0"].moment_UU
    assert full_UU is not None
    assert sampled_UU is not None
    assert 0 < float((sampled_UU - full_UU).norm() / full_UU.norm()) < 0.3


def test_collecting_leaves_no_trace(random_network: Build, evidence_for: Callable[..., Evidence]) -> None:
    evidence = evidence_for(random_network(["Residual"], 0))
    assert evidence.gates is evidence.gates
    modules = list(evidence.network.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)
    assert all(parameter.grad is None for parameter in evidence.network.parameters())


def test_frozen_weights_still_get_gate_gradients(random_network: Build, evidence_for: Callable[..., Evidence]) -> None:
    evidence = evidence_for(random_network(["Projected"], 0))
    want = evidence.gates
    for parameter in evidence.network.stem.parameters():
        parameter.requires_grad_(False)
    got = gate_gradients(evidence)
    for name in want:
        torch.testing.assert_close(got[name].gate_SU, want[name].gate_SU)


def test_without_a_batch_there_is_one_clear_error(random_network: Build, evidence_for: Callable[..., Evidence]) -> None:
    evidence = evidence_for(random_network(["Residual"], 0))
    evidence.batches = list
    with pytest.raises(PruneError, match="Gate gradients need a batch"):
        gate_gradients(evidence)


class WithAuxiliaryHead(nn.Module):
    def __init__(self, *, called: bool) -> None:
        super().__init__()
        self.called = called
        self.stem, self.aux, self.aux_head, self.head = (
            nn.Conv2d(*widths, 1) for widths in ((3, 6), (6, 5), (5, 4), (6, 4))
        )

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images).relu()
        if self.called or self.training:
            self.aux_head(self.aux(x).relu())
        return self.head(x)


@pytest.mark.parametrize("called", [True, False])
def test_what_the_loss_does_not_depend_on_has_no_gradient(evidence_for: Callable[..., Evidence], called: bool) -> None:
    evidence = evidence_for(WithAuxiliaryHead(called=called))
    evidence = replace(evidence, coupling=analyse(Both(evidence.network), (torch.randn(2, 3, 8, 8).double(),)))
    evidence.network = Both(evidence.network)
    network = evidence.network
    evidence.loss = lambda images, labels: F.cross_entropy(network.inner(images), labels)
    assert evidence.gates["inner.aux"].gate_SU.abs().max() == 0
    assert evidence.gates["inner.stem"].gate_SU.abs().max() > 0


class Both(nn.Module):
    """Returns the auxiliary head's logits too, so that the analysis sees them."""

    def __init__(self, inner: WithAuxiliaryHead) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self.inner.stem(images).relu()
        return self.inner.head(x), self.inner.aux_head(self.inner.aux(x).relu())


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 5, 1), nn.Conv2d(5, 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = F.conv2d(images, self.first.weight).relu()
        return F.conv2d(x, self.second.weight)


def test_weights_used_without_their_layers_are_refused(evidence_for: Callable[..., Evidence]) -> None:
    with pytest.raises(PruneError, match=r"without calling its layers as modules \(first.weight\)"):
        gate_gradients(evidence_for(Functional()))


class EveryGroupReadsAll(nn.Module):
    """A grouped convolution whose weight names 5 positions and whose input holds them twice, as in the CCS head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.make, self.each, self.classifier = nn.Conv2d(3, 5, 1), nn.Conv2d(10, 6, 1, groups=2), nn.Conv2d(11, 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.make(images))
        return self.classifier(torch.cat([x, F.relu(self.each(torch.cat([x, x], dim=1)))], dim=1))


def test_positions_that_every_group_reads_share_a_gate(evidence_for: Callable[..., Evidence]) -> None:
    evidence = evidence_for(EveryGroupReadsAll(), count=1)
    gate_U = torch.ones(5, dtype=torch.float64, requires_grad=True)
    (batch,) = evidence.batches()
    handle = evidence.network.make.register_forward_hook(lambda _, __, output: output * gate_U[:, None, None])
    evidence.loss(batch.images_B3HW, batch.labels_BHW).backward()  # relu(m x) is m relu(x) for m near 1
    handle.remove()
    torch.testing.assert_close(evidence.gates["make"].batch_means()[0], gate_U.grad)


class Attended(nn.Module):
    """Queries and keys that only a product reads; activations may write in place behind the layers that make them."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.query, self.key, self.value = (nn.Conv2d(3, 5, 1) for _ in range(3))
        self.of_query, self.of_key = nn.ReLU(inplace), nn.ReLU(inplace)
        self.classifier = nn.Conv2d(5, 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        query = self.of_query(self.query(images)).flatten(2)
        key = self.of_key(self.key(images)).flatten(2)
        scores = torch.softmax(query.transpose(1, 2) @ key, dim=2)
        mixed = self.value(images).flatten(2) @ scores.transpose(1, 2)
        return self.classifier(mixed.unflatten(2, images.shape[2:]))


def test_activations_in_place_change_no_gate(evidence_for: Callable[..., Evidence]) -> None:
    aside, inplace = (gate_gradients(evidence_for(Attended(inplace))) for inplace in (False, True))
    assert aside["query"].gate_SU.any()
    for name, gates in aside.items():
        torch.testing.assert_close(inplace[name].gate_SU, gates.gate_SU)
