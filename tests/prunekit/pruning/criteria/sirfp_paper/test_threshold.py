from collections.abc import Callable, Sequence

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from prunekit.pruning import analyse
from prunekit.pruning.criteria.sirfp_paper import GlobalThreshold, GroupScore, UnionOverMembers
from prunekit.pruning.criteria.sirfp_paper.cut import misplaced
from prunekit.pruning.criteria.sirfp_paper.members import find_members
from prunekit.pruning.criteria.sirfp_paper.threshold import Scored

rows = st.lists(
    st.tuples(st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=60), st.booleans()), min_size=1, max_size=5
)


def published_masks(scored: Sequence[Scored], share: float) -> list[np.ndarray]:
    """Keep what is above the quantile of its part; the best of each layer always stay."""
    masks = []
    for row in scored:
        part = np.sort(np.concatenate([other.score_C for other in scored if other.encoder == row.encoder]))
        mask = row.score_C > part[int(share * len(part))]
        floor = max(1, int(0.02 * len(mask)))
        if mask.sum() < floor:
            mask[:] = False
            mask[np.argsort(-row.score_C, kind="stable")[:floor]] = True
        masks.append(mask)
    return masks


@settings(deadline=None, max_examples=100)
@given(rows, st.floats(0, 0.999))
def test_levels_above_a_share_are_the_published_masks(values: list[tuple[list[float], bool]], share: float) -> None:
    scored = [Scored(np.array(score), encoder) for score, encoder in values]
    levels = GlobalThreshold()(scored)
    parts = {part: sum(len(row.score_C) for row in scored if row.encoder is part) for part in (True, False)}
    for row, level, mask in zip(scored, levels, published_masks(scored, share), strict=True):
        size = parts[row.encoder]
        np.testing.assert_array_equal(np.round(level * size) > int(share * size), mask)


def test_both_parts_are_cut_by_the_same_share_whatever_their_scale() -> None:
    small, large = np.arange(100.0), 1e6 * np.arange(50.0)
    encoder, rest = GlobalThreshold()([Scored(small, True), Scored(large, False)])
    assert (encoder > 0.3).sum() == 69  # the quantile itself goes too
    assert (rest > 0.3).sum() == 34


class Stream(nn.Module):
    """A residual stream with two members, and one inner layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.a_bn = nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6)
        self.b, self.b_bn = nn.Conv2d(6, 8, 1), nn.BatchNorm2d(8)
        self.c, self.c_bn = nn.Conv2d(8, 6, 1), nn.BatchNorm2d(6)
        self.head = nn.Conv2d(6, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a_bn(self.a(x)).relu()
        return self.head((x + self.c_bn(self.c(self.b_bn(self.b(x)).relu()))).relu())


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.floats(0, 0.95))
def test_a_unit_stays_as_long_as_one_member_keeps_it(seed: int, share: float) -> None:
    members = _stream_members()
    generator = np.random.default_rng(seed)
    scores = {layer.name: generator.normal(size=len(layer.index_C)) for layer in members.layers}
    levels = GlobalThreshold()([Scored(scores[layer.name], layer.encoder) for layer in members.layers])
    masks = {layer.name: level > share for layer, level in zip(members.layers, levels, strict=True)}
    found = UnionOverMembers()(members, scores, GlobalThreshold())
    np.testing.assert_array_equal(found["a"] > share, masks["a_bn"] | masks["c_bn"])
    np.testing.assert_array_equal(found["b"] > share, masks["b_bn"])


def _stream_members(cache: list = []) -> object:  # noqa: B006  one analysis for all examples
    if not cache:
        network = Stream()
        cache.append(find_members(network, analyse(network, (torch.zeros(1, 3, 4, 4),))))
    return cache[0]


def test_a_group_score_is_the_mean_of_its_members_and_counts_once() -> None:
    members = _stream_members()
    scores = {"a_bn": np.arange(6.0), "c_bn": np.array([6.0, 0, 0, 0, 0, 0]), "b_bn": np.full(8, -1.0)}
    seen: list[Sequence[Scored]] = []

    def threshold(rows: Sequence[Scored]) -> list[np.ndarray]:
        seen.append(rows)
        return [row.score_C for row in rows]

    found = GroupScore()(members, scores, threshold)
    assert found["a"].tolist() == [3, 0.5, 1, 1.5, 2, 2.5]
    assert sorted(len(row.score_C) for row in seen[0]) == [6, 8]


def test_levels_follow_the_units_on_drawn_networks(random_network: Callable[..., nn.Module]) -> None:
    network = random_network(["Concat", "Split", "Depthwise", "Grouped", "Shuffle"], 0)
    coupling = analyse(network, (torch.zeros(1, 3, 8, 8),))
    members = find_members(network, coupling)
    scores = {layer.name: np.random.default_rng(1).normal(size=len(layer.index_C)) for layer in members.layers}
    plain = GlobalThreshold()
    for combination in (UnionOverMembers(), GroupScore()):
        levels = combination(members, scores, plain)
        assert set(levels) == {group.name for group in members.groups}
        for group in members.groups:
            assert len(levels[group.name]) == group.width
            assert (levels[group.name] >= 0).all(), "every unit was judged by someone"


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=9), st.floats(0, 1))
def test_misplaced_sums_the_distances_of_units_on_the_wrong_side(levels: list[float], share: float) -> None:
    levels = sorted(levels)
    table = misplaced(np.array(levels), share)
    for width in range(len(levels) + 1):
        gone, kept = levels[: len(levels) - width], levels[len(levels) - width :]
        wrong = [level for level in gone if level > share] + [level for level in kept if level <= share]
        assert table[width] == pytest.approx(sum(abs(level - share) for level in wrong))
    assert table[sum(level > share for level in levels)] == 0
