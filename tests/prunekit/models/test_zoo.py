"""The Segmenter contract, for every kind of network the zoo takes."""

import sys
import types

import pytest
import torch
from torch import nn

from prunekit.errors import ModelError
from prunekit.folding.fold import fold
from prunekit.models.ccs import CCSHead
from prunekit.models.zoo import build

LRASPP = "torchvision:lraspp_mobilenet_v3_large"
STREET = "python:prunekit.models.street:street_net?width=8"
UNET = "smp:Unet?encoder=resnet18&encoder_depth=3&decoder_channels=[32,16,8]"
CASES = [
    (STREET, "plain"),
    (STREET, "ccs"),
    (UNET, "plain"),
    (UNET, "ccs"),
    ("smp:FPN?encoder=mobilenet_v2", "plain"),
    ("smp:DeepLabV3Plus?encoder=mobilenet_v2", "ccs"),
    ("smp:PSPNet?encoder=resnet18", "ccs"),
    ("smp:Segformer?encoder=mit_b0", "ccs"),
    ("torchvision:deeplabv3_mobilenet_v3_large?aux_loss=true", "ccs"),
    (LRASPP, "plain"),
]


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.mark.parametrize(("spec", "head"), CASES)
def test_contract(spec, head):
    segmenter = build(spec, num_classes=5, head=head)
    assert segmenter.training
    _check_sizes(segmenter)
    _check_training(segmenter, head)
    _check_export(segmenter)
    _, report = fold(segmenter)
    assert report.max_relative_error < 1e-4


def _check_sizes(segmenter):
    segmenter.eval()
    for height, width in ((128, 160), (97, 141)):
        with torch.no_grad():
            assert segmenter(torch.randn(2, 3, height, width)).shape == (2, 5, height, width)


def _check_training(segmenter, head):
    segmenter.train()
    outputs = segmenter.outputs(torch.randn(2, 3, 97, 141))
    assert (outputs.ccs is not None) == (head == "ccs")
    assert all(aux.shape == outputs.logits_BKHW.shape for aux in outputs.aux.values())
    loss = outputs.logits_BKHW.square().mean() + sum(aux.square().mean() for aux in outputs.aux.values())
    loss = loss if outputs.ccs is None else loss + outputs.ccs.coarse_BKhw.square().mean()
    loss.backward()
    # Not all: smp keeps encoder stages that its depth leaves unused.
    with_gradient = [name for name, parameter in segmenter.named_parameters() if parameter.grad is not None]
    first, *_, last = [name for name, module in segmenter.named_modules() if isinstance(module, nn.Conv2d)]
    assert f"{first}.weight" in with_gradient
    assert f"{last}.weight" in with_gradient


def _check_export(segmenter):
    segmenter.eval()
    images = torch.randn(1, 3, 128, 160)
    exported = torch.export.export(segmenter, (images,)).module()
    torch.testing.assert_close(exported(images), segmenter(images))


@pytest.mark.parametrize("head", ["plain", "ccs"])
def test_street_net_exports_for_any_size(head):
    segmenter = build(STREET, num_classes=5, head=head).eval()
    sizes = {
        0: torch.export.Dim("batch", max=8),
        2: torch.export.Dim("height", min=32),
        3: torch.export.Dim("width", min=32),
    }
    exported = torch.export.export(segmenter, (torch.randn(2, 3, 64, 96),), dynamic_shapes=(sizes,)).module()
    for height, width in ((64, 96), (131, 157), (33, 45)):
        images = torch.randn(1, 3, height, width)
        torch.testing.assert_close(exported(images), segmenter(images))


def test_two_classifiers_cannot_be_replaced():
    with pytest.raises(ModelError, match=r"low_classifier, classifier.high_classifier"):
        build(LRASPP, num_classes=5, head="ccs")


def test_aux_head_is_not_taken_for_the_classifier():
    segmenter = build("torchvision:deeplabv3_mobilenet_v3_large?aux_loss=true", num_classes=5, head="ccs")
    names = [name for name, module in segmenter.named_modules() if isinstance(module, CCSHead)]
    assert names == ["network.classifier.4"]
    assert list(segmenter.train().outputs(torch.randn(2, 3, 64, 64)).aux) == ["aux"]


