import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from prunekit.equality.compare import relative_error
from prunekit.errors import FoldError
from prunekit.folding import fold as fold_module
from prunekit.folding.ccs import SplitCcsHead, fold_ccs_exact, fold_ccs_static, mean_scene
from prunekit.folding.fold import fold
from prunekit.models.ccs import CCSHead, scene_features
from prunekit.models.segmenter import Segmenter
from prunekit.models.zoo import build

SHAPES = st.tuples(*(st.integers(low, high) for low, high in ((1, 3), (1, 12), (2, 6), (1, 9), (1, 9))))
MASKS = st.sampled_from(["softmax", "sigmoid"])


def random_head(channels, classes, mask="softmax", residual=True):
    head = CCSHead(channels, classes, mask, residual).eval()
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.5)
    return head


def trained_like(spec="python:prunekit.models.street:street_net?width=8", head="ccs"):
    torch.manual_seed(0)
    segmenter = build(spec, num_classes=4, head=head)
    for module in segmenter.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 2)
        if isinstance(module, CCSHead):
            nn.init.normal_(module.accm.weight, std=0.3)
            nn.init.normal_(module.accm.bias, std=0.3)
    return segmenter


@given(SHAPES, MASKS, st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_split_is_exact(shape, mask, residual):
    batch, channels, classes, height, width = shape
    head = random_head(channels, classes, mask, residual)
    features = torch.randn(batch, channels, height, width)
    with torch.no_grad():
        assert relative_error(head(features), fold_ccs_exact(head)(features)) <= 1e-5


@given(SHAPES, MASKS, st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_static_fold_is_exact_on_a_single_scene(shape, mask, residual):
    _, channels, classes, height, width = shape
    head = random_head(channels, classes, mask, residual)
    features = torch.randn(1, channels, height, width)
    with torch.no_grad():
        mean = scene_features(features, head.coarse(features), mask)[0]
        assert relative_error(head(features), fold_ccs_static(head, mean)(features)) <= 1e-5


def test_a_head_without_scene_term_folds_statically_for_every_scene():
    head = random_head(6, 3)
    nn.init.zeros_(head.accm.weight)
    features = torch.randn(4, 6, 5, 7)
    with torch.no_grad():
        torch.testing.assert_close(fold_ccs_static(head, torch.randn(3, 6))(features), head(features))


def test_the_mean_scene_weighs_images_not_batches():
    segmenter = Segmenter(random_head(3, 4), 4)
    images = torch.randn(5, 3, 8, 8)
    uneven = mean_scene(segmenter, [images[:1], images[1:]])
    each = torch.stack([mean_scene(segmenter, [image[None]]) for image in images]).mean(0)
    torch.testing.assert_close(uneven, each)


@pytest.mark.parametrize("head", ["plain", "ccs"])
def test_fold_leaves_no_batch_norm_and_no_ccs_head(head):
    segmenter = trained_like(head=head)
    folded, report = fold(segmenter)
    assert report.batch_norms_left == 0 < report.batch_norms_folded
    assert report.ccs == ("exact" if head == "ccs" else "none")
    assert report.max_relative_error <= 1e-4
    assert report.label_agreement > 0.999
    assert not any(isinstance(module, CCSHead | nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, SplitCcsHead) for module in folded.modules()) == (head == "ccs")
    assert any(isinstance(module, nn.BatchNorm2d) for module in segmenter.modules())
    assert segmenter.training


def test_the_static_fold_is_a_plain_network_and_its_difference_is_measured():
    segmenter = trained_like()
    scenes = [torch.randn(2, 3, 64, 96) for _ in range(2)]
    folded, report = fold(segmenter, ccs="static", scenes=iter(scenes))
    assert isinstance(folded.network.classifier, nn.Conv2d)
    assert 1e-4 < report.max_relative_error < 1
    segmenter.eval()
    with torch.no_grad():
        wrong = [(segmenter(x).argmax(1) != folded(x).argmax(1)).float().mean().item() for x in scenes]
    assert math.isclose(report.label_agreement, 1 - sum(wrong) / 2, abs_tol=1e-6)


def test_folded_networks_export():
    folded, _ = fold(trained_like())
    images = torch.randn(1, 3, 64, 96)
    exported = torch.export.export(folded, (images,)).module()
    torch.testing.assert_close(exported(images), folded(images))


@pytest.mark.parametrize(
    ("head", "scenes", "says"),
    [
        ("ccs", None, "some training images"),
        ("ccs", [], "No images"),
        ("plain", [torch.zeros(1, 3, 64, 64)], "a network with a CCS head"),
    ],
)
def test_a_static_fold_that_cannot_be_is_refused(head, scenes, says):
    with pytest.raises(FoldError, match=says):
        fold(trained_like(head=head), ccs="static", scenes=scenes)


def test_the_mean_of_a_plain_network_is_refused():
    with pytest.raises(FoldError, match="has 0"):
        mean_scene(trained_like(head="plain"), [torch.zeros(1, 3, 64, 64)])


def test_an_exact_fold_that_is_not_is_refused(monkeypatch):
    def broken(head):
        split = fold_ccs_exact(head)
        nn.init.zeros_(split.accm.weight)
        return split

    monkeypatch.setattr(fold_module, "fold_ccs_exact", broken)
    with pytest.raises(FoldError, match="in float64: this is not rounding"):
        fold(trained_like())


@pytest.mark.parametrize("head", ["plain", "ccs"])
def test_an_exact_fold_that_rounding_moves_is_proved_in_float64(head):
    segmenter = trained_like(head=head)
    classifier = segmenter.network.classifier
    norm = [module for module in segmenter.modules() if isinstance(module, nn.BatchNorm2d)][2]
    with torch.no_grad():
        norm.running_mean.add_(3e4 * norm.running_var.sqrt())  # the next layer gets what is left of a large difference
        norm.bias.add_(3e4 * norm.weight)
    folded, report = fold(segmenter)
    assert report.max_relative_error > 1e-4 > 1e-10 > report.float64_error
    assert type(folded.network.classifier) is (nn.Conv2d if head == "plain" else SplitCcsHead)
    assert type(classifier) is type(segmenter.network.classifier)


@pytest.mark.parametrize("ccs", ["exact", "static"])
def test_logits_that_are_not_finite_are_refused(ccs):
    segmenter = trained_like()
    with torch.no_grad():
        next(segmenter.parameters()).fill_(torch.nan)
    with pytest.raises(FoldError, match="not finite"):
        fold(segmenter, ccs=ccs, scenes=[torch.randn(2, 3, 64, 96)])
