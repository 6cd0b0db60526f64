"""The exactness contract as a property: a pruned network equals the masked dense one, on drawn networks and plans."""

import re
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prunekit.errors import PruneError
from prunekit.pruning import Coupling, Plan, analyse, exactness, masked, pruned, verify
from prunekit.pruning.surgery import Slice, check_exact, make_plan

Build = Callable[[Sequence[str], int], nn.Module]
TOLERANCE = 1e-4
SIZES = ((8, 8), (6, 10))
BLOCK_NAMES = [
    *("Residual", "Projected", "Concat", "Split", "Grouped", "Depthwise", "Transposed", "GroupedTransposed", "Gate"),
    *("SpatialGate", "Shuffle", "PixelShuffled", "PerPixelLinear", "Slopes", "PooledContext", "ZeroPaddedSkip"),
    *("ChannelNorms", "SelfProduct", "GroupNormed", "Unpooled", "Unfolded", "EinsumAttention", "Sampled"),
    *("WrittenSize", "Sliced", "SelectiveKernel", "Transformer", "Tokens", "WindowShift", "Shared", "StripPooled"),
    *("ChannelStatistics", "DualAttention", "InPlace"),
    *("RmsNormed", "Volume", "UnknownOp", "Unshuffled", "RelativeBias"),
]


def drawn_plan(coupling: Coupling, seed: int) -> tuple[Plan, dict[str, list[int]]]:
    generator = np.random.default_rng(seed)
    keep = {
        group.name: sorted(generator.permutation(group.width)[: generator.integers(1, group.width + 1)].tolist())
        for group in coupling.free
    }
    return make_plan(coupling, keep), keep


def drawn_images(seed: int, *size: int) -> Tensor:
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(seed))


# Attention over a stem of one channel is flat to 1e-8, and what several attentions leave is flat to the last bit of
# float64: a max-pooling behind them picks its place by rounding, in the last three cases whatever the precision.
FLAT = [
    (["Concat", "EinsumAttention", "Unpooled"], 0),
    (["Depthwise", "EinsumAttention", "Gate", "Unpooled"], 0),
    (["StripPooled", "SelfProduct", "Unpooled"], 15574),
    (["Transposed", "RelativeBias", "EinsumAttention", "Unpooled"], 59182),
    (["SelfProduct", "SelfProduct", "Projected", "Unpooled"], 31255),
    (["SelfProduct", "Transformer", "StripPooled", "SelfProduct", "Unpooled"], 41912),
]


@pytest.mark.parametrize(("names", "seed"), FLAT)
def test_a_pooling_that_rounding_decides_does_not_count(random_network: Build, names: list[str], seed: int) -> None:
    network = random_network(names, seed)
    plan, _ = drawn_plan(analyse(network, (drawn_images(seed, 8, 8),)), seed)
    for image, size in enumerate([(8, 8), (6, 10), (40, 40)]):
        images = drawn_images(image, *size)
        assert exactness(network, plan, (images,)) <= TOLERANCE
        assert check_exact(network, plan, (images,)) <= TOLERANCE


@pytest.mark.parametrize(("names", "seed"), FLAT)
def test_a_wrong_cut_is_refused_where_rounding_decides_too(random_network: Build, names: list[str], seed: int) -> None:
    network = random_network(names, seed)
    images = drawn_images(seed, 40, 40)
    plan = make_plan(analyse(network, (images,)), {"image_concat": [0, 1, 2, 3]})
    wrong = Plan(tuple(_moved(row) if row.parameter == "classifier.weight" else row for row in plan.slices), {})
    assert exactness(network, plan, (images,)) <= TOLERANCE < exactness(network, wrong, (images,))
    with pytest.raises(PruneError, match=r"in float64: this is not rounding. The analysis misread"):
        check_exact(network, wrong, (images,))


def _moved(row: Slice) -> Slice:
    return Slice(row.parameter, row.dim, row.width, tuple(range(row.width - len(row.keep), row.width)))


def drawn_names(seed: int) -> list[str]:
    generator = np.random.default_rng([seed, 1])
    return [BLOCK_NAMES[index] for index in generator.integers(len(BLOCK_NAMES), size=generator.integers(1, 5))]


