import pytest
import torch
from torch.nn import functional as F

from prunekit.models.segmenter import Outputs
from prunekit.models.zoo import build
from prunekit.recipe import TrainConfig
from prunekit.training.losses import training_loss
from prunekit.training.losses.pixelwise import cross_entropy


def test_cross_entropy_is_torchs_mean_over_the_pixels_that_count():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 5, 6, 7), torch.randint(0, 5, (2, 6, 7))
    labels[:, :3] = 255
    torch.testing.assert_close(cross_entropy(logits, labels, 255), F.cross_entropy(logits, labels, ignore_index=255))


def test_a_batch_without_a_counted_pixel_has_loss_and_gradient_zero():
    logits = torch.randn(2, 5, 6, 7, requires_grad=True)
    loss = cross_entropy(logits, torch.full((2, 6, 7), 255), 255)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert logits.grad.abs().max() == 0


def test_auxiliary_heads_count_with_their_weight():
    main, aux = torch.randn(1, 3, 4, 4), torch.randn(1, 3, 4, 4)
    labels = torch.randint(0, 3, (1, 4, 4))
    outputs = Outputs(main, {"one": aux, "two": main}, None)
    expected = 1.25 * cross_entropy(main, labels, 255) + 0.25 * cross_entropy(aux, labels, 255)
    torch.testing.assert_close(training_loss(outputs, labels, TrainConfig(aux_weight=0.25), 255), expected)


@pytest.mark.parametrize("weight", ["ccs_coarse_weight", "ccs_inter_weight", "ccs_intra_weight"])
def test_each_ccs_weight_changes_the_loss_and_reaches_the_network(weight):
    torch.manual_seed(0)
    segmenter = build("python:prunekit.models.street:street_net?width=4", num_classes=3, head="ccs").train()
    outputs = segmenter.outputs(torch.randn(2, 3, 32, 32))
    labels = torch.zeros(2, 32, 32, dtype=torch.int64)
    labels[:, 16:] = 1
    off = {"ccs_coarse_weight": 0, "ccs_inter_weight": 0, "ccs_intra_weight": 0}
    plain = training_loss(outputs, labels, TrainConfig(**off), 255)
    weighted = training_loss(outputs, labels, TrainConfig(**{**off, weight: 1.0}), 255)
    assert weighted > plain
    gradients = torch.autograd.grad(weighted - plain, list(segmenter.parameters()), allow_unused=True)
    assert any(gradient is not None and gradient.abs().max() > 0 for gradient in gradients)
