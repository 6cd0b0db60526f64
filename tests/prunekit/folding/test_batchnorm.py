import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from prunekit.equality.compare import relative_error
from prunekit.errors import FoldError
from prunekit.folding import batchnorm
from prunekit.folding.batchnorm import fold_batch_norm

IMAGES = torch.randn(2, 4, 9, 11, generator=torch.Generator().manual_seed(0))


def with_statistics(module):
    """Give batch norms statistics and weights that a fold can get wrong."""
    for child in module.modules():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d) and child.running_var is not None:
            child.running_mean.normal_()
            child.running_var.uniform_(0.2, 3)
            if child.affine:
                nn.init.normal_(child.weight)
                nn.init.normal_(child.bias)
    return module.eval()


def folds(module, inputs=(IMAGES,)):
    with_statistics(module)
    folded, names = fold_batch_norm(module, inputs)
    for batch in (inputs, tuple(torch.randn_like(tensor) for tensor in inputs)):
        torch.testing.assert_close(folded(*batch), module(*batch), rtol=1e-4, atol=1e-4)
    return names


@given(
    groups=st.sampled_from([1, 2, 4]),
    per_group=st.integers(1, 3),
    kernel=st.integers(1, 3),
    bias=st.booleans(),
    affine=st.booleans(),
    transposed=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_convolutions(groups, per_group, kernel, bias, affine, transposed):
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    channels = groups * per_group
    layer = kind(4, channels, kernel, stride=2, padding=kernel // 2, groups=groups, bias=bias)
    assert folds(nn.Sequential(layer, nn.BatchNorm2d(channels, affine=affine), nn.ReLU())) == ["1"]


def test_linear():
    assert folds(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6)), (torch.randn(5, 4),)) == ["1"]


def test_linear_over_a_sequence_is_left():
    # A batch norm over (batch, length, features) works on the length.
    assert folds(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(3)), (torch.randn(5, 3, 4),)) == []


class _Graph(nn.Module):
    """conv -> norm, with something else in the way."""

    def __init__(self, forward, **modules):
        super().__init__()
        self.conv, self.norm, self.second = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.run = forward
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, images):
        return self.run(self, images)


def _shortcut(net, images):
    features = net.conv(images)
    return net.norm(features) + features


def _in_place(net, images):
    features = net.conv(images)
    features.mul_(2)
    return net.norm(features)


def _two_norms(net, images):
    features = net.conv(images)
    return net.norm(features) + net.second(features)


def _returned(net, images):
    features = net.conv(images)
    return features, net.norm(features)


@pytest.mark.parametrize(
    "forward",
    [
        _shortcut,
        _in_place,
        _two_norms,
        _returned,
        lambda net, images: net.norm(net.conv(images).relu()),
        lambda net, images: net.norm(net.conv(images)) + net.conv(-images),
        lambda net, images: net.norm(net.conv(images)) + net.norm(images),
        lambda net, images: net.norm(net.conv(images)) * net.conv.weight.sum(),
        lambda net, images: net.norm(net.conv(images)) + nn.functional.conv2d(images, net.conv.weight),
    ],
)
def test_what_something_else_reads_is_left(forward):
    module = _Graph(forward)
    with_statistics(module)
    folded, names = fold_batch_norm(module, (IMAGES,))
    assert names == []
    torch.testing.assert_close(folded(IMAGES), module(IMAGES))


def test_branches_that_do_not_matter_do_not_hinder():
    assert folds(_Graph(lambda net, images: net.second(net.norm(net.conv(images)))[:, :2])) == ["norm"]


def test_shared_parameters_are_left():
    first, second = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
    second.weight = first.weight
    assert folds(nn.Sequential(first, nn.BatchNorm2d(4), second, nn.BatchNorm2d(4))) == []


def test_parametrised_weights_are_left():
    assert folds(nn.Sequential(weight_norm(nn.Conv2d(4, 4, 1)), nn.BatchNorm2d(4))) == []


def test_modules_with_hooks_are_left():
    layer = nn.Conv2d(4, 4, 1)
    layer.register_forward_hook(lambda *arguments: arguments[-1] * 2)
    assert folds(nn.Sequential(layer, nn.BatchNorm2d(4))) == []


def test_norms_without_statistics_are_left():
    module = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False))
    assert folds(module) == []


def test_the_module_is_not_changed():
    module = with_statistics(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    folded, _ = fold_batch_norm(module, (IMAGES,))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert module.training
    assert not folded.training
    assert not module[0]._forward_hooks


def nearly_constant(seed):
    """A channel whose mean is large beside its spread: its batch norm magnifies the roundings of the sum before it."""
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1)).eval()
    with torch.no_grad():
        module[0].weight.mul_(0.02)
        module[0].bias.fill_(3000.0)
        features = module[0](images)
        module[1].running_mean.copy_(features.mean((0, 2, 3)))
        module[1].running_var.copy_(features.var((0, 2, 3)))
    return module, images


@pytest.mark.drawn(5)
def test_roundings_that_a_small_variance_magnifies_do_not_count(seed):
    torch.manual_seed(seed)
    module, images = nearly_constant(seed)
    folded, names = fold_batch_norm(module, (images,))
    assert names == ["1"]
    assert relative_error(module(images), folded(images)) > 1e-4, "float32 settles this: the test shows nothing"


def test_a_wrong_fold_among_magnified_roundings_is_refused(monkeypatch):
    right = batchnorm.scale_and_shift
    monkeypatch.setattr(batchnorm, "scale_and_shift", lambda norm: (right(norm)[0], right(norm)[1] * 1.001))
    module, images = nearly_constant(0)
    with pytest.raises(FoldError, match=r"in float64: this is not rounding"):
        fold_batch_norm(module, (images,))


def test_a_wrong_fold_is_refused(monkeypatch):
    monkeypatch.setattr(batchnorm, "_scaled", lambda *arguments: arguments[1])
    module = with_statistics(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)))
    with pytest.raises(FoldError, match=r"in float64: this is not rounding"):
        fold_batch_norm(module, (IMAGES,))
