"""`prunekit.evaluate`: the same scores for a module, a run and its ONNX file, and those that `prunekit eval` counts."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import prunekit
from prunekit.data.dataset import ClassMap
from prunekit.data.loading import eval_batches
from prunekit.data.registry import open_dataset
from prunekit.data.shapes import ShapesDataset
from prunekit.errors import DataError, ModelError
from prunekit.modelfile import new_card, rebuild, save_model
from prunekit.recipe import parse_recipe
from prunekit.run import RunDirectory
from prunekit_export.running import evaluate_model
from prunekit_export.workflow import ExportConfig, export_model
from prunekit_runtime.errors import PrunekitError

DATA = {"height": 33, "width": 47, "val_images": 5, "train_images": 2}
MODEL = {"name": "python:prunekit.models.street:street_net?width=8"}


class Table(nn.Module):
    """Logits that are the first K channels of the images, at half the size, in a dict; noisy in training."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.classes = classes
        self.drop = nn.Dropout(0.5)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"out": self.drop(images[:, : self.classes])}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    source = RunDirectory(tmp_path_factory.mktemp("scoring") / "run")
    source.path.mkdir()
    recipe = parse_recipe({"data": DATA, "model": MODEL})
    source.write_recipe(recipe)
    how = prunekit.Preprocessing(40, 56, pad_multiple=16)  # pictures grow, and are padded
    card = new_card(recipe.model, open_dataset(recipe.data, "val").classes, how)
    torch.manual_seed(1)
    save_model(source, rebuild(card), card)
    return source


def drawn(seed: int, classes: int = 3) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    sizes = [(2, 6, 8), (3, 5, 7)]
    labels = [torch.randint(0, classes, size, generator=generator) for size in sizes]
    for part in labels:
        part[torch.rand(part.shape, generator=generator) < 0.1] = 255
    return [(torch.randn(b, 3, h, w, generator=generator), part) for (b, h, w), part in zip(sizes, labels, strict=True)]


@pytest.mark.drawn(20)
def test_scores_are_those_of_plain_counting(seed: int) -> None:
    batches = drawn(seed)
    scores = prunekit.evaluate(Table(), batches)
    true = np.concatenate([labels.numpy().ravel() for _, labels in batches])
    found = np.concatenate([images.argmax(1).numpy().ravel() for images, _ in batches])[true < 255]
    true = true[true < 255]
    ious = [((true == k) & (found == k)).sum() / ((true == k) | (found == k)).sum() for k in range(3)]
    assert list(scores.iou.values()) == pytest.approx(ious)
    assert scores.miou == pytest.approx(np.mean(ious))
    assert scores.pixel_accuracy == pytest.approx((true == found).mean())
    assert int(scores.confusion_KK[0, 1]) == ((true == 0) & (found == 1)).sum()
    assert scores.images == 5


@pytest.mark.parametrize("training", [False, True])
def test_the_network_stays_as_it_is_and_is_judged_without_dropout(training: bool) -> None:
    network = Table().train(training)
    before = torch.get_rng_state()
    first, second = (prunekit.evaluate(network, drawn(0)) for _ in range(2))
    assert torch.equal(first.confusion_KK, second.confusion_KK)
    assert network.training == network.drop.training == training
    assert torch.equal(torch.get_rng_state(), before)


def test_a_run_and_its_file_score_as_the_command_does(run: RunDirectory) -> None:
    pytest.importorskip("onnxruntime")
    recipe = run.recipe()
    export_model(run, ExportConfig(dynamic=False), run.path / "export")
    file, loaded = run.path / "export/model.onnx", prunekit.load(run.path)
    parts = eval_batches(open_dataset(recipe.data, "val"), loaded.contract, batch_size=2)
    batches = [(part.images_B3HW, torch.stack(part.labels)) for part in parts]
    expected = evaluate_model(run.path, data=recipe.data).metrics
    for model in (loaded, run.path, str(file)):
        scores = prunekit.evaluate(model, batches)
        assert scores.miou == pytest.approx(expected["miou"], abs=1e-4)
        assert tuple(scores.iou) == loaded.classes.names
        assert scores.images == 5  # the file takes one image at once


