"""Equal or not, whatever rounding decides, whatever precision the code fixes, whatever it draws."""

import copy
import math
import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunekit.equality.compare import Comparison, compare, outputs, relative_error
from prunekit.errors import FoldError, PruneError
from prunekit.folding.batchnorm import fold_batch_norm
from prunekit.pruning import Plan, analyse, exactness
from prunekit.pruning.surgery import Slice, check_exact, make_plan

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A convolution, something in between, and a convolution."""

    def __init__(self, between=lambda x: x, after=lambda x: x) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.between, self.after = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1), between, after

    def forward(self, images: Tensor):
        return self.after(self.b(self.between(self.a(images))))


def plan_for(network: nn.Module, keep=(0, 3, 5)) -> Plan:
    return make_plan(analyse(network, (IMAGES,)), {"a": list(keep)})


def wrong_plan() -> Plan:
    """Cuts other inputs of the second convolution than outputs of the first."""
    rows = [Slice("a.weight", 0, 8, (0, 3)), Slice("a.bias", 0, 8, (0, 3)), Slice("b.weight", 1, 8, (1, 4))]
    return Plan(tuple(rows), {})


def two(first: nn.Module, second: nn.Module) -> Comparison:
    def pair(wide: bool) -> tuple[nn.Module, nn.Module]:
        a, b = copy.deepcopy(first), copy.deepcopy(second)
        return (a.double(), b.double()) if wide else (a, b)

    return compare(pair, (IMAGES,))


def reordered(network: Net, seed: int) -> Net:
    """The same network, its sums taken in another order."""
    other = copy.deepcopy(network)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        other.a.weight.copy_(network.a.weight[order])
        other.a.bias.copy_(network.a.bias[order])
        other.b.weight.copy_(network.b.weight[:, order])
    return other


def nearest(x: Tensor) -> Tensor:
    """Half-way between two places of a map, where the maps are flat."""
    grid = 0.2 * (x[:, 0] / x[:, 0, :1, :1])[..., None].expand(-1, -1, -1, 2)
    return F.grid_sample(
        torch.arange(25.0).to(x).view(1, 1, 5, 5).expand(len(x), -1, -1, -1), grid, "nearest", align_corners=False
    )


CHOICES = {
    "max_pool2d": lambda x: F.max_pool2d(x, 2, return_indices=True)[1].float(),
    "adaptive_max_pool2d": lambda x: F.adaptive_max_pool2d(x, 3, return_indices=True)[1].float(),
    "argmax": lambda x: x.flatten(2).argmax(-1).float(),
    "argmin": lambda x: x.flatten(2).argmin(-1).float(),
    "max": lambda x: x.flatten(2).max(2).indices.float(),
    "median": lambda x: x.flatten(2).median(2).indices.float(),
    "topk": lambda x: x.flatten(2).topk(3).indices.float(),
    "sort": lambda x: x.flatten(2).sort(stable=True).indices.float(),
    "kthvalue": lambda x: x.flatten(2).kthvalue(2).indices.float(),
    "greater": lambda x: (x > x.mean((2, 3), keepdim=True)).float(),
    "floor": lambda x: (x / x[:, :, :1, :1]).floor(),
    "round": lambda x: (x / x[:, :, :1, :1] * 0.5).round(),
    "sign": lambda x: (x - x[:, :, :1, :1]).sign(),
    "floor in place": lambda x: (x / x[:, :, :1, :1]).floor_(),
    "remainder": lambda x: x.remainder(x[:, :, :1, :1]),
    "divide to the floor": lambda x: torch.div(x, x[:, :, :1, :1], rounding_mode="floor"),
    "nearest place": nearest,
    "whole numbers": lambda x: (x / x[:, :, :1, :1]).to(torch.int64).float(),
}


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES.keys())
def test_what_rounding_chooses_does_not_count(choice) -> None:
    """The map is flat in exact arithmetic: each place holds the same sum, taken in an order of its own."""

    class Flat(nn.Module):
        def __init__(self, seed: int) -> None:
            super().__init__()
            generator = torch.Generator().manual_seed(seed)
            self.orders = torch.stack([torch.randperm(60, generator=generator) for _ in range(64)])
            self.terms = nn.Parameter(torch.randn(60, generator=torch.Generator().manual_seed(1)) + 2)

        def forward(self, _images: Tensor) -> Tensor:
            sums = torch.zeros(64, dtype=self.terms.dtype)
            for terms in (self.terms / 3)[self.orders].T:  # a third: sums of 24 bits would be exact in float64
                sums = sums + terms
            return choice(sums.view(1, 1, 8, 8).expand(2, 1, 8, 8))

    first, second = Flat(0), Flat(1)
    doubled = [outputs(copy.deepcopy(one).double(), (IMAGES,))[0] for one in (first, second)]
    assert not torch.equal(*doubled), "float64 alone settles this: the test shows nothing"
    assert two(first, second).equal


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES.keys())
def test_what_is_different_is_found_behind_a_choice(choice) -> None:
    network = Net(after=choice)
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.b.weight.mul_(-1)
        other.b.bias.mul_(-0.3)
    assert not two(network, other).equal


HELD = torch.rand(6, 6, generator=torch.Generator().manual_seed(0))


def autocast(x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return F.conv2d(x, torch.eye(8)[:, :, None, None]).float()


FIXED_PRECISION = {
    "autocast": autocast,
    "a cast": lambda x: torch.sigmoid(x.float()).to(torch.float32),
    "a new tensor": lambda x: x + torch.full((1,), 0.1, dtype=torch.float32),
    "half the bits": lambda x: x.to(torch.bfloat16).to(torch.float32),
    "a softmax": lambda x: F.softmax(x.flatten(2), dim=-1, dtype=torch.float32).view_as(x),
    "a held tensor": lambda x: x * HELD,
}


@pytest.mark.parametrize("between", FIXED_PRECISION.values(), ids=FIXED_PRECISION.keys())
def test_a_precision_that_the_code_fixes_is_widened(between) -> None:
    network = Net(between, lambda x: (x * 1e5).sin())  # magnifies roundings
    other = reordered(network, 3)
    found = two(network, other)
    assert found.error > 1e-4, "float32 settles this: the test shows nothing"
    assert found.equal, found.why()
    with torch.no_grad():
        other.b.weight.mul_(1.01)
    assert not two(network, other).equal


def test_code_that_cannot_run_in_float64_is_named() -> None:
    def strict(x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            raise TypeError("float32 alone, please")
        return x

    network = Net(strict, lambda x: (x * 1e5).sin())
    found = two(network, reordered(network, 3))
    assert not found.equal
    assert "does not run in float64: TypeError: float32 alone, please." in found.why()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_never_pass(value: float) -> None:
    network = Net(after=lambda x: torch.where(x > 0, x, value))
    with pytest.raises(PruneError, match="not finite"):
        exactness(network, plan_for(network), (IMAGES,))
    with pytest.raises(PruneError, match="not finite"):
        check_exact(network, plan_for(network), (IMAGES,))
    broken = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).eval()
    nn.init.constant_(broken[0].bias, value)
    with pytest.raises(FoldError, match="not finite"):
        fold_batch_norm(broken, (IMAGES,))


def test_outputs_that_are_labels_are_compared() -> None:
    network = Net(after=lambda x: x.argmax(dim=1))
    assert exactness(network, plan_for(network), (IMAGES,)) == 0
    with pytest.raises(PruneError, match="misread"):
        check_exact(network, wrong_plan(), (IMAGES,))


def test_outputs_that_are_complex_are_compared() -> None:
    network = Net(after=torch.fft.fft2)
    assert exactness(network, plan_for(network), (IMAGES,)) <= 1e-4
    assert exactness(network, wrong_plan(), (IMAGES,)) > 1e-2


def test_a_wrong_cut_is_wrong_in_both_precisions() -> None:
    network = Net(torch.relu)
    assert exactness(network, wrong_plan(), (IMAGES,)) > 1e-2
    with pytest.raises(PruneError, match=r"in float64: this is not rounding. The analysis misread this network"):
        check_exact(network, wrong_plan(), (IMAGES,))


@pytest.mark.parametrize("between", [lambda x: x[:, :, : x.shape[1]], lambda x: x.view(2, 8, 6, 6)])
def test_other_shapes_are_refused(between) -> None:
    network = Net(between)
    rows = (Slice("a.weight", 0, 8, (0, 3)), Slice("a.bias", 0, 8, (0, 3)), Slice("b.weight", 1, 8, (0, 3)))
    with pytest.raises(PruneError, match=r"is due|Only one of them runs"):
        exactness(network, Plan(rows, {}), (IMAGES,))


def test_nothing_returned_proves_nothing() -> None:
    network = Net(after=lambda _: None)
    with pytest.raises(PruneError, match="no tensor"):
        exactness(network, wrong_plan(), (IMAGES,))


def test_random_numbers_are_the_same_in_both_networks() -> None:
    def noisy(x: Tensor) -> Tensor:
        return x * torch.rand(1) + random.random() + float(np.random.rand())

    network = Net(noisy)
    plan = plan_for(network)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    assert exactness(network, plan, (IMAGES,)) <= 1e-6
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), np.random.get_state()[1].tolist())


def test_random_numbers_along_channels_are_named() -> None:
    network = Net(lambda x: x * torch.rand(x.shape[1], 1, 1))
    rows = tuple(Slice(name, dim, 8, (0, 3)) for name, dim in (("a.weight", 0), ("a.bias", 0), ("b.weight", 1)))
    for proves in (exactness, check_exact):
        with pytest.raises(PruneError, match="draws random numbers in evaluation mode"):
            proves(network, Plan(rows, {}), (IMAGES,))


def test_a_network_that_writes_to_its_images_is_given_them_anew() -> None:
    network = nn.Sequential(nn.ReLU(inplace=True), Net(lambda x: x.add_(1))).eval()
    images = IMAGES.clone()
    plan = make_plan(analyse(network, (images.clone(),)), {"1.a": [0, 3, 5]})
    assert exactness(network, plan, (images,)) <= 1e-6
    assert torch.equal(images, IMAGES)


def test_the_networks_that_are_compared_stay_in_their_mode() -> None:
    network = Net(torch.relu).train()
    exactness(network, plan_for(network), (IMAGES,))
    assert network.training


def test_relative_errors_are_of_the_largest_value() -> None:
    assert relative_error(torch.tensor([1.0, 4.0]), torch.tensor([1.0, 5.0])) == 0.25
    assert relative_error(torch.ones(2), torch.tensor([1.0, torch.nan])) == math.inf
    assert relative_error(torch.full((2,), torch.nan), torch.full((2,), torch.nan)) == math.inf
    assert relative_error(torch.full((2,), torch.inf), torch.full((2,), torch.inf)) == math.inf
    assert relative_error(torch.zeros(2), torch.zeros(2)) == 0
    assert relative_error(torch.zeros(0, 3), torch.zeros(0, 3)) == 0
