import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from prunekit.models.segmenter import Outputs
from prunekit.recipe import TrainConfig
from prunekit.training.losses import training_loss
from prunekit.training.losses.gsrl import rebalanced_weights, weighted_cross_entropy


def by_definition(logits, labels, drawn, ignore=255, beta=0.9999):
    """Weights by loops over pixels, from the definition."""
    batch, _, height, width = logits.shape
    weights = torch.zeros(labels.shape, dtype=torch.float64)
    for image in range(batch):
        counts = {int(c): int((labels[image] == c).sum()) for c in labels[image].unique() if c != ignore}
        if not counts:
            continue
        reference = min(counts.values()) if drawn is None else counts.get(int(drawn[image]), 0)
        of_class = {c: min(max((1 + 1e-8 - beta**reference) / (1 + 1e-8 - beta**n), 0), 1) for c, n in counts.items()}
        for row in range(height):
            for column in range(width):
                if labels[image, row, column] == ignore:
                    continue
                near = labels[image, max(row - 4, 0) : row + 5, max(column - 4, 0) : column + 5].flatten().tolist()
                largest = max(of_class.get(c, 0) for c in near)
                top = logits[image, :, row, column].double().softmax(dim=0).sort(descending=True).values
                weights[image, row, column] = largest * (1 + 9 * (1 - (top[0] - top[1])))
    return weights


@given(st.integers(0, 10**6), st.integers(2, 5), st.integers(1, 13), st.integers(1, 13), st.booleans())
def test_weights_are_those_of_the_definition(seed, classes, height, width, with_drawn):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, classes, height, width, generator=generator)
    labels = torch.randint(0, classes, (2, height, width), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.3] = 255
    drawn = torch.randint(0, classes, (2,), generator=generator) if with_drawn else None
    weights = rebalanced_weights(logits, labels, drawn, 255)
    torch.testing.assert_close(weights.double(), by_definition(logits, labels, drawn), rtol=1e-4, atol=1e-12)
    expected = torch.stack(
        [
            (w * F.cross_entropy(x[None], y[None], ignore_index=255, reduction="none")[0]).sum() / (w.sum() + 1e-8)
            for x, y, w in zip(logits, labels, weights, strict=True)
        ]
    ).mean()
    torch.testing.assert_close(weighted_cross_entropy(logits, labels, weights, 255), expected)


def test_a_rare_class_and_its_surroundings_weigh_as_much_as_the_drawn_one_and_a_common_one_less():
    labels = torch.zeros(1, 64, 64, dtype=torch.int64)
    labels[0, 30, 30], labels[0, :4, :4] = 1, 2
    logits = torch.zeros(1, 3, 64, 64)
    logits[:, 0] = 50.0  # certain everywhere, so that no pixel is ambiguous
    weights = rebalanced_weights(logits, labels, torch.tensor([1]), 255)[0]
    assert (weights[26:35, 26:35] == 1).all()
    assert weights[25, 30] == pytest.approx((1 - 0.9999) / (1 - 0.9999 ** (64 * 64 - 17)), rel=1e-3)
    by_common = rebalanced_weights(logits, labels, torch.tensor([2]), 255)[0]
    assert by_common[30, 30] == by_common[0, 0] == 1  # rarer than the drawn class: clipped


def test_an_undecided_pixel_weighs_ten_times_a_certain_one():
    labels = torch.zeros(1, 1, 12, dtype=torch.int64)
    logits = torch.zeros(1, 2, 1, 12)
    logits[0, 0, 0, 6:] = 100.0
    weights = rebalanced_weights(logits, labels, None, 255)[0, 0]
    torch.testing.assert_close(weights[0] / weights[-1], torch.tensor(10.0))


def test_weights_pass_no_gradient_and_equal_weights_give_the_plain_mean():
    torch.manual_seed(0)
    logits = torch.randn(1, 3, 6, 7, requires_grad=True)
    labels = torch.randint(0, 3, (1, 6, 7))
    assert not rebalanced_weights(logits, labels, None, 255).requires_grad
    plain = weighted_cross_entropy(logits, labels, torch.full((1, 6, 7), 0.5), 255)
    torch.testing.assert_close(plain, F.cross_entropy(logits, labels), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("drawn", [None, torch.tensor([1, 1])])
def test_an_image_without_a_counted_pixel_has_loss_and_gradient_zero(drawn):
    logits = torch.randn(2, 3, 5, 5, requires_grad=True)
    outputs = Outputs(logits, {}, None)
    loss = training_loss(outputs, torch.full((2, 5, 5), 255), TrainConfig(loss="gsrl"), 255, drawn)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert logits.grad.abs().max() == 0


def test_auxiliary_heads_use_the_main_head_s_weights():
    torch.manual_seed(0)
    main, aux = torch.randn(2, 3, 6, 6), torch.randn(2, 3, 6, 6)
    labels = torch.randint(0, 3, (2, 6, 6))
    config = TrainConfig(loss="gsrl", aux_weight=0.25)
    weights = rebalanced_weights(main, labels, None, 255)
    expected = weighted_cross_entropy(main, labels, weights, 255) + 0.25 * weighted_cross_entropy(
        aux, labels, weights, 255
    )
    torch.testing.assert_close(training_loss(Outputs(main, {"aux": aux}, None), labels, config, 255), expected)


def test_half_precision_logits_give_a_finite_float32_loss():
    logits = torch.randn(1, 3, 8, 8).to(torch.bfloat16)
    loss = training_loss(Outputs(logits, {}, None), torch.zeros(1, 8, 8).long(), TrainConfig(loss="gsrl"), 255)
    assert loss.dtype == torch.float32
    assert math.isfinite(loss)


@pytest.mark.parametrize("drawn", [None, torch.tensor([1, 0], device="meta")])
def test_everything_happens_on_the_logits_device(drawn):
    """On the meta device an operand from elsewhere raises."""
    outputs = Outputs(torch.zeros(2, 3, 9, 9, device="meta"), {}, None)
    labels = torch.zeros(2, 9, 9, dtype=torch.int64, device="meta")
    assert training_loss(outputs, labels, TrainConfig(loss="gsrl"), 255, drawn).device.type == "meta"
