"""Criteria that read gradients or noise, against their definitions written out."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from prunekit.errors import PruneError
from prunekit.pruning.criteria import relevance
from prunekit.pruning.criteria.eic import eic_scores
from prunekit.pruning.criteria.fisher import group_fisher_scores, unit_macs
from prunekit.pruning.criteria.multitask import multi_task_scores, presence
from prunekit.pruning.criteria.obspa import noise_statistics, obspa_rankings
from prunekit.pruning.criteria.relevance import relevance_scores
from prunekit.pruning.criteria.taylor import gate_scores, weight_scores
from prunekit.pruning.evidence import Evidence, gate_gradients

Make = Callable[..., Evidence]
Build = Callable[..., nn.Module]


@pytest.fixture
def evidence(normed_network: Build, evidence_for: Make) -> Evidence:
    return evidence_for(normed_network(), count=3)


def test_taylor_averages_squares_over_batches(evidence: Evidence) -> None:
    for name, score_U in gate_scores(evidence).items():
        means = [part.mean(dim=0) for part in evidence.gates[name].gate_SU.split(2)]
        np.testing.assert_allclose(score_U, (means[0] ** 2 + means[1] ** 2 + means[2] ** 2) / 3)


def test_the_scale_of_a_chain_is_its_gate(evidence_for: Make) -> None:
    """(gamma g_gamma + beta g_beta)^2, the paper's form for a norm before a ReLU, is the gate's."""
    network = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 4, 1))
    evidence = evidence_for(network, count=2)
    want = torch.zeros(5, dtype=torch.float64)
    for _ in evidence.gradients():
        norm = network[1]
        want += (norm.weight * norm.weight.grad + norm.bias * norm.bias.grad).detach().square() / 2
    np.testing.assert_allclose(gate_scores(evidence)["0"], want)


def test_taylor_weight_is_the_sum_of_squares_of_weight_times_gradient(evidence: Evidence) -> None:
    net = evidence.network
    want = torch.zeros(5, dtype=torch.float64)
    for _ in evidence.gradients():
        want += (net.inner.weight * net.inner.weight.grad).detach().square().sum(dim=(1, 2, 3)) / 3
    np.testing.assert_allclose(weight_scores(evidence)["inner"], want)


def test_unit_macs_are_the_difference_a_unit_makes(evidence: Evidence) -> None:
    saved = unit_macs(evidence.coupling)
    whole = evidence.coupling.macs()
    for group in evidence.coupling.free:
        for unit in range(group.width):
            keep = [other for other in range(group.width) if other != unit]
            assert saved[group.units[unit]] == whole - evidence.coupling.macs({group.name: keep})


def test_group_fisher_is_the_mean_square_per_gmac(evidence: Evidence) -> None:
    scores = group_fisher_scores(evidence)
    for group in evidence.coupling.free:
        fisher = evidence.gates[group.name].gate_SU.square().mean(dim=0).numpy()
        saved = unit_macs(evidence.coupling)[group.units] / 1e9
        np.testing.assert_allclose(scores[group.name], fisher / saved)


def test_eic_counts_only_gradients_that_shrink_a_scale(evidence: Evidence) -> None:
    norm = evidence.network.inner_norm
    with torch.no_grad():
        norm.weight[::2] *= -1
    want, moved = torch.zeros(5, dtype=torch.float64), 0
    for _ in evidence.gradients():
        for channel in range(5):
            gradient, gamma = norm.weight.grad[channel], norm.weight[channel]
            if gradient * gamma > 0:
                want[channel] = 0.999 * want[channel] + 0.001 * abs(float(gradient))
                moved += 1
    assert 0 < moved < 15, "the example must have steps of both kinds"
    np.testing.assert_allclose(eic_scores(evidence)["inner"], want)


def test_eic_sums_over_the_norms_of_a_group(evidence: Evidence) -> None:
    net, group = evidence.network, next(group for group in evidence.coupling.free if "back" in group.layers("out"))
    norms = [net.stem_norm, net.back_norm, net.depth_norm]
    want = torch.zeros(3, 6, dtype=torch.float64)
    for _ in evidence.gradients():
        for row, norm in enumerate(norms):
            gradient = norm.weight.grad
            want[row] = torch.where(gradient * norm.weight > 0, 0.999 * want[row] + 0.001 * gradient.abs(), want[row])
    np.testing.assert_allclose(eic_scores(evidence)[group.name], want.sum(dim=0).detach())


def test_presence_ignores_what_has_no_label() -> None:
    labels_BHW = torch.tensor([[[0, 2], [255, 2]], [[255, 255], [255, 255]]])
    assert presence(labels_BHW, 4, 255).tolist() == [[1, 0, 1, 0], [0, 0, 0, 0]]


def test_multi_task_without_classification_is_taylor(evidence: Evidence) -> None:
    control, taylor = multi_task_scores(evidence, weight=0.0), gate_scores(evidence)
    both = multi_task_scores(evidence)
    mean = np.concatenate(list(taylor.values())).mean()
    for name, score_U in taylor.items():
        np.testing.assert_allclose(control[name], score_U / mean)
    assert np.concatenate(list(control.values())).mean() == pytest.approx(1)
    assert np.concatenate(list(both.values())).mean() == pytest.approx(2)
    assert any(np.argsort(both[name]).tolist() != np.argsort(control[name]).tolist() for name in both)


def test_multi_task_asks_for_logits(evidence: Evidence) -> None:
    wrong = replace(evidence, forward=lambda images: [images])
    with pytest.raises(PruneError, match=r"must return logits of 4 classes, \[B, K, H, W\]; it returned list"):
        multi_task_scores(wrong)


def bias_free(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 6, 3, bias=False), nn.ReLU(), nn.Conv2d(6, 5, 3, bias=False), nn.ReLU()]
    return nn.Sequential(nn.ZeroPad2d(2), *layers, nn.Conv2d(5, 4, 1, bias=False))


@pytest.mark.parametrize("seed", range(3))
def test_relevance_is_handed_down_whole_where_nothing_is_absorbed(evidence_for: Make, seed: int) -> None:
    """LRP-0 without biases: at every layer the units' relevances sum to the explained score."""
    evidence = evidence_for(bias_free(seed), batch=3, count=1)
    (batch,) = evidence.batches()
    score = relevance._true_logits(evidence)
    gates = gate_gradients(replace(evidence, loss=score))
    want = score(*batch).item()
    for group in gates.values():
        assert group.gate_SU.mean(dim=0).sum().item() == pytest.approx(want, rel=1e-9)