def test_same_seed_same_weights():
    def built():
        torch.manual_seed(3)
        return build(STREET, num_classes=5, head="ccs").state_dict()

    first, second = built(), built()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("smp:Nope", "It has DPT, DeepLabV3"),
        ("smp:Unet?encoder=nope", "smp has no encoder"),
        ("smp:Unet?typo=1", "does not take typo. It takes .*decoder_channels"),
        ("smp:Unet?classes=3", "the data set decides"),
        ("smp:Unet?encoder_weights=imagenet", "--pretrained decides"),
        ("smp:Unet?encoder=resnet18&encoder_name=resnet18", "Keep one"),
        ("torchvision:resnet18", "no segmentation network"),
        ("python:prunekit.models.street", "package.module:factory"),
        ("python:no_such_module:make", "cannot be imported"),
        ("python:prunekit.models.street:nope", "defines no factory"),
        ("python:prunekit.models.street:Tensor", "defines no factory"),
        ("python:prunekit.models.street:street_net?width=7", "even number"),
    ],
)
def test_refusals(spec, says):
    with pytest.raises(ModelError, match=says):
        build(spec, num_classes=5)


def test_pretrained_weights_that_cannot_be_had(monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("segmentation_models_pytorch.encoders.hf_hub_download", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    for spec in ("smp:Unet?encoder=resnet18", LRASPP):
        with pytest.raises(ModelError, match=r"no route to host.*--no-pretrained"):
            build(spec, num_classes=5, pretrained=True)
    with pytest.raises(ModelError, match="--no-pretrained"):
        build(STREET, num_classes=5, pretrained=True)


@pytest.fixture
def factory(monkeypatch):
    """Offer a factory as python:their_module:make."""

    def offer(make):
        module = types.ModuleType("their_module")
        make.__module__ = "their_module"
        module.make = make
        monkeypatch.setitem(sys.modules, "their_module", module)
        return "python:their_module:make"

    return offer


@pytest.mark.parametrize(
    "spec", ["python:their_module:make", "smp:Unet?encoder=tu-hf-hub:someone/network", "python:prunekit.run:new_run"]
)
def test_untrusted_specs_run_no_foreign_code(spec, factory):
    factory(lambda **_: pytest.fail("the factory ran"))
    with pytest.raises(ModelError, match="--trust-code"):
        build(spec, num_classes=5, trust_code=False)


def test_untrusted_specs_of_our_own_are_built():
    build(STREET, num_classes=5, trust_code=False)
    build(UNET, num_classes=5, trust_code=False)


class _Multiples(nn.Module):
    """A network that takes multiples of 8 only, and breaks the contract as told."""

    def __init__(self, num_classes, stride=None, channels=None):
        super().__init__()
        self.down = nn.Conv2d(3, 8, 8, stride=8)
        self.up = nn.ConvTranspose2d(8, channels or num_classes, 8, stride=8)
        if stride:
            self.stride = stride

    def forward(self, images):
        assert images.shape[2] % 8 == 0 == images.shape[3] % 8
        return self.up(self.down(images))


def test_a_factory_states_its_stride(factory):
    assert build(factory(lambda num_classes: _Multiples(num_classes, stride=8)), num_classes=5).stride == 8
    with pytest.raises(ModelError, match="attribute `stride`"):
        build(factory(lambda num_classes: _Multiples(num_classes)), num_classes=5)


def test_a_wrong_number_of_classes_is_named(factory):
    with pytest.raises(ModelError, match=r"5 classes.*shape"):
        build(factory(lambda num_classes: _Multiples(num_classes, stride=8, channels=7)), num_classes=5)


def test_a_factory_must_return_a_module(factory):
    with pytest.raises(ModelError, match=r"not a torch\.nn.Module"):
        build(factory(lambda **_: "network"), num_classes=5)


def test_a_transposed_classifier_cannot_become_ccs(factory):
    with pytest.raises(ModelError, match="found none"):
        build(factory(lambda num_classes: _Multiples(num_classes, stride=8)), num_classes=5, head="ccs")