def test_files_of_several_images_take_any_number(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    network, how = nn.Conv2d(3, 4, 3, padding=1), prunekit.Preprocessing(8, 12)
    written = prunekit.export(network, tmp_path / "out", preprocessing=how, batch=3, class_names=["a", "b", "c", "d"])
    batches = [(torch.randn(count, 3, 8, 12), torch.randint(0, 4, (count, 8, 12))) for count in (2, 3, 4)]
    theirs, ours = (prunekit.evaluate(model, iter(batches)) for model in (written.onnx_path, network))
    assert theirs.miou == pytest.approx(ours.miou, abs=1e-4)
    assert theirs.images == ours.images == 9
    assert list(theirs.iou) == ["a", "b", "c", "d"]
    assert list(ours.iou) == ["class 0", "class 1", "class 2", "class 3"]


def test_classes_are_named_by_the_caller() -> None:
    classes = ShapesDataset("val", 1, height=32, width=48, seed=0).classes
    three = ClassMap(classes.names[:3], classes.palette[:3])
    for given, names in (
        ((n := ["a", "b", "c"]), n),
        (three, list(three.names)),
        (3, [f"class {k}" for k in range(3)]),
    ):
        scores = prunekit.evaluate(Table(), drawn(0), classes=given)
        assert list(scores.iou) == names
    assert str(scores).startswith(f"mIoU {scores.miou:.4f}")
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    absent = prunekit.evaluate(Table(), [(torch.eye(3)[:, 0].view(1, 3, 1, 1).expand(1, 3, 4, 4), labels)])
    assert absent.iou == {"class 0": 1.0, "class 1": None, "class 2": None}
    assert absent.miou == 1


def test_progress_is_told_by_batches() -> None:
    told: list[tuple[str, int, int]] = []
    prunekit.evaluate(Table(), drawn(0), progress=lambda *step: told.append(step))
    assert told == [("Evaluating", done, 2) for done in range(3)]
    told.clear()
    prunekit.evaluate(Table(), iter(drawn(0)), progress=lambda *step: told.append(step))
    assert told == [("Evaluating", 0, 0)]


IMAGES, LABELS = torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long)


@pytest.mark.parametrize(
    ("batches", "given", "words"),
    [
        ([], {}, "no batches"),
        ([IMAGES], {}, "expected images"),
        ([{"image": IMAGES}], {}, "loader of dicts"),
        ([(IMAGES, LABELS[:0])], {}, "expected images"),
        ([(IMAGES, LABELS.float())], {}, "labels integers"),
        ([(IMAGES, LABELS + 7)], {}, "label is 7"),
        ([(IMAGES, LABELS + 255)], {}, "Every pixel has the label 255"),
        ([(IMAGES, LABELS)], {"ignore_index": 0}, "Every pixel has the label 0"),
        ([(IMAGES * float("nan"), LABELS)], {}, "not finite"),
        ([(IMAGES, LABELS)], {"classes": 5}, r"classes="),
        ([(IMAGES, LABELS)], {"classes": 1}, r"classes="),
        ([(IMAGES, LABELS)], {"classes": "ab"}, r"classes="),
        ([(IMAGES, LABELS)], {"classes": ["a", "a", "b"]}, r"classes="),
    ],
)
def test_what_cannot_be_scored_is_said(batches, given, words) -> None:
    with pytest.raises((DataError, ModelError), match=words):
        prunekit.evaluate(Table(), batches, **given)


def test_networks_without_logits_of_classes_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="one channel"):
        prunekit.evaluate(Table(1), drawn(0))
    with pytest.raises(ModelError, match="no logits"):
        prunekit.evaluate(nn.Flatten(), drawn(0))
    with pytest.raises(PrunekitError, match=r"absent\.onnx"):
        prunekit.evaluate(tmp_path / "absent.onnx", drawn(0))