def even_plan(coupling: Coupling) -> Plan:
    return make_plan(coupling, {group.name: list(range(max(1, group.width // 2))) for group in coupling.free})


@pytest.mark.slow
@pytest.mark.drawn(200)
def test_a_pruned_network_equals_the_masked_dense_one(random_network: Build, seed: int) -> None:
    names = drawn_names(seed)
    network = random_network(names, seed)
    coupling = analyse(network, (drawn_images(seed, 8, 8),))
    plan, keep = drawn_plan(coupling, seed)
    assert coupling.free, "a random network always has channels to remove"
    assert verify(network, plan, coupling, (drawn_images(seed + 1, 8, 8),)) <= TOLERANCE, names
    for size in SIZES:
        assert exactness(network, plan, (drawn_images(seed + 2, *size),)) <= TOLERANCE, names
    smaller = pruned(network, plan)
    assert sum(p.numel() for p in smaller.parameters()) == coupling.params(keep)


@pytest.mark.parametrize("name", BLOCK_NAMES)
def test_every_block_loses_channels_and_stays_exact(random_network: Build, name: str) -> None:
    network = random_network([name, name], 1)
    images = torch.randn(2, 3, 8, 8)
    coupling = analyse(network, (images,))
    plan = even_plan(coupling)
    inside = {row.parameter for row in plan.slices if row.parameter.startswith("blocks.")}
    assert inside, f"nothing inside {name} was pruned"
    assert exactness(network, plan, (images,)) <= TOLERANCE


def test_block_names_are_the_blocks(block_names: list[str]) -> None:
    assert block_names == BLOCK_NAMES


def test_the_mask_matters(random_network: Build) -> None:
    """The property above could not fail if masking changed nothing."""
    network = random_network(["Residual"], 0)
    images = torch.randn(2, 3, 8, 8)
    plan = even_plan(analyse(network, (images,)))
    with torch.no_grad():
        assert not torch.allclose(masked(network, plan)(images), network(images), atol=1e-3)


def test_macs_are_those_of_the_pruned_network(random_network: Build) -> None:
    network = random_network(["Residual", "Grouped", "Depthwise", "Concat"], 3)
    images = torch.randn(1, 3, 8, 8)
    coupling = analyse(network, (images,))
    plan, keep = drawn_plan(coupling, 5)
    assert analyse(pruned(network, plan), (images,)).macs() == coupling.macs(keep)


def test_output_channels_are_protected(random_network: Build) -> None:
    network = random_network(["Residual"], 0)
    coupling = analyse(network, (torch.randn(1, 3, 8, 8),))
    classifier = next(group for group in coupling.groups if "classifier" in group.name)
    assert classifier.frozen is not None
    assert "output" in classifier.frozen
    assert pruned(network, even_plan(coupling))(torch.randn(1, 3, 8, 8)).shape == (1, 4, 8, 8)


def test_modules_stay_what_they_were(random_network: Build) -> None:
    network = random_network(["Depthwise", "Slopes", "ChannelNorms"], 0)
    smaller = pruned(network, even_plan(analyse(network, (torch.randn(1, 3, 8, 8),))))
    for before, after in zip(network.modules(), smaller.modules(), strict=True):
        assert type(before) is type(after)
        if isinstance(after, nn.Conv2d):
            assert after.weight.shape == (after.out_channels, after.in_channels // after.groups, *after.kernel_size)
        if isinstance(after, nn.BatchNorm2d):
            assert after.num_features == after.weight.shape[0]


@pytest.mark.parametrize(
    ("name", "layer", "reason"),
    [
        ("WrittenSize", "blocks.0.a.conv", "written in the network's code at pruning/conftest.py:"),
        ("Sliced", "blocks.0.a.conv", "picked or moved by a position"),
        ("ChannelStatistics", "blocks.0.a.conv", "reduced together with other channels"),
        ("DualAttention", "blocks.0.a.conv", "runs along two axes|normalised together|meets other channels"),
        ("Transformer", "blocks.0.embed", "normalised together with other channels"),
        ("Sampled", "blocks.0.offset", "coordinates of grid_sample"),
        ("UnknownOp", "blocks.0.a.conv", "used by fft_fft2, which the analysis does not know"),
        ("RmsNormed", "blocks.0.a", "normalised together"),
        ("SpatialGate", "blocks.0.gate", "spread over all channels"),
    ],
)
def test_frozen_groups_say_why(random_network: Build, name: str, layer: str, reason: str) -> None:
    coupling = analyse(random_network([name], 0), (torch.randn(2, 3, 8, 8),))
    group = next(group for group in coupling.groups if layer in group.layers("out"))
    assert group.frozen is not None
    assert re.search(reason, group.frozen), group.frozen


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("GroupNormed", "blocks.0.a"),
        ("Unpooled", "blocks.0.b.conv"),
        ("Unfolded", "blocks.0.mix"),
        ("EinsumAttention", "blocks.0.q"),
        ("SelfProduct", "blocks.0.v"),
        ("SelectiveKernel", "blocks.0.up"),
        ("Tokens", "blocks.0.embed"),
        ("WindowShift", "blocks.0.mix"),
        ("Shared", "blocks.0.left"),
        ("StripPooled", "blocks.0.rows"),
        ("WrittenSize", "blocks.0.free.conv"),
        ("RmsNormed", "blocks.0.up"),
        ("Volume", "blocks.0.a"),
        ("UnknownOp", "blocks.0.b.conv"),
        ("Unshuffled", "blocks.0.a.conv"),
        ("RelativeBias", "blocks.0.qkv"),
    ],
)
def test_what_can_be_cut_is_not_frozen(random_network: Build, name: str, layer: str) -> None:
    coupling = analyse(random_network([name], 0), (torch.randn(2, 3, 8, 8),))
    group = next(group for group in coupling.groups if layer in group.layers("out"))
    assert group.frozen is None, group.frozen
    assert group.width > 1
