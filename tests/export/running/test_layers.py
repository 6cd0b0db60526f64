"""Times by layer: every kernel is there, joined to the node and the module it comes from."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import prunekit
from prunekit_cli.main import app
from prunekit_export.running import ProfileConfig, profile_layers, profile_models
from prunekit_runtime.errors import PrunekitError

CLI = CliRunner()


class Net(nn.Module):
    """A heavy layer between light ones."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.heavy = nn.Sequential(nn.Conv2d(16, 64, 7, 1, 3), nn.ReLU(), nn.Conv2d(64, 16, 1))
        self.head = nn.Conv2d(16, 4, 1)

    def forward(self, images_B3HW: torch.Tensor) -> torch.Tensor:
        return self.head(self.heavy(self.stem(images_B3HW)).sigmoid())


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    images = [torch.randn(1, 3, 64, 64) for _ in range(2)]
    folder = tmp_path_factory.mktemp("layers") / "out"
    options = {"precision": "fp16", "images": images, "preprocessing": prunekit.Preprocessing(64, 64)}
    return prunekit.export(Net().eval(), folder, **options).out_dir


@pytest.mark.parametrize("name", ["model.onnx", "model.fp16.onnx"])
def test_the_heavy_layer_is_the_slowest_and_named_as_in_the_network(exported: Path, name: str) -> None:
    images = np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32)
    layers = profile_layers(exported / name, images, threads=1, runs=5, warmup=1)
    assert layers[0].module == "heavy.0"
    assert layers[0].share > 0.3
    assert sum(layer.share for layer in layers) == pytest.approx(1)
    assert [layer.ms for layer in layers] == sorted((layer.ms for layer in layers), reverse=True)
    nodes = {node.name: node.op_type for node in onnx.load_model(exported / name).graph.node}
    assert nodes[layers[0].node] == "Conv"
    assert {"stem.0", "heavy.2", "head"} <= {layer.module for layer in layers}


def test_the_command_lists_them(exported: Path) -> None:
    asked = ["profile", str(exported / "model.onnx"), "--runs", "3", "--warmup", "1", "--layers"]
    told = json.loads(CLI.invoke(app, [*asked, "--json"]).stdout)
    assert told["report"]["models"][0]["layers"][0]["module"] == "heavy.0"
    shown = CLI.invoke(app, asked)
    assert shown.exit_code == 0
    assert "heavy.0" in shown.output
    assert "ms in all" in shown.output


def test_layers_are_of_onnx_files_on_the_cpu(exported: Path, tmp_path: Path) -> None:
    plan = tmp_path / "model.plan"
    plan.write_bytes(b"ftrt")
    for path, config in ((plan, ProfileConfig(layers=True)), (exported, ProfileConfig(layers=True))):
        with pytest.raises(PrunekitError, match=r"is none.*leave out"):
            profile_models([path], config)
    with pytest.raises(PrunekitError, match="provider cuda"):
        profile_models([exported / "model.onnx"], ProfileConfig(layers=True, provider="cuda"))
