from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prunekit.errors import PruneError
from prunekit.models.street import street_net
from prunekit.pruning import Coupling, analyse
from prunekit.pruning.criteria.sirfp_paper.members import Carriers, find_members, norm_name

IMAGES = torch.zeros(1, 3, 32, 32)


@pytest.fixture(scope="module")
def street() -> tuple[nn.Module, Coupling]:
    network = street_net(5, 8)
    return network, analyse(network, (IMAGES,))


def test_every_norm_of_a_real_network_judges_the_groups_it_scales(street: tuple[nn.Module, Coupling]) -> None:
    network, coupling = street
    members = find_members(network, coupling)
    assert {layer.name for layer in members.layers} == {
        name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)
    }
    parts = {layer.name.split(".")[0]: layer.encoder for layer in members.layers}
    assert parts == {
        **dict.fromkeys(("stem", "stage4", "stage8", "stage16"), True),
        **dict.fromkeys(("context", "lateral16", "fuse8", "lateral8", "fuse4"), False),
    }


def test_where_nothing_is_called_an_encoder_all_is() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    members = find_members(network, analyse(network, (IMAGES,)))
    assert [layer.encoder for layer in members.layers] == [True]


def test_a_norm_that_is_never_pruned_keeps_its_whole_group(street: tuple[nn.Module, Coupling]) -> None:
    network, coupling = street
    everything = find_members(network, coupling)
    members = find_members(network, coupling, never=["stage4.1.conv2.norm"])
    lost = {group.name for group in everything.groups} - {group.name for group in members.groups}
    assert len(lost) == 1
    stream = next(group for group in coupling.groups if group.name in lost)
    assert "stage4.1.conv2.norm" in stream.layers("norm")
    assert "stage4.1.conv2.norm" not in {layer.name for layer in members.layers}
    assert "stage4.0.conv2.norm" in {layer.name for layer in members.layers}, "it is measured all the same"
    with pytest.raises(PruneError, match=r"No batch norm is called nonsense\. Known: stem\.0\.norm"):
        find_members(network, coupling, never=["nonsense"])


def test_a_network_without_batch_norms_is_refused() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4), nn.Conv2d(4, 2, 1))
    with pytest.raises(PruneError, match="sirfp-paper scores the outputs of batch norms"):
        find_members(network, analyse(network, (IMAGES,)))


def test_depthwise_norms_follow_their_parent_and_replace_what_it_carried(
    random_network: Callable[..., nn.Module],
) -> None:
    network = random_network(["Depthwise"], 0)
    coupling = analyse(network, (IMAGES,))
    names = {layer.name for layer in find_members(network, coupling).layers}
    assert "blocks.0.a.bn" in names
    assert "blocks.0.b.bn" not in names
    carriers = Carriers.of(network, coupling)
    group = next(group for group in coupling.free if "blocks.0.b.bn" in group.layers("norm"))
    assert [norm_name(slot) for slot in carriers.slots[group.name]] == ["blocks.0.b.bn"]


class OnlyDepthwise(nn.Module):
    """The depthwise norm is the only one that its group has."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.bn = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.BatchNorm2d(6)
        self.c = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.bn(self.b(self.a(x))))


def test_a_depthwise_norm_judges_where_there_is_no_other() -> None:
    network = OnlyDepthwise()
    members = find_members(network, analyse(network, (IMAGES,)))
    assert [layer.name for layer in members.layers] == ["bn"]
    assert len(members.groups) == 1


def test_groups_of_norms_that_were_not_seen_stay_whole(street: tuple[nn.Module, Coupling]) -> None:
    members = find_members(*street)
    names = {layer.name for layer in members.layers} - {"fuse4.norm"}
    left = members.seen(names)
    assert {group.name for group in members.groups} - {group.name for group in left.groups} == {"fuse4.conv"}
    assert {layer.name for layer in left.layers} == names


def test_labels_say_which_unit_each_channel_is(
    random_network: Callable[..., nn.Module], block_names: list[str]
) -> None:
    for number in range(3):
        network = random_network(block_names[number::9], number)
        coupling = analyse(network, (IMAGES,))
        members = find_members(network, coupling)
        free = {int(label) for group in coupling.free for label in group.units}
        for layer in members.layers:
            assert set(layer.labels_C.tolist()) <= free
            width = network.get_submodule(layer.name).num_features
            assert len(np.unique(layer.index_C)) == len(layer.index_C)
            assert 0 <= layer.index_C.min() <= layer.index_C.max() < width
        for group in members.groups:
            judged = {int(label) for layer in members.layers for label in layer.labels_C}
            assert set(group.units.tolist()) <= judged
