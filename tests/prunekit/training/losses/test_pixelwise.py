"""Losses by pixel and by overlap, each beside its formula written out pixel by pixel."""

import math

import numpy as np
import pytest
import torch

from prunekit.errors import ConfigError
from prunekit.models.segmenter import Outputs
from prunekit.recipe import TrainConfig, parse_recipe
from prunekit.training.losses import make_class_weights, training_loss
from prunekit.training.losses.class_weights import weights_of
from prunekit.training.losses.overlap import dice_loss, lovasz_loss
from prunekit.training.losses.pixelwise import cross_entropy, focal_loss, ohem_loss

IGNORED = 255


def drawn(seed: int, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, classes, 5, 6, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, classes, (2, 5, 6), generator=generator)
    labels[torch.rand(2, 5, 6, generator=generator) < 0.2] = IGNORED
    return logits, labels


def pixels(logits: torch.Tensor, labels: torch.Tensor) -> list[tuple[np.ndarray, int]]:
    """Return the probabilities and the class of each pixel that counts."""
    shares = logits.softmax(1).movedim(1, -1).reshape(-1, logits.shape[1]).numpy()
    return [(share, label) for share, label in zip(shares, labels.flatten().tolist(), strict=True) if label != IGNORED]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_focal_and_ohem(seed: int, weighted: bool) -> None:
    logits, labels = drawn(seed)
    weights = torch.rand(4, generator=torch.Generator().manual_seed(seed)) if weighted else None
    of = [1.0] * 4 if weights is None else weights.double().tolist()
    found = [(share[label], of[label]) for share, label in pixels(logits, labels)]
    total = sum(weight for _, weight in found)
    expected = sum(-math.log(share) * weight for share, weight in found) / total
    assert cross_entropy(logits, labels, IGNORED, weights).item() == pytest.approx(expected)
    expected = sum(-math.log(share) * (1 - share) ** 1.5 * weight for share, weight in found) / total
    assert focal_loss(logits, labels, IGNORED, 1.5, weights).item() == pytest.approx(expected)
    for threshold, min_share in ((0.0, 0.3), (0.4, 0.1), (1.0, 0.0)):
        ranked = sorted(found)
        least = max(1, math.ceil(min_share * len(ranked)))
        hard = [pair for place, pair in enumerate(ranked) if place < least or pair[0] < threshold]
        expected = sum(-math.log(share) * weight for share, weight in hard) / sum(weight for _, weight in hard)
        got = ohem_loss(logits, labels, IGNORED, threshold=threshold, min_share=min_share, weights_K=weights)
        assert got.item() == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(8))
def test_dice_over_the_classes_that_are_there(seed: int) -> None:
    logits, labels = drawn(seed)
    labels[labels == seed % 4] = IGNORED
    found = pixels(logits, labels)
    losses = []
    for label in sorted({label for _, label in found}):
        both = sum(share[label] for share, own in found if own == label)
        sums = sum(share[label] for share, _ in found) + sum(own == label for _, own in found)
        losses.append(1 - 2 * both / sums)
    assert dice_loss(logits, labels, IGNORED).item() == pytest.approx(np.mean(losses))


def jaccard_of_errors(wrong: set[int], true: set[int]) -> float:
    """Return 1 - IoU of the prediction that is wrong at these pixels."""
    predicted = true ^ wrong
    return 1 - len(predicted & true) / len(predicted | true)


@pytest.mark.parametrize("seed", range(8))
def test_lovasz_is_the_extension_of_one_minus_iou(seed: int) -> None:
    """Its definition (Berman et al. 2018, eq. 8): errors in falling order, each times what the set's loss grows by."""
    logits, labels = drawn(seed)
    found = pixels(logits, labels)
    losses = []
    for label in sorted({label for _, label in found}):
        true = {place for place, (_, own) in enumerate(found) if own == label}
        errors = [abs((place in true) - share[label]) for place, (share, _) in enumerate(found)]
        wrong: set[int] = set()
        before, loss = 0.0, 0.0
        for place in sorted(range(len(errors)), key=lambda place: -errors[place]):
            wrong.add(place)
            after = jaccard_of_errors(wrong, true)
            loss, before = loss + errors[place] * (after - before), after
        losses.append(loss)
    assert lovasz_loss(logits, labels, IGNORED).item() == pytest.approx(np.mean(losses))


