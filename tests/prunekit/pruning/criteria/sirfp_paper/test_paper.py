from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from prunekit.errors import PruneError
from prunekit.models.street import street_net
from prunekit.pruning import analyse
from prunekit.pruning.allocation import Target
from prunekit.pruning.criteria.sirfp_paper import (
    CosineRedundancy,
    DeletionDegree,
    GaussianRelu,
    GroupScore,
    SirfpPaper,
    SirfpV2,
    SobelEdge,
)
from prunekit.pruning.criteria.sirfp_paper.gradient import GRADIENT_WEIGHT
from prunekit.pruning.criteria.sirfp_paper.second import equalised_gradient, relative_rank
from prunekit.pruning.evidence import Evidence, Labelled
from prunekit.pruning.surgery import check_exact, make_plan


def evidence(network: nn.Module, size: int = 32, count: int = 2) -> Evidence:
    coupling = analyse(network, (torch.zeros(1, 3, size, size),))

    def batches() -> Iterator[Labelled]:
        generator = torch.Generator().manual_seed(0)
        for _ in range(count):
            images = torch.randn(2, 3, size, size, generator=generator)
            yield Labelled(images, torch.randint(4, (2, size, size), generator=generator))

    def loss(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(F.interpolate(network(images), labels.shape[1:]), labels)

    return Evidence(network, coupling, batches, network, loss, 4)


@pytest.fixture(scope="module")
def street() -> Evidence:
    torch.manual_seed(0)
    network = street_net(4, 16)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.2, 1.5)
            nn.init.normal_(module.bias, std=0.5)
    return evidence(network)


def cut_at(paper: SirfpPaper, own: Evidence, share: float) -> dict[str, list[int]]:
    """Cut at one p: the drawn networks are too small to meet a given cost."""
    levels = paper.levels(paper.observe(own))
    return levels.keep(levels.widths(share))


