"""The contract of every criterion in the registry."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prunekit.errors import PruneError
from prunekit.pruning.criteria import CRITERIA, Criterion, Ranked, Scored, criterion_named
from prunekit.pruning.criteria.criterion import GRADIENTS
from prunekit.pruning.evidence import Evidence

Make = Callable[..., Evidence]
Build = Callable[..., nn.Module]
# Those that have their own allocation choose what stays, and rank nothing.
RANKING = [name for name, entry in CRITERIA.items() if entry.allocation != "paper"]
NEED_A_NORM = {"slimming", "eic"}
# A dead unit is far from none of the others, and random sees nothing.
BLIND_TO_DEATH = {"random", "fpgm"}


def test_names_and_summaries() -> None:
    for name, entry in CRITERIA.items():
        assert entry.name == name
        assert entry.summary
        assert "\n" not in entry.summary
        assert entry.allocation in ("uniform", "global", "cost", "paper")
        assert entry.needs <= GRADIENTS
        assert criterion_named(name) is entry
    with pytest.raises(PruneError, match=r"no criterion called best. Choose one of: sirfp, "):
        criterion_named("best")


@pytest.mark.parametrize("name", RANKING)
def test_a_criterion_ranks_every_unit_and_leaves_no_trace(normed_network: Build, evidence_for: Make, name: str) -> None:
    evidence = evidence_for(normed_network().train())
    evidence.network.train()
    before = {key: value.clone() for key, value in evidence.network.state_dict().items()}
    rankings = CRITERIA[name].rank(evidence)
    assert set(rankings) == {group.name for group in evidence.coupling.free}
    for group in evidence.coupling.free:
        ranking = rankings[group.name]
        assert sorted(ranking.order_U.tolist()) == list(range(group.width))
        assert ranking.price_U.shape == (group.width,)
        assert np.isfinite(ranking.price_U).all()
        assert (ranking.price_U >= 0).all()
    modules = list(evidence.network.modules())
    assert all(torch.equal(before[key], value) for key, value in evidence.network.state_dict().items())
    assert all(module.training for module in modules)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)
    assert all(parameter.grad is None for parameter in evidence.network.parameters())


@pytest.mark.parametrize("name", RANKING)
def test_a_criterion_repeats_itself(normed_network: Build, evidence_for: Make, name: str) -> None:
    first, again = (CRITERIA[name].rank(evidence_for(normed_network())) for _ in range(2))
    for group in first:
        assert first[group].order_U.tolist() == again[group].order_U.tolist()
        assert first[group].price_U.tolist() == again[group].price_U.tolist()


@pytest.mark.parametrize("name", [name for name in RANKING if name not in NEED_A_NORM])
@pytest.mark.parametrize(
    "blocks", [("Grouped", "Transposed"), ("Concat", "GroupedTransposed"), ("Shared", "PixelShuffled"), ("Gate",)]
)
def test_a_criterion_judges_every_kind_of_layer(
    random_network: Build, evidence_for: Make, name: str, blocks: Sequence[str]
) -> None:
    evidence = evidence_for(random_network(blocks, 2), count=1)
    rankings = CRITERIA[name].rank(evidence)
    for group in evidence.coupling.free:
        assert sorted(rankings[group.name].order_U.tolist()) == list(range(group.width))
        assert (rankings[group.name].price_U >= 0).all()


class Chain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.first, self.norm, self.second = nn.Conv2d(3, 7, 3, bias=False), nn.BatchNorm2d(7), nn.Conv2d(7, 4, 1)
        nn.init.uniform_(self.norm.weight, 0.5, 1.5)
        nn.init.normal_(self.norm.bias, std=0.3)

    def forward(self, images: Tensor) -> Tensor:
        return self.second(torch.relu(self.norm(self.first(torch.nn.functional.pad(images, (1, 1, 1, 1))))))


def shuffled(chain: Chain, order: Tensor) -> Chain:
    """The same function with its channels in another order."""
    other = Chain()
    state = chain.state_dict()
    for key in ("first.weight", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"):
        state[key] = state[key][order]
    state["second.weight"] = state["second.weight"][:, order]
    other.load_state_dict(state)
    return other


@pytest.mark.parametrize("name", [name for name in RANKING if name != "random"])
def test_a_criterion_follows_the_channels_where_they_go(evidence_for: Make, name: str) -> None:
    order = torch.tensor([3, 0, 6, 2, 5, 1, 4])
    here = CRITERIA[name].rank(evidence_for(Chain(), size=12))["first"]
    there = CRITERIA[name].rank(evidence_for(shuffled(Chain(), order), size=12))["first"]
    np.testing.assert_allclose(there.price_U, here.price_U, rtol=1e-5, atol=1e-12)
    if len(np.unique(here.price_U.round(9))) == 7:  # ties go by position
        assert order[torch.from_numpy(there.order_U)].tolist() == here.order_U.tolist()


@pytest.mark.parametrize("name", [name for name in RANKING if name not in BLIND_TO_DEATH])
def test_a_dead_unit_goes_first(evidence_for: Make, name: str) -> None:
    chain = Chain()
    with torch.no_grad():
        chain.first.weight[5] = 0
        chain.norm.weight[5] = chain.norm.bias[5] = chain.norm.running_mean[5] = 0
        chain.second.weight[:, 5] = 0
    ranking = CRITERIA[name].rank(evidence_for(chain))["first"]
    place = ranking.order_U.tolist().index(5)
    assert ranking.price_U[place] == ranking.price_U[0]


@pytest.mark.parametrize("name", ["l2", "taylor"])
def test_what_is_not_a_number_is_refused(normed_network: Build, evidence_for: Make, name: str) -> None:
    evidence = evidence_for(normed_network())
    with torch.no_grad():
        evidence.network.stem.weight[0] = float("nan")
    with pytest.raises(PruneError, match=f"Criterion {name} gave a score that is not a finite number"):
        CRITERIA[name].rank(evidence)


@pytest.mark.parametrize("name", sorted(NEED_A_NORM))
def test_a_group_without_a_norm_is_refused(random_network: Build, evidence_for: Make, name: str) -> None:
    with pytest.raises(PruneError, match="has no norm with a learnt scale"):
        CRITERIA[name].rank(evidence_for(random_network(["Residual"], 0)))


OWN = """
import numpy as np
from prunekit.pruning.criteria.criterion import Scored

