import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from prunekit.models.ccs import CCSHead, scene_features, with_ccs

SHAPES = st.tuples(*(st.integers(low, high) for low, high in ((1, 3), (1, 12), (2, 6), (1, 9), (1, 9))))


def randomised(head):
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.5)
    return head


def literal(head, features):
    """The equations of the head, class by class, in loops."""
    batch, channels = features.shape[:2]
    pixels = features.flatten(2)
    weight, bias = head.coarse.weight.flatten(1), head.coarse.bias
    logits = []
    for image in range(batch):
        coarse = weight @ pixels[image] + bias[:, None]
        masks = coarse.softmax(0) if head.mask == "softmax" else coarse.sigmoid()
        rows = []
        for k in range(head.num_classes):
            block = slice(k * channels, (k + 1) * channels)
            scene = (masks[k] * pixels[image]).mean(1)
            centre = head.accm.weight[block].flatten(1) @ scene + head.accm.bias[block]
            rows.append((centre + weight[k]) @ pixels[image] + bias[k] if head.residual else centre @ pixels[image])
        logits.append(torch.stack(rows))
    return torch.stack(logits).unflatten(2, features.shape[2:])


@given(SHAPES, st.sampled_from(["softmax", "sigmoid"]), st.booleans(), st.booleans())
@settings(max_examples=40, deadline=None)
def test_head_follows_its_equations(shape, mask, residual, training):
    batch, channels, classes, height, width = shape
    head = randomised(CCSHead(channels, classes, mask, residual).double().train(training))
    features = torch.randn(batch, channels, height, width, dtype=torch.float64)
    torch.testing.assert_close(head(features), literal(head, features))


@given(SHAPES)
@settings(max_examples=20, deadline=None)
def test_training_starts_as_the_plain_head(shape):
    batch, channels, classes, height, width = shape
    head, features = CCSHead(channels, classes), torch.randn(batch, channels, height, width)
    torch.testing.assert_close(head(features), head.coarse(features))


def test_terms_hold_the_centres_that_predict():
    head = randomised(CCSHead(6, 3).double())
    features = torch.randn(2, 6, 4, 5, dtype=torch.float64)
    logits, terms = head(features), head.take_terms()
    predicted = torch.einsum("bkd,bdhw->bkhw", terms.centres_BKD, features) + head.coarse.bias[:, None, None]
    torch.testing.assert_close(predicted, logits)
    assert head.take_terms() is None


def test_the_residual_does_not_train_the_coarse_classifier():
    # A = 0 takes the masks out of the prediction, so W could only be reached through the residual.
    head = CCSHead(6, 3)
    features = torch.randn(2, 6, 4, 5, requires_grad=True)
    head(features).square().sum().backward()
    assert head.coarse.weight.grad is None or not head.coarse.weight.grad.any()
    assert features.grad.any()
    assert head.accm.weight.grad.any()


@pytest.mark.parametrize(("height", "width"), [(256, 512), (1, 1)])
def test_scene_features_survive_float16(height, width):
    torch.manual_seed(0)
    features, coarse = torch.rand(1, 8, height, width) * 10, torch.randn(1, 4, height, width)
    wanted = scene_features(features.double(), coarse.double(), "softmax")
    got = scene_features(features.half(), coarse.half(), "softmax")
    torch.testing.assert_close(got.double(), wanted, rtol=1e-2, atol=1e-3)


def test_modes_and_hooks_are_put_back():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Dropout2d(), nn.Conv2d(8, 4, 1))
    network[1].eval()
    with_ccs(network, 4)
    assert [module.training for module in network] == [True, False, True]
    assert isinstance(network[2], CCSHead)
    assert not network[0]._forward_hooks


def test_a_bare_convolution_becomes_the_head():
    assert isinstance(with_ccs(nn.Conv2d(3, 4, 1), 4), CCSHead)
