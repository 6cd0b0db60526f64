"""The Python of docs/library.md runs from top to bottom, in a folder with the runs and weights it speaks of."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from prunekit.recipe import parse_recipe
from prunekit.run import RunDirectory
from prunekit.workflows.prune import PruneConfig, prune_run
from prunekit.workflows.train import train

PAGE = (Path(__file__).parents[1] / "docs" / "library.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
DATA = {"height": 32, "width": 48, "train_images": 4, "val_images": 2}
MODEL = {"name": "python:prunekit.models.street:street_net?width=8"}
TRAIN = {"epochs": 1, "batch_size": 4, "threads": 1, "device": "cpu"}


ITS_OWN = next(block for block in BLOCKS if "unet.pth" in block)
COMMANDS = next(block for block in BLOCKS if "pspnet.pth" in block)  # tests/cli/advice/test_own_weights.py runs it


@pytest.fixture
def loader() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(2, 3, 64, 96, generator=generator) for _ in range(2)]
    return [(image, torch.randint(0, 19, (2, 64, 96), generator=generator)) for image in images]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    return tmp_path


def small_network() -> nn.Module:
    """Logits at the images' size, and three layers that can be cut to any ratio."""
    widths = (3, 96, 96, 96)
    layers = [
        nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU())
        for before, after in pairwise(widths)
    ]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], 19, 1))


def make_runs() -> None:
    source, target = RunDirectory(Path("runs/0001-train")), RunDirectory(Path("runs/0002-prune"))
    for run in (source, target):
        run.path.mkdir(parents=True)
    train(parse_recipe({"data": DATA, "model": MODEL, "train": TRAIN}), source)
    prune_run(source, PruneConfig(criterion="l2", epochs=0, align=2, batches=1, bn_batches=1), target)


@pytest.mark.slow
def test_the_page_runs_from_top_to_bottom(folder: Path, loader, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    make_runs()
    model = small_network()
    before = sum(value.numel() for value in model.parameters())
    names = {"model": model, "train_loader": loader, "torch": torch}
    for number, block in enumerate(block for block in BLOCKS if block not in (ITS_OWN, COMMANDS)):
        names.pop("small", None)
        exec(compile(block, f"library.md, block {number}", "exec"), names)
        if "small" in names:
            assert sum(value.numel() for value in names["small"].parameters()) < before, block
    assert sum(value.numel() for value in model.parameters()) == before
    assert sum(value.numel() for value in names["again"].parameters()) < before
    assert names["labels"].shape == (480, 640)
    written = capsys.readouterr()
    assert written.err == ""
    assert "% removed" in written.out
    assert (folder / "runs" / "0002-prune" / "export" / "preprocessing.json").exists()


@pytest.mark.slow
def test_weights_of_one_s_own_become_a_pruned_file_in_ten_lines(folder: Path, loader) -> None:
    pytest.importorskip("onnxruntime")
    assert len([line for line in ITS_OWN.splitlines() if line.strip()]) <= 10
    torch.save(smp.Unet("resnet18", encoder_weights=None, classes=19).state_dict(), "unet.pth")
    names = {"train_loader": loader}
    exec(compile(ITS_OWN, "library.md, weights", "exec"), names)
    counts = [sum(value.numel() for value in names[name].parameters()) for name in ("small", "unet")]
    assert counts[0] < counts[1]
    assert (folder / "exported" / "model.onnx").stat().st_size > 4 * counts[0]
