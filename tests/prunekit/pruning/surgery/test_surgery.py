"""In place: the optimiser follows, a failed proof changes nothing, a structure that moved is refused."""

import copy
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from prunekit.errors import PruneError
from prunekit.pruning import Plan, analyse, arbitrary_plan, prune_, pruned, verify
from prunekit.pruning.surgery import Slice, make_plan

Build = Callable[[Sequence[str], int], nn.Module]


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_the_optimiser_goes_on_where_it_was(random_network: Build, kind: type[torch.optim.Optimizer]) -> None:
    network = random_network(["Residual", "Grouped"], 0)
    images = torch.randn(2, 3, 8, 8)
    options = {"momentum": 0.9} if kind is torch.optim.SGD else {}
    optimiser = kind(network.parameters(), lr=0.01, **options)  # type: ignore[call-arg]
    network(images).square().mean().backward()
    optimiser.step()
    momenta = {name: optimiser.state[p] for name, p in network.named_parameters()}
    plan = arbitrary_plan(analyse(network, (images,)), 0.4)
    prune_(network, plan, optimiser=optimiser)
    cut = {row.parameter: row for row in plan.slices}
    for name, parameter in network.named_parameters():
        assert any(parameter is p for group in optimiser.param_groups for p in group["params"]), name
        for value in optimiser.state[parameter].values():
            if value.dim():
                assert value.shape == parameter.shape
        if name in cut and sum(row.parameter == name for row in plan.slices) == 1:
            key = "momentum_buffer" if kind is torch.optim.SGD else "exp_avg"
            expected = momenta[name][key].index_select(cut[name].dim, torch.tensor(cut[name].keep))
            assert torch.equal(optimiser.state[parameter][key], expected)
    network(images).square().mean().backward()
    optimiser.step()


def test_a_plan_that_is_not_exact_changes_nothing(random_network: Build) -> None:
    network = random_network(["Residual"], 0)
    images = torch.randn(2, 3, 8, 8)
    plan = make_plan(analyse(network, (images,)), {"image_concat": [0, 1, 2, 3]})
    shifted = tuple(
        Slice(row.parameter, row.dim, row.width, tuple(range(row.width - len(row.keep), row.width)))
        if row.parameter == "classifier.weight"
        else row
        for row in plan.slices
    )
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(PruneError, match="not proved equal to the masked one"):
        prune_(network, Plan(shifted, plan.groups), example_inputs=(images,))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_tied_weights_stay_tied(random_network: Build) -> None:
    network = random_network(["Shared"], 0)
    smaller = pruned(network, arbitrary_plan(analyse(network, (torch.randn(2, 3, 8, 8),)), 0.4))
    block = smaller.get_submodule("blocks.0")
    assert block.left.weight is block.right.weight
    assert block.left.weight.shape[0] < 5 or block.left.weight.shape[1] < 4


class TrainingHead(nn.Module):
    """An auxiliary head that only training uses, as real-time networks have."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head, self.aux = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 1)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = torch.relu(self.stem(images))
        return (self.head(x), self.aux(x)) if self.training else self.head(x)


def test_heads_that_only_training_uses_are_cut_too() -> None:
    network = TrainingHead()
    images = torch.randn(2, 3, 8, 8)
    smaller = pruned(network, arbitrary_plan(analyse(network, (images,)), 0.5)).train()
    main, aux = smaller(images)
    assert main.shape == aux.shape == (2, 4, 8, 8)
    assert smaller.aux.in_channels == smaller.stem.out_channels < 8


def test_verify_accepts_a_good_plan_and_sees_a_wrong_structure(random_network: Build) -> None:
    network = random_network(["Concat", "Residual"], 0)
    images = torch.randn(2, 3, 8, 8)
    coupling = analyse(network, (images,))
    assert verify(network, arbitrary_plan(coupling, 0.5), coupling, (images,)) <= 1e-4
    other = analyse(random_network(["Residual", "Concat"], 0), (images,))
    with pytest.raises(PruneError):
        verify(network, arbitrary_plan(other, 0.5), other, (images,))


def test_a_network_that_cannot_be_exported_gives_one_error() -> None:
    class DataDependent(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images if bool(images.sum() > 0) else -images

    with pytest.raises(PruneError, match=r"torch.export cannot trace DataDependent: .*") as caught:
        analyse(DataDependent(), (torch.randn(1, 3, 4, 4),))
    assert "\n" not in str(caught.value)


def test_parameters_that_nothing_uses_stay_as_they_are() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1))
    network[0].register_module("never", nn.Conv2d(8, 8, 1))
    coupling = analyse(network, (torch.zeros(2, 3, 8, 8),))
    assert set(coupling.unseen) == {"0.never.weight", "0.never.bias"}
    smaller = pruned(network, arbitrary_plan(coupling, 0.5))
    assert smaller.get_parameter("0.never.weight").shape == (8, 8, 1, 1)


def test_parametrised_layers_are_cut_with_their_neighbours() -> None:
    convolutions = [nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 12, 1), nn.Conv2d(12, 6, 1)]
    weight_norm(convolutions[0])
    spectral_norm(convolutions[1])
    network = nn.Sequential(*convolutions, nn.Conv2d(6, 4, 1)).eval()
    images = torch.randn(2, 3, 8, 8)
    coupling = analyse(network, (images,))
    plan = arbitrary_plan(coupling, 0.3)
    smaller = prune_(copy.deepcopy(network), plan, example_inputs=(images,))
    assert {type(layer) for layer in smaller} == {type(layer) for layer in network}
    for layer in smaller:
        assert layer.weight.shape[:2] == (layer.out_channels, layer.in_channels)
    assert [layer.out_channels < dense.out_channels for layer, dense in zip(smaller, network, strict=True)][:-1] == [
        True
    ] * 4


class Computed(nn.Module):
    """addmm and baddbmm with learnt operands."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.back = nn.Conv2d(3, 8, 1), nn.Conv2d(6, 4, 1)
        self.weight, self.bias = nn.Parameter(torch.randn(8, 6)), nn.Parameter(torch.randn(6))

    def forward(self, images: Tensor) -> Tensor:
        x = self.embed(images).flatten(2).transpose(1, 2)
        y = torch.baddbmm(self.bias.expand(len(x), 1, 6), x, self.weight.expand(len(x), -1, -1))
        z = torch.addmm(self.bias, x.reshape(-1, x.shape[2]), self.weight).view_as(y)
        return self.back((y + z).transpose(1, 2).unflatten(2, images.shape[2:]))


def test_sums_with_products_follow_their_operands() -> None:
    network, images = Computed(), torch.randn(2, 3, 4, 4)
    coupling = analyse(network, (images,))
    plan = make_plan(coupling, {"embed": [1, 4, 6]})
    assert verify(network, plan, coupling, (images,)) <= 1e-4