SECOND = SirfpPaper(edges=None, gradient_weight=GRADIENT_WEIGHT)
VERSIONS = {
    "first": SirfpPaper(),
    "second": SECOND,
    "mended": SirfpPaper(redundancy=CosineRedundancy(), combination=GroupScore(), positions=256),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("align", [1, 8])
def test_the_target_is_met_in_aligned_steps(street: Evidence, version: str, align: int) -> None:
    coupling = street.coupling
    for share in (0.35, 0.6):
        keep = VERSIONS[version].select(street, share, align)
        assert coupling.macs(keep) / coupling.macs() == pytest.approx(share, abs=0.005)
        widths = {group.name: group.width for group in coupling.free}
        assert all(len(kept) % align == 0 or len(kept) == widths[name] for name, kept in keep.items())
        assert all(kept == sorted(set(kept)) and kept for kept in keep.values())
    check_exact(street.network.eval(), make_plan(coupling, keep), (torch.randn(1, 3, 32, 32),))


def test_other_kinds_of_target(street: Evidence) -> None:
    coupling, paper = street.coupling, SirfpPaper()
    keep = paper.keep(street, Target("params", 0.5 * coupling.params()))
    assert coupling.params(keep) / coupling.params() == pytest.approx(0.5, abs=0.005)
    keep = paper.keep(street, Target("macs", 0.5 * coupling.macs()))
    assert keep == paper.select(street, 0.5)
    with pytest.raises(PruneError, match="needs a latency table"):
        paper.keep(street, Target("latency", 1.0))


def test_what_goes_at_a_small_ratio_goes_at_a_larger_one(street: Evidence) -> None:
    watch = SirfpPaper().observe(street)
    ratios = [Target("ratio", ratio) for ratio in (0.2, 0.4, 0.6)]
    keeps = [SirfpPaper().keep(street, target, watch=watch) for target in ratios]
    for wide, narrow in pairwise(keeps):
        assert all(len(narrow[name]) <= len(wide[name]) + 1 for name in wide)  # + 1: a single step to meet the target
        assert sum(set(narrow[name]) <= set(wide[name]) for name in wide) >= len(wide) - 2


def test_the_cut_is_the_published_one(street: Evidence) -> None:
    """Masks at one p, written out from the scores: quantile a part, floors, union."""
    paper = SirfpPaper()
    watch = paper.observe(street)
    members, scores = paper.scores(watch)
    share, removed = 0.4, []
    quantile = {
        part: np.sort(np.concatenate([scores[layer.name] for layer in members.layers if layer.encoder is part]))
        for part in (True, False)
    }
    kept: set[int] = set()
    for layer in members.layers:
        score, part = scores[layer.name], quantile[layer.encoder]
        mask = score > part[int(share * len(part))]
        mask[np.argsort(-score)[: max(1, int(0.02 * len(score)))]] = True
        kept |= set(layer.labels_C[mask].tolist())
        removed += layer.labels_C[~mask].tolist()
    levels = paper.levels(watch)
    keep = levels.keep(levels.widths(share))
    for group in members.groups:
        assert set(group.units[keep[group.name]].tolist()) == set(group.units.tolist()) & kept
    assert set(removed) & kept, "somewhere members disagree, and the union keeps"


def test_out_of_reach_names_the_nearest(street: Evidence) -> None:
    with pytest.raises(PruneError, match=r"nearest found is .* Ask for --ratio 0\.\d+\. Or allow finer steps") as error:
        SirfpPaper().select(street, 0.001, 8)
    reachable = float(str(error.value).partition("--ratio ")[2].partition(" ")[0].rstrip("."))
    keep = SirfpPaper().keep(street, Target("ratio", reachable), 8)
    assert street.coupling.macs(keep) / street.coupling.macs() == pytest.approx(1 - reachable, abs=0.005)


@pytest.mark.parametrize("align", [0, -8])
def test_an_impossible_alignment_is_refused(street: Evidence, align: int) -> None:
    with pytest.raises(PruneError, match="alignment must be at least 1"):
        SirfpPaper().select(street, 0.5, align)


def test_every_idea_can_be_exchanged(street: Evidence) -> None:
    base = SirfpPaper().levels(SirfpPaper().observe(street))
    changed = {
        "redundancy": SirfpPaper(redundancy=CosineRedundancy()),
        "edges": SirfpPaper(edges=None),
        "combination": SirfpPaper(combination=GroupScore()),
        "gradient": SECOND,
        "encoder": SirfpPaper(encoder="^fuse"),
    }
    for name, paper in changed.items():
        levels = paper.levels(paper.observe(street))
        same = [np.array_equal(levels.rankings[g].order_U, base.rankings[g].order_U) for g in base.rankings]
        values = [np.array_equal(levels.rankings[g].price_U, base.rankings[g].price_U) for g in base.rankings]
        assert not (all(same) and all(values)), name


def test_watching_a_training_is_what_the_paper_does(street: Evidence) -> None:
    paper = replace(SECOND, edges=SobelEdge())
    with paper.watch(street.network, street.coupling) as watch:
        for batch in street.batches():
            street.network.zero_grad()
            street.loss(batch.images_B3HW, batch.labels_BHW).backward()
            watch.after_backward()
    keep = paper.keep(street, Target("ratio", 0.5), watch=watch)
    assert street.coupling.macs(keep) / street.coupling.macs() == pytest.approx(0.5, abs=0.005)
    street.network.zero_grad()


def test_looking_leaves_the_network_as_it_was(street: Evidence) -> None:
    network = street.network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    for paper in VERSIONS.values():
        paper.select(street, 0.5)
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_without_data_there_is_one_clear_error(street: Evidence) -> None:
    empty = replace(street, batches=lambda: iter(()))
    with pytest.raises(PruneError, match="No batch norm was seen"):
        SirfpPaper().select(empty, 0.5)
    with pytest.raises(PruneError, match="no batch was given"):
        SirfpPaper().compensate_(empty, {})


@pytest.mark.parametrize("means", ["published", "gaussian"])
def test_compensation_keeps_the_cut_exact_and_brings_it_nearer(means: str) -> None:
    torch.manual_seed(1)
    network = street_net(4, 8).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.1, 0.4)
            nn.init.normal_(module.bias, mean=0.5, std=0.5)
    own = evidence(network)
    paper = SirfpPaper() if means == "published" else SirfpPaper(means=lambda e: GaussianRelu(e.network, e.coupling))
    keep = paper.select(own, 0.6)
    images = next(iter(own.batches())).images_B3HW
    plan = make_plan(own.coupling, keep)
    with torch.no_grad():
        dense = network(images)
        bare = _cut(network, plan)(images)
        report = paper.compensate_(own, keep)
        folded = _cut(network, plan)(images)
    assert report.folded
    assert float((folded - dense).square().mean()) < float((bare - dense).square().mean())
    check_exact(network, plan, (images,))