def scores(evidence):
    return {group.name: np.arange(group.width)[::-1].astype(float) for group in evidence.coupling.free}

last_first = Scored("last-first", "later channels go first", "uniform", frozenset(), scores)
number = 3
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_criterion_module.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_criterion_module", raising=False)


@pytest.mark.usefixtures("own_module")
def test_a_user_s_own_criterion_ranks_like_any_other(normed_network: Build, evidence_for: Make) -> None:
    own = criterion_named("python:own_criterion_module:last_first")
    evidence = evidence_for(normed_network())
    for group in evidence.coupling.free:
        assert own.rank(evidence)[group.name].kept(1) == [0]


@pytest.mark.usefixtures("own_module")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("python:own_criterion_module:number", "no criterion 'number', got int. Define it with"),
        ("python:own_criterion_module:Scored", "no criterion 'Scored'"),
        ("python:own_criterion_module:missing", "no criterion 'missing', got NoneType"),
        ("python:no_such_module_at_all:x", "cannot be imported .* set PYTHONPATH"),
        ("python:own_criterion_module", "There is no criterion called python:own"),
    ],
)
def test_what_is_no_criterion_is_refused(name: str, message: str) -> None:
    with pytest.raises(PruneError, match=message):
        criterion_named(name)


@pytest.mark.usefixtures("own_module")
def test_code_of_others_runs_only_where_it_is_trusted() -> None:
    with pytest.raises(PruneError, match="--trust-code"):
        criterion_named("python:own_criterion_module:last_first", trust_code=False)
    assert "own_criterion_module" not in sys.modules


@pytest.mark.parametrize("kind", [Scored, Ranked])
def test_a_criterion_that_leaves_groups_out_is_refused(
    normed_network: Build, evidence_for: Make, kind: Callable[..., Criterion]
) -> None:
    partial = kind("partial", "judges nothing", "uniform", frozenset(), lambda _: {})
    with pytest.raises(PruneError, match="Criterion partial gives no score for group"):
        partial.rank(evidence_for(normed_network()))
