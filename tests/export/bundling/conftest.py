"""A network that was trained for some seconds on drawn scenes of 80x112, at 64x96, and its bundles."""

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from PIL import Image
from typer.testing import CliRunner

from prunekit.data.shapes import ShapesDataset
from prunekit.run import RunDirectory, open_run
from prunekit_cli.main import app
from prunekit_export.bundling import BundleConfig, write_bundle
from prunekit_runtime.plainfile import sha256_of

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Train, and return the run."""
    root = tmp_path_factory.mktemp("street")
    for split, count in (("train", 24), ("val", 8)):
        scenes = ShapesDataset(split, count, height=80, width=112, seed=0)
        for place in range(count):
            for kind, array in (
                ("images", scenes[place].image_3HW.permute(1, 2, 0)),
                ("masks", scenes[place].labels_HW),
            ):
                (root / split / kind).mkdir(parents=True, exist_ok=True)
                Image.fromarray(array.numpy()).save(root / split / kind / f"{place}.png")
        (root / "classes.txt").write_text("\n".join(scenes.classes.names) + "\n")
    out = tmp_path_factory.mktemp("runs") / "0001-train"
    line = f"train --data folder --root {root} --size 64x96 --epochs 12 --batch-size 4 --lr 0.005 --out {out}"
    result = CliRunner().invoke(app, line.split())
    assert result.exit_code == 0, result.output
    return open_run(out)


@pytest.fixture(scope="session")
def bundles(trained: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a bundle for each graph."""
    folder = tmp_path_factory.mktemp("bundles")
    written: dict[str, Path] = {}
    for graph in ("labels", "logits"):
        written[graph] = folder / graph
        write_bundle(trained, written[graph], BundleConfig(graph=graph, precisions=("fp32",)))  # type: ignore[arg-type]
    return written


Edit = Callable[[onnx.ModelProto], object]


def plant(folder: Path, edit: Edit) -> None:
    """Change a bundle's model and write its new hash, as a wrong writer would have."""
    path = folder / "models/fp32.onnx"
    model = onnx.load_model(path)
    edit(model)
    onnx.save(model, path)
    reseal(folder, "models/fp32.onnx")


def reseal(folder: Path, file: str) -> None:
    """Write the hash of a file that was changed into the manifest."""
    manifest = json.loads((folder / "bundle.json").read_text())
    sha256, size_bytes = sha256_of(folder / file)
    manifest["files"][file] = {"bytes": size_bytes, "sha256": sha256}
    (folder / "bundle.json").write_text(json.dumps(manifest))


@pytest.fixture(name="plant")
def plant_fixture() -> Callable[[Path, Edit], None]:
    """Return `plant`."""
    return plant


@pytest.fixture(name="reseal")
def reseal_fixture() -> Callable[[Path, str], None]:
    """Return `reseal`."""
    return reseal