def test_epsilon_divides_relevance_by_z_plus_epsilon(evidence_for: Make) -> None:
    """One hidden layer with a bias, written out: R_u = sum over places of relu(z_u) w_ku z_k / (z_k + e sign z_k)."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU(), nn.Conv2d(5, 4, 1))
    evidence = evidence_for(network, count=1, batch=1)
    (batch,) = evidence.batches()
    with torch.no_grad():
        x_UN = network[:2](batch.images_B3HW)[0].flatten(1)
        z_KN = network(batch.images_B3HW)[0].flatten(1)
        epsilon = 0.25 * z_KN.square().mean().sqrt()
        true_KN = F.one_hot(batch.labels_BHW[0].flatten(), 4).T / x_UN.shape[1]
        handed_KN = true_KN * z_KN / (z_KN + epsilon * z_KN.sign())
        want = (x_UN * (network[2].weight[:, :, 0, 0].T @ handed_KN)).sum(dim=1).abs()
    np.testing.assert_allclose(relevance_scores(evidence)["0"], want)


def test_damping_leaves_the_values(evidence: Evidence) -> None:
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    want = evidence.network(images)
    with relevance._damped(evidence.network, 0.25):
        torch.testing.assert_close(evidence.network(images), want)
        torch.testing.assert_close(evidence.network(torch.zeros_like(images)).isnan().any(), torch.tensor(False))


def test_of_two_twins_only_one_is_cheap(evidence_for: Make) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 1))
    with torch.no_grad():
        network[0].weight[4], network[0].bias[4] = 2 * network[0].weight[1], 2 * network[0].bias[1]
    ranking = obspa_rankings(evidence_for(network))["0"]
    assert ranking.order_U[0] in (1, 4)
    assert ranking.order_U[1] not in (1, 4)


def test_noise_reads_sizes_only_and_norms_see_what_they_learnt(evidence: Evidence) -> None:
    statistics = noise_statistics(evidence, batches=40)
    other = replace(
        evidence, batches=lambda: [type(b)(b.images_B3HW * 7 + 3, b.labels_BHW) for b in evidence.batches()]
    )
    again = noise_statistics(other, batches=40)
    for name, seen in statistics.groups.items():
        for one, two in zip(seen, again.groups[name], strict=True):
            assert torch.equal(one.moment_UU, two.moment_UU)
    # Behind norm and ReLU: E relu(N(beta, gamma^2)); the map before is nearly Gaussian.
    norm = evidence.network.inner_norm
    z = torch.distributions.Normal(torch.zeros(1, dtype=torch.float64), 1)
    gamma, beta = norm.weight.detach(), norm.bias.detach()
    want = beta * z.cdf(beta / gamma) + gamma * z.log_prob(beta / gamma).exp()
    (seen,) = statistics.seen("inner")
    torch.testing.assert_close(seen.sum_U / seen.places, want, atol=0.03, rtol=0.05)


def test_obspa_without_a_batch_has_one_clear_error(evidence: Evidence) -> None:
    with pytest.raises(PruneError, match="makes noise of the size of a statistics batch"):
        obspa_rankings(replace(evidence, batches=list))
