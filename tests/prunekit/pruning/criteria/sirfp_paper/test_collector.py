from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from prunekit.errors import PruneError
from prunekit.pruning import analyse
from prunekit.pruning.criteria.sirfp_paper import BnOutputs, L1Redundancy, SobelEdge
from prunekit.pruning.criteria.sirfp_paper.members import NormLayer, find_members


def network(inplace: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(inplace=inplace), nn.Conv2d(5, 2, 1)).eval()


def batches(count: int = 3) -> list[Tensor]:
    return [torch.randn(2, 3, 9, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(count)]


def layers(module: nn.Module) -> tuple[NormLayer, ...]:
    return find_members(module, analyse(module, (batches()[0],))).layers


def collected(module: nn.Module, taps: tuple[NormLayer, ...], images: list[Tensor], **options: object) -> BnOutputs:
    outputs = BnOutputs(module, taps, redundancy=L1Redundancy(), edges=SobelEdge(), **options)
    with outputs, torch.no_grad():
        for batch in images:
            module(batch)
    return outputs


@pytest.mark.parametrize("inplace", [False, True])
def test_averages_are_those_of_the_outputs_before_the_activation(inplace: bool) -> None:
    module = network(inplace)
    seen = collected(module, layers(module), batches(), decay=0.9).statistics()["1"]
    redundancy, edge = torch.zeros(5, 5), torch.zeros(5)
    for batch in batches():
        with torch.no_grad():
            x = module[1](module[0](batch))
        redundancy = 0.9 * redundancy + 0.1 * L1Redundancy()(x.flatten(2))
        edge = 0.9 * edge + 0.1 * SobelEdge()(x)
    torch.testing.assert_close(seen.redundancy_CC, redundancy)
    torch.testing.assert_close(seen.edge_C, edge)
    assert float(seen.redundancy_CC.min()) < 0, "the sign is kept"


def test_edges_are_measured_in_the_encoder_only() -> None:
    module = network()
    rest = tuple(replace(layer, encoder=False) for layer in layers(module))
    assert collected(module, rest, batches()).statistics()["1"].edge_C is None


def test_a_sample_of_places_estimates_all_of_them_and_all_places_are_all() -> None:
    module, images = network(), [torch.randn(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))] * 40
    every = collected(module, layers(module), images, decay=0.9).statistics()["1"].redundancy_CC
    some = collected(module, layers(module), images, decay=0.9, positions=256).statistics()["1"].redundancy_CC
    same = collected(module, layers(module), images, decay=0.9, positions=10**6).statistics()["1"].redundancy_CC
    assert torch.equal(same, every)
    places = 38 * 38
    torch.testing.assert_close(some * 256, every * places, rtol=0.25, atol=0.3)  # entries are of the order 1 / N
    assert not torch.equal(some * 256, every * places)


def test_every_second_call_measures_the_first_of_each_two() -> None:
    module, images = network(), batches(4)
    thinned = collected(module, layers(module), images, every=2).statistics()["1"]
    picked = collected(module, layers(module), images[::2]).statistics()["1"]
    torch.testing.assert_close(thinned.redundancy_CC, picked.redundancy_CC)


def test_only_channels_that_may_be_pruned_are_measured() -> None:
    module = network()
    whole = layers(module)[0]
    half = replace(whole, index_C=whole.index_C[[1, 3]], labels_C=whole.labels_C[[1, 3]])
    full = collected(module, (whole,), batches()).statistics()["1"]
    part = collected(module, (half,), batches()).statistics()["1"]
    torch.testing.assert_close(part.redundancy_CC, full.redundancy_CC[[1, 3]][:, [1, 3]])


def test_measuring_leaves_no_hooks_and_no_gradients() -> None:
    module = network()
    outputs = BnOutputs(module, layers(module), redundancy=L1Redundancy(), edges=SobelEdge())
    with outputs:
        module(batches()[0]).sum().backward()
    assert not outputs.statistics()["1"].redundancy_CC.requires_grad
    assert not any(child._forward_hooks for child in module.modules())


def test_under_autocast_statistics_stay_float32() -> None:
    module = network()
    taps = layers(module)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = collected(module, taps, batches()).statistics()["1"].redundancy_CC
    assert low.dtype is torch.float32
    torch.testing.assert_close(
        low, collected(module, taps, batches()).statistics()["1"].redundancy_CC, rtol=0.1, atol=1e-5
    )


def test_values_that_are_not_finite_are_refused() -> None:
    module = network()
    with torch.no_grad():
        module[0].weight[0] = torch.inf
    outputs = collected(module, layers(module), batches())
    with pytest.raises(PruneError, match="outputs of batch norm 1 are not finite"):
        outputs.statistics()
