import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from prunekit.errors import PruneError
from prunekit.pruning import Plan, analyse, arbitrary_plan, prune_, pruned
from prunekit.pruning.surgery import Slice, make_plan

Build = Callable[[Sequence[str], int], nn.Module]


def make_coupling(network: nn.Module):
    return analyse(network, (torch.randn(1, 3, 16, 16),))


@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.7])
def test_the_ratio_is_met_within_a_point(random_network: Build, ratio: float) -> None:
    network = random_network(["Residual", "Projected", "Concat", "Residual"], 0)
    coupling = make_coupling(network)
    plan = arbitrary_plan(coupling, ratio)
    left = make_coupling(pruned(network, plan)).macs() / coupling.macs()
    assert abs((1 - left) - ratio) <= 0.01


def test_a_plan_survives_json(random_network: Build) -> None:
    plan = arbitrary_plan(make_coupling(random_network(["Grouped", "Residual"], 0)), 0.4)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


@pytest.mark.parametrize("keep", [[], [1, 0], [0, 0], [0, 4]])
def test_positions_that_are_no_sorted_part_are_refused(keep: list[int]) -> None:
    row = {"parameter": "w", "dim": 0, "width": 4, "keep": keep}
    with pytest.raises(PruneError, match="Prune again"):
        Plan.from_json({"format": 1, "slices": [row], "groups": {}})


def test_a_dimension_is_cut_once():
    row = {"parameter": "w", "dim": 0, "width": 4, "keep": [0, 1]}
    with pytest.raises(PruneError, match="twice"):
        Plan.from_json({"format": 1, "slices": [row, {**row, "width": 2, "keep": [0]}], "groups": {}})


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 2.0])
def test_ratios_out_of_range_are_refused(random_network: Build, ratio: float) -> None:
    with pytest.raises(PruneError, match="must be in"):
        arbitrary_plan(make_coupling(random_network(["Residual"], 0)), ratio)


@pytest.mark.parametrize("align", [2, 4, 8])
def test_channels_are_kept_in_multiples(align: int) -> None:
    widths = (3, 96, 64, 80, 120, 72)
    convolutions = [nn.Conv2d(c, out, 3, padding=1) for c, out in pairwise(widths)]
    grouped = nn.Conv2d(72, 144, 3, groups=36)
    network = nn.Sequential(*convolutions, grouped, nn.Conv2d(144, 8, 1), nn.Conv2d(8, 4, 1)).eval()
    plan = arbitrary_plan(make_coupling(network), 0.5, align)
    assert plan.slices
    for row in plan.slices:
        assert len(row.keep) % align == 0, row


def test_a_ratio_out_of_reach_names_the_nearest(random_network: Build) -> None:
    with pytest.raises(PruneError, match="the nearest found is"):
        arbitrary_plan(make_coupling(random_network(["Residual"], 0)), 0.99)


def test_frozen_and_unknown_groups_are_refused(random_network: Build) -> None:
    coupling = make_coupling(random_network(["Residual"], 0))
    frozen = next(group for group in coupling.groups if group.frozen)
    with pytest.raises(PruneError, match="cannot be pruned"):
        make_plan(coupling, {frozen.name: [0]})
    with pytest.raises(PruneError, match="No channel group"):
        make_plan(coupling, {"nowhere": [0]})


def test_a_plan_of_another_network_leaves_the_network_as_it_was(random_network: Build) -> None:
    network = random_network(["Residual"], 0)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    plan = arbitrary_plan(make_coupling(network), 0.5)
    wrong = Plan((*plan.slices, Slice("nowhere.weight", 0, 4, (0,))), plan.groups)
    with pytest.raises(PruneError, match="another network"):
        prune_(network, wrong)
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_composed_plans_prune_twice(random_network: Build) -> None:
    network = random_network(["Concat", "Grouped", "Residual"], 0)
    images = torch.randn(1, 3, 16, 16)
    first = arbitrary_plan(make_coupling(network), 0.3)
    once = pruned(network, first)
    second = arbitrary_plan(make_coupling(once), 0.3)
    both = first.then(second)
    torch.testing.assert_close(pruned(network, both)(images), pruned(once, second)(images))
    assert Plan.from_json(both.to_json()) == both


@pytest.mark.parametrize("page", ["README.md", "docs/pruning.md"])
def test_the_five_lines_of_the_docs_prune_a_module(page: str) -> None:
    code = (Path(__file__).parents[4] / page).read_text().split("```python\n")[1].split("```")[0]
    assert "arbitrary" not in code
    assert len([line for line in code.splitlines() if line and not line.startswith(("import", "from"))]) <= 5
    widths = (3, 64, 96, 128)
    layers = [nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU()) for a, b in pairwise(widths)]
    labels = torch.randint(0, 19, (2, 32, 32))
    names: dict[str, object] = {
        "model": nn.Sequential(*layers, nn.Conv2d(128, 19, 1)).eval(),
        "train_loader": [(torch.randn(2, 3, 32, 32), labels)],
    }
    exec(compile(code, page, "exec"), names)
    dense, smaller = names["model"], names["smaller"]
    assert isinstance(dense, nn.Module)
    assert isinstance(smaller, nn.Module)
    assert sum(p.numel() for p in smaller.parameters()) < 100_000 < sum(p.numel() for p in dense.parameters())
