"""The reader of docs/preprocessing.md, which knows nothing of prunekit, against `prunekit eval` of the same file."""

import ast
import dataclasses
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from prunekit.data.shapes import ShapesDataset
from prunekit.models.segmenter import Segmenter
from prunekit.recipe import parse_recipe
from prunekit_export.pipeline import export_into
from prunekit_export.request import ExportRequest
from prunekit_export.running import evaluate_model
from prunekit_export.staging import staged
from prunekit_runtime.preprocessing import Preprocessing
from prunekit_runtime.rules import RULES

pytest.importorskip("onnxruntime")
PAGE = (Path(__file__).parents[2] / "docs" / "preprocessing.md").read_text()
(READER,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SIZES = ((32, 48), (97, 131), (41, 57), (40, 56), (64, 33), (80, 112))  # smaller, larger, odd, as the network's
CLASSES = ShapesDataset("val", 1, height=32, width=48, seed=0).classes
CONTRACTS = {
    "stretched and padded": Preprocessing(40, 56, pad_multiple=16),
    "bgr, 0 to 255": Preprocessing(
        52, 75, pad_multiple=16, channel_order="bgr", scale=1.0, mean=(104.0, 117.0, 123.0), std=(58.0, 57.0, 56.0)
    ),
    "own size": Preprocessing(0, 0, pad_multiple=16),
}


@pytest.fixture(scope="module")
def street(tmp_path_factory) -> Path:
    """Generated scenes of several sizes as a folder of images and masks."""
    root = tmp_path_factory.mktemp("street")
    for split in ("train", "val"):
        for place, (height, width) in enumerate(SIZES):
            sample = ShapesDataset(split, 1, height=height, width=width, seed=place)[0]
            for kind, array in (("images", sample.image_3HW.permute(1, 2, 0)), ("masks", sample.labels_HW)):
                (root / split / kind).mkdir(parents=True, exist_ok=True)
                Image.fromarray(array.numpy()).save(root / split / kind / f"{place}.png")
    (root / "classes.txt").write_text("\n".join(CLASSES.names) + "\n")
    return root


class Nearest(nn.Module):
    """Gives each pixel the class whose mean colour is nearest to the colours around it."""

    def __init__(self, means_K3: Tensor) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, len(means_K3), 3, padding=1)
        with torch.no_grad():
            self.head.weight.copy_((2 * means_K3 / 9)[:, :, None, None].expand(-1, -1, 3, 3))
            self.head.bias.copy_(-means_K3.square().sum(1))

    def forward(self, images_B3HW: Tensor) -> Tensor:
        return self.head(images_B3HW)


def mean_colours(contract: Preprocessing) -> Tensor:
    """Return the mean of each class in the network's input, float32 [K, 3]."""
    sample = ShapesDataset("train", 1, height=96, width=128, seed=0)[0]
    image_HW3, labels_HW = sample.image_3HW.permute(1, 2, 0).numpy(), sample.labels_HW
    own = dataclasses.replace(contract, height=0, width=0, pad_multiple=1)
    pixels_3HW = torch.from_numpy(own.prepare(image_HW3)[0])
    classes = range(len(CLASSES))
    return torch.stack([pixels_3HW[:, labels_HW == label].mean(1) for label in classes]).nan_to_num(9.0)


@pytest.fixture(scope="module", params=CONTRACTS)
def exported(request, tmp_path_factory) -> Path:
    contract, folder = CONTRACTS[request.param], tmp_path_factory.mktemp("exported") / "export"
    segmenter = Segmenter(Nearest(mean_colours(contract)), len(CLASSES), 16).eval()
    height, width = contract.network_size(contract.height or 48, contract.width or 64)
    names, palette = CLASSES.names, CLASSES.palette
    request = ExportRequest(segmenter, height, width, contract, names, palette, dynamic=not contract.height)
    with staged(folder) as stage:
        export_into(stage, request)
    return folder


def read(source: str, export: Path, street: Path, monkeypatch, capsys) -> float:
    monkeypatch.setattr(sys, "argv", ["reader.py", str(export), str(street / "val/images"), str(street / "val/masks")])
    exec(compile(source, "preprocessing.md", "exec"), {})
    return float(capsys.readouterr().out.removeprefix("mIoU "))


def test_the_reader_of_the_page_scores_as_eval_does(exported, street, monkeypatch, capsys) -> None:
    data = parse_recipe({"data": {"name": "folder", "root": str(street), "allow_absent_classes": True}}).data
    expected = evaluate_model(exported / "model.onnx", data=data).metrics["miou"]
    assert expected > 0.07  # by colour alone; one class everywhere gets less than 0.04
    assert abs(read(READER, exported, street, monkeypatch, capsys) - expected) < 5e-5


