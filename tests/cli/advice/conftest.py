"""A tiny copy of the world that examples and advice speak of: data, weights, pictures and finished runs."""

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from prunekit_cli.main import app

# What every recipe and pruning is held to in the tiny world, whatever a command asks for.
DATA = {"height": 64, "width": 96, "train_images": 4, "val_images": 2}
TRAIN = {"epochs": 1, "batch_size": 4, "threads": 1, "device": "cpu", "checkpoint_every": 1}
TARGETS = ("target_macs", "target_params", "target_latency_ms")  # which a tiny network could not reach
PRUNE = {"epochs": 1, "stage_epochs": 1, "sparsity_epochs": 1, "batches": 1, "bn_batches": 1, "align": 1}

NETWORK = "python:tinynets:small"  # as good as one of prunekit's own there
CAMVID_CLASSES = 11
CLASS_NAMES = ("road", "sky", "car")
SOURCE = """
from torch import nn


def build(num_classes):
    blocks = [[nn.Conv2d(c, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()] for c in (3, 32)]
    return nn.Sequential(*blocks[0], *blocks[1], nn.Conv2d(32, num_classes, 1))


small = build
"""


def _stand_in(world: Path, patch: pytest.MonkeyPatch) -> None:
    """Stand in the folder, whose modules can be imported and whose network needs no --trust-code."""
    from prunekit.models import trust

    patch.chdir(world)
    patch.syspath_prepend(world)
    patch.setattr(trust, "FACTORIES", {**trust.FACTORIES, NETWORK.removeprefix("python:"): frozenset()})


def _shrink(patch: pytest.MonkeyPatch) -> None:
    """Hold whatever is trained, pruned or measured to a size that takes a second."""
    from prunekit.recipe import Recipe
    from prunekit.workflows.pruning.config import PruneConfig
    from prunekit_export.demo import chain as demo

    real_recipe, real_prune = Recipe.model_validate, PruneConfig.model_validate

    def recipe(values: dict, **given: object) -> Recipe:
        data = values.get("data", {}) | DATA
        made = real_recipe(values | {"data": data, "train": values.get("train", {}) | TRAIN}, **given)
        if "name" in made.model.model_fields_set:
            return made
        return made.model_copy(update={"model": made.model.model_copy(update={"name": NETWORK})})

    def pruning(values: dict, **given: object) -> PruneConfig:
        asked = real_prune(values, **given)  # refused as everywhere
        reachable = {"ratio": asked.ratio or 0.5, "min_miou": None} | dict.fromkeys(TARGETS)
        if asked.steps is not None:
            reachable["steps"] = min(asked.steps, 2)
        return real_prune(values | PRUNE | reachable, **given)

    patch.setattr(Recipe, "model_validate", recipe)
    patch.setattr(PruneConfig, "model_validate", pruning)
    patch.setattr(demo, "run_demo", _pretended_demo)


def _pretended_demo(out: Path, *_: object, **__: object) -> object:
    """Return what the demo would; tests/cli/commands/test_demo.py runs it."""
    from prunekit_export.demo import DemoReport, DemoRow

    (out / "train").mkdir()
    row = DemoRow("dense", 0.5, 1, 1, 1.0, 1.0, 1.0, 0.0, 1, None)
    return DemoReport(out, (row,), "nothing", "none", out / "predictions.png", "fp32", "cpu", 1, 1.0)


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data, weights, pictures and finished runs that the help's examples name, made once."""
    world = tmp_path_factory.mktemp("world")
    torch.manual_seed(0)
    _write_data(world)
    _write_weights(world)
    with pytest.MonkeyPatch.context() as patch:
        _stand_in(world, patch)
        _shrink(patch)
        for line in (
            ("train", "--recipe", "mine.toml"),
            ("prune", "--ratio", "0.5"),
            ("export", "runs/0001-train"),
            ("export", "runs/0002-prune"),
            (
                "import",
                "--model",
                NETWORK,
                "--weights",
                "small.pth",
                "--size",
                "64x96",
                "--data",
                "folder",
                "--root",
                "street",
            ),
            ("export", "runs/0003-import", "--out", "of_street"),
        ):
            result = CliRunner().invoke(app, line)
            assert result.exit_code == 0, (line, result.output, result.exception)
    shutil.copy(world / "runs/0001-train/export/model.onnx", world)
    shutil.copy(world / "runs/0001-train/export/preprocessing.json", world)
    (world / "of_street/model.onnx").rename(world / "street.onnx")
    shutil.copy(world / "street.onnx", world / "network.onnx")
    return world


