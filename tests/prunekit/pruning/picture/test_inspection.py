"""What a group carries is what removing it would save; members say truly what layers do."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import nn

from prunekit.pruning import analyse
from prunekit.pruning.picture import inspection
from prunekit.pruning.picture.listing import carried_macs, carried_params

Build = Callable[[Sequence[str], int], nn.Module]
CASES = [
    ["Residual", "Concat"],
    ["Grouped", "Depthwise"],
    ["Split", "Gate", "Slopes"],
    ["GroupedTransposed", "Shuffle"],
]


def make_coupling(network: nn.Module):
    return analyse(network, (torch.randn(1, 3, 16, 16),))


@pytest.mark.parametrize("blocks", CASES, ids="-".join)
def test_a_group_carries_what_its_removal_saves(random_network: Build, blocks: list[str]) -> None:
    coupling = make_coupling(random_network(blocks, 0))
    macs, params = carried_macs(coupling), carried_params(coupling)
    for index, group in enumerate(coupling.groups):
        gone = np.zeros(coupling.label_count, dtype=bool)
        gone[group.units] = True
        assert macs[index] == coupling.macs() - sum(cost.macs(gone) for cost in coupling.costs)
        if group.frozen is None:  # an empty group asks `params` the same question
            assert params[index] == coupling.params() - coupling.params({group.name: []})


@pytest.mark.parametrize("blocks", CASES, ids="-".join)
def test_rows_tell_the_whole_coupling(random_network: Build, blocks: list[str]) -> None:
    network = random_network(blocks, 1)
    coupling = make_coupling(network)
    report = inspection(coupling, network)
    assert [row.number for row in report.groups] == list(range(1, len(coupling.groups) + 1))
    assert [(row.name, row.width, row.frozen) for row in report.groups] == [
        (group.name, group.width, group.frozen) for group in coupling.groups
    ]
    assert (report.macs, report.params) == (coupling.macs(), coupling.params())
    assert report.channels_frozen == sum(group.width for group in coupling.groups if group.frozen)
    modules = dict(network.named_modules())
    for row in report.groups:
        assert 0 <= row.macs_share <= 1
        assert 0 < row.params_share <= 1
        assert any(member.does in ("makes", "passes") for member in row.members)
        for member in row.members:
            assert 0 < member.channels <= member.width
            assert member.kind == "Parameter" or type(modules[member.layer]).__name__ == member.kind
    assert json.loads(json.dumps(asdict(report)))["macs"] == report.macs


def test_members_of_a_plain_chain() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 5, 1))
    report = inspection(make_coupling(network), network)
    free, head = report.groups
    assert [(member.does, member.layer) for member in free.members] == [
        ("makes", "0"),
        ("scales", "1"),
        ("passes", "2"),
        ("reads", "3"),
    ]
    places = 16 * 16, 14 * 14  # the unpadded 3x3 cuts a border
    assert free.macs == report.macs == 3 * 8 * places[0] + 9 * 8 * places[1] + 8 * 5 * places[1]
    assert free.params == report.params - 5  # all but the head's bias
    assert head.frozen is not None
    assert head.macs == 8 * 5 * places[1]