CHANGES = {
    "edges of pixels": ("(np.arange(new) + 0.5) * old / new - 0.5", "np.arange(new) * old / new"),
    "nearest": ("(at % 1).astype(np.float32)", "np.float32(at % 1 > 0.5)"),
    "padding kept": ("[0, :, :rows, :columns]", "[0]"),
    "no scale": ('np.float32(how["scale"])', "np.float32(1 / 200)"),
    "channels turned": ("::-1]", "[2, 0, 1]]"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_steps_score_otherwise(change, exported, street, monkeypatch, capsys) -> None:
    how = json.loads((exported / "preprocessing.json").read_text())
    if change == "channels turned" and how["channel_order"] == "rgb":
        pytest.skip("this file does not ask for the step")
    if not how["height"] and change in ("edges of pixels", "nearest", "padding kept"):
        pytest.skip("this file does not ask for the step")
    right, wrong = CHANGES[change]
    assert READER.count(right) == 1
    expected = read(READER, exported, street, monkeypatch, capsys)
    assert abs(read(READER.replace(right, wrong), exported, street, monkeypatch, capsys) - expected) > 1e-4


class Recorder:
    """A session that keeps what it is given and answers with drawn logits."""

    def __init__(self, seed: int) -> None:
        self.random, self.given, self.logits = np.random.default_rng(seed), np.empty(0), np.empty(0)

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="images")]

    def run(self, _names: None, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.given = feed["images"]
        self.logits = self.random.integers(0, 4, (1, 5, *self.given.shape[2:])).astype(np.float32)  # ties are many
        return [self.logits]


@pytest.mark.drawn(40)
def test_the_reader_gives_the_network_the_same_numbers(seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    height, width, rows, columns, multiple = map(int, random.integers(1, 70, 5))
    how = Preprocessing(
        *((rows, columns) if seed % 4 else (0, 0)),
        pad_multiple=multiple,
        channel_order="bgr" if seed % 2 else "rgb",
        scale=float(random.uniform(0.001, 1)),
        mean=tuple(random.uniform(0, 1, 3).tolist()),
        std=tuple(random.uniform(0.1, 1, 3).tolist()),
    )
    picture_HW3 = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(picture_HW3).save(tmp_path / "picture.png")
    reader: dict[str, Any] = {}
    exec(READER.split("\n\n\nexport, images")[0], reader)
    session = Recorder(seed)
    labels_HW = reader["labels_of"](session, json.loads(json.dumps(how.to_json())), tmp_path / "picture.png")
    expected = how.prepare(picture_HW3)
    assert session.given.dtype == np.float32
    np.testing.assert_allclose(session.given, expected, rtol=0, atol=2e-5 * np.abs(expected).max())
    ours_HW = how.restore_labels(session.logits, height, width)
    logits_KHW = how.restore_logits(session.logits, height, width)
    chosen = (np.take_along_axis(logits_KHW, index[None].astype(int), 0) for index in (labels_HW, ours_HW))
    np.testing.assert_allclose(*chosen, atol=1e-3)  # where the two differ, rounding decides between equal logits
    if (height, width) == how.resized_size(height, width):
        assert np.array_equal(labels_HW, ours_HW)  # nothing is rounded: of equal logits both take the lowest class


def test_the_reader_is_short_and_needs_no_prunekit() -> None:
    assert len([line for line in READER.splitlines() if line.strip()]) <= 33
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(READER))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported - set(sys.stdlib_module_names) == {"numpy", "onnxruntime", "PIL"}


def test_every_field_is_explained_with_its_value() -> None:
    rows = dict(re.findall(r"^\| (`[^|]*`) \| (`[^|]*`) \|", PAGE, re.MULTILINE))
    explained = {name: shown for names, shown in rows.items() for name in re.findall(r"`(\w+)`", names)}
    assert explained.keys() == Preprocessing(1, 1).to_json().keys()
    for name, value in RULES.items():
        assert json.loads(explained[name].strip("`")) == value


@pytest.mark.parametrize("size", [(20, 30), (97, 131), (41, 7)])
def test_opencv_resizes_as_the_page_says(size) -> None:
    cv2 = pytest.importorskip("cv2")
    namespace: dict[str, object] = {}
    exec(READER.split("\n\n\n")[1], {"np": np}, namespace)
    image_HW3 = np.random.default_rng(0).uniform(0, 255, (41, 57, 3)).astype(np.float32)
    ours_3hw = namespace["resized"](image_HW3.transpose(2, 0, 1), *size)
    theirs_hw3 = cv2.resize(image_HW3, size[::-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(ours_3hw.transpose(1, 2, 0), theirs_hw3, atol=0.02)  # 1e-4 of 0..255: its fixed point
