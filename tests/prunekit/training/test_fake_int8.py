"""Quantisation-aware training rounds what an int8 file rounds, lets gradients pass, and resumes to the same bits."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from prunekit.recipe import parse_recipe
from prunekit.training.fake_int8 import LEVELS, FakeInt8, rounded, suits_int8
from prunekit.training.loop import fit
from prunekit.training.state import fingerprint
from prunekit.workflows.train import build_network


def half_up(scale):
    """Return the smallest number of fp16 that is no smaller."""
    nearest = np.float16(max(scale, 2.0**-24))
    return nearest if np.float64(nearest) >= scale else np.nextafter(nearest, np.float16(np.inf))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_values_become_the_nearest_of_255_levels(seed, axis):
    random = np.random.default_rng(seed)
    values = random.standard_normal((3, 4, 2, 5)) * 10.0 ** random.uniform(-3, 3, (3, 4, 1, 1))
    got = rounded(torch.from_numpy(values), axis).numpy()
    moved, result = (np.moveaxis(each, axis or 0, 0) for each in (values, got))
    for inside, outside in [(values, got)] if axis is None else zip(moved, result, strict=True):
        largest = np.abs(inside).max()
        step = np.float64(half_up(largest / LEVELS))
        np.testing.assert_allclose(outside, np.round(inside / step) * step, rtol=1e-12, atol=1e-12 * step)
        assert np.abs(outside - inside).max() <= step * 0.5001
        assert largest / LEVELS <= step <= largest / LEVELS * (1 + 2.0**-10) + 2.0**-24
        assert len(np.unique(np.round(outside / step))) <= 255


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bits_are_rounded_to_levels_of_the_same_scale(dtype):
    values = torch.randn(500).to(dtype)
    step = float(half_up(values.abs().max().item() / LEVELS))
    got = rounded(values)
    assert got.dtype == dtype
    expected = (values.float() / step).round() * step
    assert (expected / step).abs().max() <= LEVELS
    torch.testing.assert_close(got.float(), expected, rtol=2.0**-7, atol=0)


def test_the_gradient_passes_unchanged():
    values = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 6, dtype=torch.float64)
    (rounded(values) * weight).sum().backward()
    torch.testing.assert_close(values.grad, weight)


def test_zeros_stay_zeros():
    zeros = torch.zeros(2, 3, requires_grad=True)
    rounded(zeros).sum().backward()
    assert not rounded(zeros).any()
    assert torch.isfinite(zeros.grad).all()


PRODUCTS = {
    "conv": (lambda o, i, g: nn.Conv2d(i, o, 3, padding=1, groups=g), 0),
    "transposed": (lambda o, i, g: nn.ConvTranspose2d(i, o, 2, stride=2, groups=g), 1),
    "linear": (lambda o, i, _: nn.Linear(i, o), 0),
}


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kind", PRODUCTS)
def test_products_of_drawn_sizes_are_rounded_where_int8_suits_them(seed, kind):
    random = np.random.default_rng(seed)
    torch.manual_seed(seed)
    groups = int(random.choice([1, 1, 2]))
    channels_in, channels_out = (int(random.choice([4, 8, 12, 16, 24, 32])) for _ in range(2))
    make, axis = PRODUCTS[kind]
    layer = make(channels_out, channels_in, groups)
    shape = (2, 7, channels_in) if kind == "linear" else (2, channels_in, 5, 6)
    images = torch.randn(shape)
    with FakeInt8(5):
        got = layer(images)
    if suits_int8(channels_in, channels_out, 1 if kind == "linear" else groups):
        plain, weight = torch.clone(layer.weight.detach()), rounded(layer.weight.detach(), axis)
        assert not torch.equal(plain, weight)
        with torch.no_grad():
            layer.weight.copy_(weight)
        expected = layer(rounded(images))
    else:
        expected = layer(images)
    torch.testing.assert_close(got, expected)


def test_the_classifier_and_functional_calls_by_name():
    images, weight = torch.randn(1, 16, 4, 4), torch.randn(24, 16, 1, 1)
    with FakeInt8(24):
        assert torch.equal(F.conv2d(images, weight), torch.conv2d(images, weight))
    with FakeInt8(5):
        by_name = F.conv2d(images, weight=weight, groups=1)
    assert torch.equal(by_name, torch.conv2d(rounded(images), rounded(weight, 0)))


def test_a_batch_norm_behind_a_product_changes_nothing_about_its_levels():
    """So that weights need not be folded while they are trained: the scale of a channel is multiplied with it."""
    weight, factor = torch.randn(16, 16, 3, 3, dtype=torch.float64), 2.0 ** torch.randint(-3, 4, (16,)).double()
    folded = rounded(weight * factor[:, None, None, None], 0)
    torch.testing.assert_close(folded, rounded(weight, 0) * factor[:, None, None, None])


def test_the_setting_is_left_out_of_older_fingerprints(tiny):
    assert "qat" not in fingerprint(tiny())
    assert fingerprint(tiny(**{"train.qat": False})) == fingerprint(tiny())
    assert fingerprint(tiny(**{"train.qat": True})) != fingerprint(tiny())


WIDE = {"model.name": "python:prunekit.models.street:street_net?width=16", "train.epochs": 2}


def test_training_sees_the_roundings_and_resumes_to_the_same_bits(tiny, tiny_data, tmp_path):
    from prunekit.data.transforms import contract_of
    from prunekit.modelfile import new_card
    from prunekit.run import RunDirectory
    from prunekit.training.events import Silent

    class Stop(Silent):
        def on_epoch(self, *_):
            raise KeyboardInterrupt

    def trained(recipe, name, **more):
        run = RunDirectory(tmp_path / name)
        run.path.mkdir(exist_ok=True)
        segmenter = build_network(recipe, len(tiny_data["train_set"].classes))
        card = new_card(recipe.model, tiny_data["train_set"].classes, contract_of(recipe.data, segmenter.stride))
        fit(segmenter, recipe, run, card=card, **tiny_data, **more)
        return run.weights_path.read_bytes()

    plain, qat = tiny(**WIDE), tiny(**WIDE, **{"train.qat": True})
    whole = trained(qat, "whole")
    assert whole != trained(plain, "plain")
    with pytest.raises(KeyboardInterrupt):
        trained(qat, "stopped", observer=Stop())
    assert trained(qat, "stopped") == whole


def test_the_recipe_knows_the_setting():
    assert parse_recipe({"train": {"qat": True}}).train.qat


def test_a_teacher_is_not_rounded(tiny, tiny_data, run):
    from torch.overrides import _get_current_function_mode_stack

    from prunekit.data.transforms import contract_of
    from prunekit.modelfile import new_card
    from prunekit.training.extras import Extras
    from prunekit.training.losses import Teacher

    active: dict[str, list[bool]] = {"teacher": [], "network": []}

    def watch(name):
        def see(*_):
            active[name].append(any(isinstance(mode, FakeInt8) for mode in _get_current_function_mode_stack()))

        return see

    recipe = tiny(**{"train.epochs": 1, "train.qat": True, "train.distill": "logits"})
    classes = tiny_data["train_set"].classes
    segmenter, dense = (build_network(recipe, len(classes)) for _ in range(2))
    segmenter.network.register_forward_hook(watch("network"))
    teacher = Teacher(dense)
    teacher.segmenter.network.register_forward_hook(watch("teacher"))
    card = new_card(recipe.model, classes, contract_of(recipe.data, segmenter.stride))
    fit(segmenter, recipe, run, card=card, extras=Extras(teacher=teacher), **tiny_data)
    assert active["network"]
    assert all(active["network"]), "in training and in evaluation"
    assert active["teacher"]
    assert not any(active["teacher"])