def test_lovasz_of_a_hard_prediction_is_one_minus_iou() -> None:
    labels = torch.randint(0, 3, (1, 6, 6), generator=torch.Generator().manual_seed(0))
    predicted = torch.randint(0, 3, (1, 6, 6), generator=torch.Generator().manual_seed(1))
    logits = 1e4 * torch.nn.functional.one_hot(predicted, 3).movedim(-1, 1).double()
    ious = [((predicted == k) & (labels == k)).sum() / ((predicted == k) | (labels == k)).sum() for k in range(3)]
    assert lovasz_loss(logits, labels, IGNORED).item() == pytest.approx(1 - np.mean(ious))


LOSSES = {
    "ce": lambda logits, labels: cross_entropy(logits, labels, IGNORED, torch.tensor([1.0, 0.5, 2.0, 0.1])),
    "focal": lambda logits, labels: focal_loss(logits, labels, IGNORED, 2.0),
    "focal below 1": lambda logits, labels: focal_loss(logits, labels, IGNORED, 0.5),
    "ohem": lambda logits, labels: ohem_loss(logits, labels, IGNORED, threshold=0.5, min_share=0.2),
    "dice": lambda logits, labels: dice_loss(logits, labels, IGNORED),
    "lovasz": lambda logits, labels: lovasz_loss(logits, labels, IGNORED),
}


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_is_that_of_the_numbers(name: str) -> None:
    logits, labels = drawn(3)
    assert torch.autograd.gradcheck(lambda values: LOSSES[name](values, labels), (logits.requires_grad_(),))


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_without_a_counted_pixel_gives_zero_and_no_nan(name: str) -> None:
    logits = torch.randn(2, 4, 5, 6, requires_grad=True)
    loss = LOSSES[name](logits, torch.full((2, 5, 6), IGNORED))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_sure_and_equal_logits_give_finite_losses_and_gradients(name: str, scale: float) -> None:
    logits = (scale * torch.randn(1, 4, 3, 3)).to(torch.bfloat16).requires_grad_()
    loss = LOSSES[name](logits, torch.randint(0, 4, (1, 3, 3)))
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_weights_from_frequencies_have_mean_one_over_the_pixels() -> None:
    pixels_K = torch.tensor([900.0, 90.0, 10.0, 0.0])
    for kind, ratio in (("sqrt", math.sqrt(10)), ("inverse", 10.0)):
        weights_K = weights_of(kind, pixels_K)
        assert (weights_K * pixels_K).sum().item() == pytest.approx(pixels_K.sum().item())
        assert (weights_K[1] / weights_K[0]).item() == pytest.approx(ratio)
        assert weights_K[3] == weights_K[2], "a class that was not counted is as rare as the rarest"


def test_the_recipe_takes_words_and_lists(tiny_data) -> None:
    train_set = tiny_data["train_set"]
    assert make_class_weights(TrainConfig(), train_set) is None
    sqrt_K = make_class_weights(TrainConfig(class_weights="sqrt"), train_set)
    assert sqrt_K is not None
    assert len(sqrt_K) == len(train_set.classes)
    assert (sqrt_K > 0).all()
    given = ",".join(str(index) for index in range(len(train_set.classes)))
    config = parse_recipe({"train": {"class_weights": given}}).train
    assert make_class_weights(config, train_set).tolist() == list(range(len(train_set.classes)))
    with pytest.raises(ConfigError, match="lists 2 weights, the data set has"):
        make_class_weights(TrainConfig(class_weights=(1.0, 2.0)), train_set)


@pytest.mark.parametrize("wrong", ["sqr", "1,-1", "", "0,0", [True, 1], "1,nan", 3, {"a": 1}])
def test_other_class_weights_are_refused(wrong) -> None:
    with pytest.raises(ConfigError, match="write none, sqrt, inverse, or a number"):
        parse_recipe({"train": {"class_weights": wrong}})


def test_gsrl_and_class_weights_are_refused_together() -> None:
    with pytest.raises(ConfigError, match="gsrl has weights of its own"):
        parse_recipe({"train": {"class_weights": "sqrt", "loss": "gsrl"}})


def test_the_training_loss_adds_overlap_to_each_head() -> None:
    logits, labels = drawn(0)
    aux, _ = drawn(1)
    outputs = Outputs(logits, {"aux": aux}, None)
    config = TrainConfig(loss="focal", dice_weight=0.5, lovasz_weight=2.0, aux_weight=0.3)
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0])

    def head(values: torch.Tensor) -> torch.Tensor:
        by_pixel = focal_loss(values, labels, IGNORED, 2.0, weights)
        return by_pixel + 0.5 * dice_loss(values, labels, IGNORED) + 2 * lovasz_loss(values, labels, IGNORED)

    got = training_loss(outputs, labels, config, IGNORED, None, weights)
    torch.testing.assert_close(got, head(logits) + 0.3 * head(aux))