def _write_data(world: Path) -> None:
    """Write CamVid's layout, a folder data set, pictures, and a recipe."""
    for split in ("train", "val", "test"):
        for number in range(4):
            _write_pair(world / "camvid" / split, world / "camvid" / f"{split}annot", f"{number}.png", CAMVID_CLASSES)
    for split, number in product(("train", "val"), range(4)):
        _write_pair(world / "street" / split / "images", world / "street" / split / "masks", f"{number}.png", 3)
    for number in range(4):
        _write_pair(world / "town/images", world / "town/masks", f"{number}.png", 3)
        _write_pair(world / "painted/images", world / "painted/masks", f"{number}.png", 3)
        _paint(world / "painted/masks" / f"{number}.png")
    (world / "experiments").mkdir()
    classes = "\n".join(CLASS_NAMES) + "\n"
    (world / "street/classes.txt").write_text(classes)
    (world / "voc.txt").write_text(classes)
    (world / "street.toml").write_text("".join(f'[[classes]]\nname = "{name}"\n' for name in CLASS_NAMES))
    _write_pair(world / "photos/monday", world / "unused", "a.png", 3)
    shutil.copy(world / "photos/monday/a.png", world / "photos/b.png")
    Image.open(world / "photos/b.png").save(world / "street.jpg")
    (world / "mine.toml").write_text("[data]\nname = 'camvid'\nroot = 'camvid'\n")
    (world / "mynets").mkdir()
    (world / "mynets/__init__.py").write_text("")
    for module in ("mynets/tiny.py", "tinynets.py"):
        (world / module).write_text(SOURCE)


def _write_pair(images: Path, masks: Path, name: str, count: int) -> None:
    """Write a picture whose columns are its classes, in colours that follow them."""
    images.mkdir(parents=True, exist_ok=True)
    masks.mkdir(parents=True, exist_ok=True)
    labels_HW = np.tile((np.arange(96) * count // 96).astype(np.uint8), (64, 1))
    noise_HW3 = np.random.default_rng(list(str(images / name).encode())).integers(0, 20, (64, 96, 3))
    Image.fromarray(labels_HW).save(masks / name)
    Image.fromarray((labels_HW[..., None] * (200 // count) + noise_HW3).astype(np.uint8)).save(images / name)


def _paint(mask: Path) -> None:
    """Write a mask anew, in a colour for each number; the last of them is white."""
    labels_HW = np.asarray(Image.open(mask))
    Image.fromarray(np.array([(128, 64, 128), (70, 130, 180), (255, 255, 255)], np.uint8)[labels_HW]).save(mask)


def _write_weights(world: Path) -> None:
    """Write what the examples of `import` and `train --weights` start from."""
    import segmentation_models_pytorch as smp
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    unet = smp.Unet("resnet18", encoder_weights=None, classes=CAMVID_CLASSES)
    torch.save(unet.state_dict(), world / "best.pth")
    fpn = smp.FPN(encoder_weights=None, classes=len(CLASS_NAMES))
    torch.save({"state_dict": fpn.state_dict()}, world / "last.ckpt")
    lraspp = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=len(CLASS_NAMES))
    torch.save(lraspp.state_dict(), world / "net.pt")
    names: dict = {}
    exec(SOURCE, names)
    torch.save(names["small"](len(CLASS_NAMES)).state_dict(), world / "small.pth")


@pytest.fixture(scope="session")
def enter_world(tiny_world: Path) -> Callable[[Path], contextlib.AbstractContextManager[None]]:
    """Return what stands in a new copy of that folder for a block; files are shared, since each is replaced whole."""

    @contextlib.contextmanager
    def enter(here: Path, *, shrunk: bool = True) -> Iterator[None]:
        if not here.exists():
            shutil.copytree(tiny_world, here, copy_function=os.link)
        with pytest.MonkeyPatch.context() as patch:
            _stand_in(here, patch)
            if shrunk:
                _shrink(patch)
            yield
        for name in [name for name in sys.modules if name.split(".")[0] in ("mynets", "tinynets")]:
            del sys.modules[name]

    return enter