def _cut(network: nn.Module, plan: object) -> nn.Module:
    from prunekit.pruning import pruned

    return pruned(network, plan)


def test_a_ranking_is_given_where_every_group_is_judged(street: Evidence) -> None:
    rankings = SirfpPaper().rank(street)
    for group in street.coupling.free:
        assert sorted(rankings[group.name].order_U.tolist()) == list(range(group.width))
        assert (np.diff(rankings[group.name].price_U) >= 0).all()
        assert 0 <= rankings[group.name].price_U.min() <= rankings[group.name].price_U.max() <= 1


def test_groups_without_a_norm_stay_whole_and_are_not_ranked(random_network: Callable[..., nn.Module]) -> None:
    own = evidence(random_network(["Residual", "Tokens"], 0), size=8)
    keep = cut_at(SirfpPaper(), own, 0.4)
    with pytest.raises(PruneError, match="none that saw data"):
        SirfpPaper().rank(own)
    judged = {label for layer in SirfpPaper().observe(own).members.layers for label in layer.labels_C.tolist()}
    for group in own.coupling.free:
        assert (group.name in keep) == (set(group.units.tolist()) <= judged)


def test_on_drawn_networks_the_cut_is_exact(random_network: Callable[..., nn.Module]) -> None:
    for seed, names in enumerate((["Concat", "Depthwise"], ["Grouped", "Split"], ["PooledContext", "Shuffle"])):
        own = evidence(random_network(names, seed), size=8)
        for paper in VERSIONS.values():
            keep = cut_at(paper, own, 0.4)
            paper.compensate_(own, keep)
            check_exact(own.network, make_plan(own.coupling, keep), (torch.randn(1, 3, 8, 8),))


class TestSirfpV2:
    def test_every_group_is_ranked_on_one_scale(self, street: Evidence) -> None:
        rankings = SirfpV2().rank(street)
        for group in street.coupling.free:
            ranking = rankings[group.name]
            assert sorted(ranking.order_U.tolist()) == list(range(group.width))
            assert 0 <= ranking.price_U.min() <= ranking.price_U.max() <= 1.4
            assert (np.diff(ranking.price_U) >= 0).all()

    def test_the_score_is_that_of_the_second_version_on_normalised_terms(self) -> None:
        generator = torch.Generator().manual_seed(0)
        features, gate = torch.randn(7, 5, generator=generator), torch.randn(9, 7, generator=generator)
        matrix = (features @ features.T).abs().fill_diagonal_(0)
        matrix /= matrix.max()
        gradient = [sum(max(0.0, float(row[unit])) for row in gate) / 9 for unit in range(7)]
        np.testing.assert_allclose(equalised_gradient(gate), gradient, rtol=1e-5)
        ranks = torch.tensor([(sorted(gradient).index(value) + 0.5) / 7 for value in gradient])
        expected = 1 + DeletionDegree()(matrix / 6, 0.4 * ranks)
        np.testing.assert_allclose(SirfpV2().score(matrix, gate), expected, atol=1e-6)

    def test_neither_the_scale_of_the_gradient_nor_that_of_the_loss_matters(self) -> None:
        gate = torch.randn(9, 7, generator=torch.Generator().manual_seed(0))
        matrix = torch.rand(7, 7, generator=torch.Generator().manual_seed(1))
        matrix = (matrix + matrix.T).fill_diagonal_(0) / 2
        np.testing.assert_array_equal(SirfpV2().score(matrix, gate), SirfpV2().score(matrix, 65536 * gate))

    def test_equal_values_share_a_rank(self) -> None:
        assert relative_rank(np.array([3.0, 1.0, 3.0, 9.0])).tolist() == [0.5, 0.125, 0.5, 0.875]

    def test_twins_repeat_each_other_and_one_goes_first(self) -> None:
        matrix = torch.full((5, 5), 0.2)
        matrix[1, 3] = matrix[3, 1] = 1.0
        matrix.fill_diagonal_(0)
        gate = torch.ones(4, 5)
        gate[:, 3] = 2.0
        assert SirfpV2().score(matrix, gate).argmin() in (1, 3)
