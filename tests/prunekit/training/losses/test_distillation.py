import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from prunekit.models.zoo import build
from prunekit.recipe import TrainConfig
from prunekit.training.losses import Teacher, distillation_loss
from prunekit.training.losses.distillation import channel_loss, logits_loss

CONFIGS = [TrainConfig(distill=kind, distill_temperature=t) for kind in ("logits", "channel") for t in (1.0, 4.0)]


def network(seed=0, classes=3):
    torch.manual_seed(seed)
    return build("python:prunekit.models.street:street_net?width=4", num_classes=classes)


@given(st.integers(0, 10**6), st.sampled_from(CONFIGS))
def test_losses_are_not_negative_and_zero_with_zero_gradient_only_for_the_same_distributions(seed, config):
    generator = torch.Generator().manual_seed(seed)
    teacher, student = (3 * torch.randn(2, 4, 5, 6, generator=generator) for _ in range(2))
    labels = torch.zeros(2, 5, 6, dtype=torch.int64)
    assert distillation_loss(student, teacher, labels, config, 255) > 1e-3
    # A constant per pixel (per class map for channel) changes no distribution.
    shift = torch.randn((2, 1, 5, 6) if config.distill == "logits" else (2, 4, 1, 1), generator=generator)
    same = (teacher + shift).requires_grad_()
    loss = distillation_loss(same, teacher, labels, config, 255)
    loss.backward()
    assert abs(float(loss.detach())) < 1e-4
    assert same.grad is not None
    assert same.grad.abs().max() < 1e-5


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_losses_are_the_textbook_divergences(temperature):
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    p, q = (teacher / temperature).softmax(dim=1), (student / temperature).softmax(dim=1)
    expected = temperature**2 * (p * (p / q).log()).sum(dim=1).mean()
    everywhere = torch.ones(2, 4, 5, dtype=torch.bool)
    torch.testing.assert_close(logits_loss(student, teacher, everywhere, temperature), expected)
    p, q = (F.softmax(x.flatten(2) / temperature, dim=2) for x in (teacher, student))
    expected = temperature**2 * (p * (p / q).log()).sum(dim=2).sum() / (2 * 3)
    torch.testing.assert_close(channel_loss(student, teacher, temperature), expected)


def test_the_gradient_at_a_high_temperature_is_that_of_squared_logit_differences():
    # Hinton et al. 2015, eq. 4: for T much larger than zero-mean logits, (z - v) / K per logit with the T^2 factor.
    torch.manual_seed(0)
    student, teacher = (x - x.mean(dim=1, keepdim=True) for x in torch.randn(2, 1, 4, 3, 3))
    student = student.clone().requires_grad_()
    logits_loss(student, teacher, torch.ones(1, 3, 3, dtype=torch.bool), 1000.0).backward()
    torch.testing.assert_close(student.grad, (student.detach() - teacher) / 4 / 9, rtol=2e-2, atol=1e-4)


def test_ignored_pixels_are_left_out_even_where_logits_are_not_finite():
    torch.manual_seed(0)
    student, teacher = torch.randn(1, 3, 4, 4), torch.randn(1, 3, 4, 4)
    labels = torch.zeros(1, 4, 4, dtype=torch.int64)
    labels[0, 2:] = 255
    config = TrainConfig(distill="logits")
    expected = distillation_loss(student[:, :, :2], teacher[:, :, :2], labels[:, :2], config, 255)
    teacher[:, :, 2:] = torch.inf
    torch.testing.assert_close(distillation_loss(student, teacher, labels, config, 255), expected)
    assert distillation_loss(student, teacher, torch.full((1, 4, 4), 255), config, 255) == 0


def test_a_teacher_is_frozen_and_its_statistics_stay():
    teacher = Teacher(network().train())
    before = copy.deepcopy(teacher.segmenter.state_dict())
    teacher.segmenter.train()  # somebody's mistake
    logits = teacher.logits(torch.randn(2, 3, 32, 32))
    assert not logits.requires_grad
    assert not any(parameter.requires_grad for parameter in teacher.segmenter.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.segmenter.state_dict().items())


def test_a_teacher_s_identity_is_its_weights():
    assert Teacher(network(0)).identity == Teacher(network(0)).identity
    assert Teacher(network(0)).identity != Teacher(network(1)).identity


def test_a_loss_behind_the_teacher_reaches_the_student_only():
    teacher, student = Teacher(network(0)), network(1)
    images = torch.randn(2, 3, 32, 32)
    loss = distillation_loss(
        student(images), teacher.logits(images), torch.zeros(2, 32, 32).long(), TrainConfig(distill="channel"), 255
    )
    loss.backward()
    assert all(parameter.grad is not None for parameter in student.parameters())
    assert all(parameter.grad is None for parameter in teacher.segmenter.parameters())
