"""Criteria that read weights, against their definitions written out."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from prunekit.pruning.coupling import Group, makers, readers, unit_sums
from prunekit.pruning.criteria.depgraph import group_norm_scores
from prunekit.pruning.criteria.fpgm import distances, fpgm_scores
from prunekit.pruning.criteria.lamp import lamp, lamp_scores
from prunekit.pruning.criteria.magnitude import l1_scores, l2_scores, rms_scores
from prunekit.pruning.criteria.pq import guided_share, pq_index, pq_scores
from prunekit.pruning.criteria.slimming import slimming_scores
from prunekit.pruning.evidence import Evidence

Make = Callable[..., Evidence]
Build = Callable[..., nn.Module]
Vector = st.lists(st.floats(0.01, 10), min_size=2, max_size=12).map(np.array)


def close(got: object, want: Tensor) -> None:
    np.testing.assert_allclose(got, want.detach().numpy(), rtol=1e-6)


def group_of(evidence: Evidence, layer: str) -> Group:
    return next(group for group in evidence.coupling.free if layer in group.layers("out"))


@pytest.fixture
def evidence(normed_network: Build, evidence_for: Make) -> Evidence:
    return evidence_for(normed_network())


def test_the_members_of_a_residual_group(evidence: Evidence) -> None:
    group = group_of(evidence, "stem")
    made = {slot.parameter for slot, _ in makers(group, evidence.coupling, evidence.network)}
    read = {slot.parameter for slot, _ in readers(group, evidence.coupling, evidence.network)}
    assert made == {"stem.weight", "back.weight", "depth.weight"}
    assert {"inner.weight", "point.weight", "classifier.weight"} >= read >= {"inner.weight", "point.weight"}


def test_l1_and_l2_sum_over_all_filters_of_a_unit(evidence: Evidence) -> None:
    net, name = evidence.network, group_of(evidence, "stem").name
    filters = torch.cat([w.flatten(1) for w in (net.stem.weight, net.back.weight, net.depth.weight)], dim=1)
    close(l1_scores(evidence)[name], filters.abs().sum(dim=1))
    close(l2_scores(evidence)[name], filters.norm(dim=1))
    close(rms_scores(evidence)[name], filters.square().mean(dim=1).sqrt())


def test_a_tied_weight_counts_once(evidence: Evidence) -> None:
    net = evidence.network
    close(l1_scores(evidence)[group_of(evidence, "left").name], net.left.weight.abs().sum(dim=(1, 2, 3)))


def test_a_transposed_convolution_is_read_along_its_outputs(evidence: Evidence) -> None:
    net = evidence.network
    close(l1_scores(evidence)[group_of(evidence, "up").name], net.up.weight.abs().sum(dim=(0, 2, 3)))


def test_a_unit_of_a_grouped_convolution_is_all_filters_of_its_groups(evidence: Evidence) -> None:
    net, group = evidence.network, group_of(evidence, "point")
    assert group.width == 4
    filters = [
        weight.abs().flatten(1).sum(dim=1).reshape(4, 2).sum(dim=1) for weight in (net.point.weight, net.group.weight)
    ]
    close(l1_scores(evidence)[group.name], filters[0] + filters[1])


def test_a_grouped_transposed_convolution_makes_what_it_reads(random_network: Build, evidence_for: Make) -> None:
    evidence = evidence_for(random_network(["GroupedTransposed"], 0))
    group = group_of(evidence, "blocks.0.a.conv")
    made = {slot.parameter: tensor for slot, tensor in makers(group, evidence.coupling, evidence.network)}
    assert set(made) == {"blocks.0.a.conv.weight", "blocks.0.up.weight"}
    want = sum(tensor.abs().flatten(1).sum(dim=1).reshape(3, 2).sum(dim=1) for tensor in made.values())
    close(l1_scores(evidence)[group.name], want)


def test_a_concat_gives_each_group_its_own_slices(random_network: Build, evidence_for: Make) -> None:
    evidence = evidence_for(random_network(["Concat", "PixelShuffled"], 0))
    parameters = dict(evidence.network.named_parameters())
    for name in ("blocks.0.b.conv.weight", "blocks.1.a.weight", "image_concat.weight"):
        total = 0.0
        for group in evidence.coupling.groups:
            for slot in group.slots:
                if slot.parameter == name and slot.role == "in":
                    total += unit_sums(parameters[name].abs(), slot, group).sum()
        free = 3 if name == "image_concat.weight" else 0  # the image's own channels belong to no group
        weight = parameters[name].abs().detach()
        assert total == pytest.approx(float(weight[:, : weight.shape[1] - free].sum()))


def test_slimming_averages_the_scales_of_all_norms(evidence: Evidence) -> None:
    net = evidence.network
    gammas = torch.stack([net.stem_norm.weight, net.back_norm.weight, net.depth_norm.weight]).abs()
    close(slimming_scores(evidence)[group_of(evidence, "stem").name], gammas.mean(dim=0))


def test_a_slope_is_no_scale(evidence_for: Make) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.PReLU(4), nn.Conv2d(4, 4, 1))
    scores = slimming_scores(evidence_for(network))
    close(scores["0"], network[1].weight.abs())


def test_group_norm_is_the_mean_over_all_members_relative_to_the_group(evidence: Evidence) -> None:
    net, name = evidence.network, group_of(evidence, "inner").name
    slices = [
        net.inner.weight.square().sum(dim=(1, 2, 3)),
        net.back.weight.square().sum(dim=(0, 2, 3)),
        net.inner_norm.weight.square(),
    ]
    want = torch.stack(slices).mean(dim=0)
    close(group_norm_scores(evidence)[name], want / want.mean())


def test_fpgm_is_the_sum_of_distances(evidence: Evidence) -> None:
    net = evidence.network
    want = torch.cdist(net.inner.weight.flatten(1), net.inner.weight.flatten(1)).sum(dim=1)
    close(fpgm_scores(evidence)[group_of(evidence, "inner").name], want)
    members = (net.stem.weight, net.back.weight, net.depth.weight)
    want = sum(torch.cdist(w.flatten(1), w.flatten(1)).sum(dim=1) for w in members)
    close(fpgm_scores(evidence)[group_of(evidence, "stem").name], want)


def test_distances_see_twins_far_from_the_origin() -> None:
    rows_UD = 1000 + torch.randn(6, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows_UD[2] = rows_UD[4] + 1e-3
    want = torch.linalg.vector_norm(rows_UD[:, None] - rows_UD[None], dim=2).sum(dim=1)
    np.testing.assert_allclose(distances(rows_UD), want, rtol=1e-5)


@given(values=Vector)
def test_lamp_keeps_the_order_and_the_last(values: np.ndarray) -> None:
    score = lamp(values)
    order = np.argsort(values, kind="stable")
    assert (np.diff(score[order]) >= 0).all()
    assert score[order[-1]] == 1
    assert score[order[0]] == pytest.approx(values[order[0]] / values.sum())


def test_lamp_of_a_group_of_zeros_is_a_number() -> None:
    assert np.isfinite(lamp(np.zeros(3))).all()


def test_lamp_scores_take_squared_norms(evidence: Evidence) -> None:
    name = group_of(evidence, "inner").name
    close(lamp_scores(evidence)[name], torch.from_numpy(lamp(l2_scores(evidence)[name] ** 2)))


@given(ones=st.integers(1, 10), zeros=st.integers(0, 10), scale=st.floats(0.01, 100))
@pytest.mark.parametrize(("p", "q"), [(0.5, 1.0), (1.0, 2.0), (0.3, 0.7)])
def test_a_vector_of_equal_values_and_zeros_is_guided_to_their_number(
    p: float, q: float, ones: int, zeros: int, scale: float
) -> None:
    values = np.array([scale] * ones + [0.0] * zeros)
    assert guided_share(values, p, q) == pytest.approx(ones / (ones + zeros))


@given(values=Vector, factor=st.floats(0.01, 100))
def test_the_pq_index_has_no_scale_and_lies_in_0_1(values: np.ndarray, factor: float) -> None:
    assert pq_index(values) == pytest.approx(pq_index(values * factor), abs=1e-9)
    assert -1e-9 <= pq_index(values) < 1


@settings(deadline=None, max_examples=20)
@given(gamma=st.floats(0.05, 1))
def test_a_common_threshold_on_pq_prices_is_the_papers_gamma(
    normed_network: Build, evidence_for: Make, gamma: float
) -> None:
    evidence = evidence_for(normed_network())
    norms, prices = l2_scores(evidence), pq_scores(evidence)
    for name, price_U in prices.items():
        width = len(price_U)
        wanted = gamma * (1 - guided_share(norms[name])) * width
        assert int((price_U <= gamma * (1 + 1e-9)).sum()) == int(wanted + 1e-6)
        assert np.argsort(price_U).tolist() == np.argsort(norms[name], kind="stable").tolist()
