import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from prunekit.pruning.criteria.sirfp_paper import CosineRedundancy, L1Redundancy, SobelEdge

shapes = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5))


def maps(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(deadline=None, max_examples=30)
@given(shapes, st.integers(0, 1000))
def test_l1_redundancy_is_the_published_formula_written_out(shape: tuple[int, ...], seed: int) -> None:
    x_BCN = maps(shape, seed).flatten(2)
    expected = torch.zeros(shape[1], shape[1], dtype=torch.float64)
    for sample in x_BCN:
        rows = [row / (sum(abs(float(value)) for value in row) + 1e-5) for row in sample]
        for i, a in enumerate(rows):
            for j, b in enumerate(rows):
                expected[i, j] += sum(float(p) * float(q) for p, q in zip(a, b, strict=True)) / len(x_BCN)
    torch.testing.assert_close(L1Redundancy()(x_BCN), expected)


def test_l1_redundancy_keeps_signs_and_the_diagonal_and_cancels_over_images() -> None:
    x_BCN = maps((1, 1, 7), 0).expand(1, 2, 7) * torch.tensor([1.0, -1.0])[None, :, None]
    once = L1Redundancy()(x_BCN)
    assert float(once[0, 1]) == pytest.approx(-float(once[0, 0]))
    other = x_BCN * torch.tensor([1.0, -1.0])[None, :, None]  # now the two fire alike
    assert L1Redundancy()(torch.cat([x_BCN, other]))[0, 1] == pytest.approx(0, abs=1e-12)


def test_l1_redundancy_shrinks_with_the_map_and_cosine_does_not() -> None:
    small, large = maps((2, 3, 10), 1), maps((2, 3, 10), 1).repeat(1, 1, 9)  # the same image nine times over
    torch.testing.assert_close(L1Redundancy()(large), L1Redundancy()(small) / 9, rtol=1e-4, atol=0)
    torch.testing.assert_close(CosineRedundancy()(large), CosineRedundancy()(small))
    assert CosineRedundancy()(small).diagonal().tolist() == pytest.approx([1, 1, 1])


@settings(deadline=None, max_examples=30)
@given(shapes, st.integers(0, 1000))
def test_sobel_edge_is_the_published_formula_written_out(shape: tuple[int, ...], seed: int) -> None:
    x = maps(shape, seed)
    expected = torch.zeros(shape[1], dtype=torch.float64)
    for sample in x:
        for channel, image in enumerate(sample):
            magnitudes = [_magnitude(image, r, c) for r in range(shape[2]) for c in range(shape[3])]
            mean = sum(magnitudes) / len(magnitudes)
            deviation = math.sqrt(sum((value - mean) ** 2 for value in magnitudes) / len(magnitudes))
            expected[channel] += deviation / len(x)
    torch.testing.assert_close(SobelEdge()(x), expected, atol=1e-7, rtol=1e-6)


def _magnitude(image: Tensor, row: int, column: int) -> float:
    gx = gy = 0.0
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            inside = 0 <= row + dy < image.shape[0] and 0 <= column + dx < image.shape[1]
            if (dx or dy) and inside:
                value = float(image[row + dy, column + dx])
                gx, gy = gx + dx / (dx**2 + dy**2) * value, gy + dy / (dx**2 + dy**2) * value
    return math.hypot(gx, gy)


def test_a_pooled_map_has_no_edges_and_other_dimensions_are_read_as_images() -> None:
    assert SobelEdge()(maps((3, 2, 1, 1), 0)).tolist() == [0, 0]
    assert SobelEdge()(maps((3, 2), 0)).tolist() == [0, 0]
    x = maps((2, 3, 4, 5), 2)
    torch.testing.assert_close(SobelEdge()(x[:, :, 0]), SobelEdge()(x[:, :, :1]))
    torch.testing.assert_close(SobelEdge()(x.unsqueeze(2)), SobelEdge()(x))
