import hypothesis.strategies as st
import numpy as np
import torch
from hypothesis import given, settings
from torch import Tensor

from prunekit.pruning.criteria.sirfp_paper import DeletionDegree, L1Redundancy


def published(redundancy_CC: Tensor, bonus_C: Tensor) -> list[float]:
    """The pseudo-code of sirfp.md 1.2 d as it stands: all sums anew at each step."""
    weights, alive, score = redundancy_CC.abs(), torch.ones(len(redundancy_CC), dtype=torch.bool), bonus_C.clone()
    for _ in range(len(weights)):
        sums = (weights * alive[None, :]).sum(dim=1).masked_fill(~alive, -torch.inf)
        worst = int(sums.argmax())
        score[worst] -= sums[worst]
        alive[worst] = False
    return score.tolist()


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 12), st.integers(0, 10_000))
def test_the_score_is_the_published_rule_summed_anew_at_each_step(channels: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(channels, 6, generator=generator, dtype=torch.float64)
    features *= torch.rand(channels, 1, generator=generator) + 0.1  # unequal diagonals decide who goes
    matrix, bonus = features @ features.T, torch.rand(channels, generator=generator).double()
    np.testing.assert_allclose(DeletionDegree()(matrix, bonus), published(matrix, bonus), atol=1e-9)
    np.testing.assert_allclose(DeletionDegree()(matrix, None), published(matrix, bonus * 0), atol=1e-9)


def test_the_diagonal_counts() -> None:
    matrix = torch.tensor([[9.0, 0.0, 0.0], [0.0, 0.1, 1.0], [0.0, 1.0, 0.1]])
    score = DeletionDegree()(matrix, None)
    assert score.argmin() == 0, "without its diagonal channel 0 repeats nothing"


def test_the_bonus_moves_the_score_and_not_the_order_of_removal() -> None:
    matrix = torch.rand(6, 6, generator=torch.Generator().manual_seed(0))
    matrix = matrix + matrix.T
    bonus = torch.arange(6.0) * 100
    np.testing.assert_allclose(DeletionDegree()(matrix, bonus) - DeletionDegree()(matrix, None), bonus, atol=1e-9)


def test_the_inputs_stay_as_they_are() -> None:
    matrix, bonus = torch.eye(4) - 0.5, torch.ones(4)
    DeletionDegree()(matrix, bonus)
    assert torch.equal(matrix, torch.eye(4) - 0.5)
    assert torch.equal(bonus, torch.ones(4))


def test_a_pooled_branch_scores_below_every_other_layer_whatever_its_values() -> None:
    """A known fault of the published measure (sirfp.md 1.4, item 2): the ASPP's image pooling is cut to its floor."""
    generator = torch.Generator().manual_seed(0)
    pooled, mapped = (torch.randn(2, 40, places, generator=generator) for places in (1, 2048))
    worst_mapped = DeletionDegree()(L1Redundancy()(mapped), None).min()
    assert DeletionDegree()(L1Redundancy()(pooled), None).max() < worst_mapped
