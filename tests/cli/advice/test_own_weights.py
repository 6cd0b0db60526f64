"""The README's way from weights of one's own to a pruned network: three commands, and ten lines of Python."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from prunekit_cli.main import app

ROOT = Path(__file__).parents[3]
SECTION = (ROOT / "README.md").read_text().split("## Your own network and weights")[1].split("\n## ")[0]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/library.md").read_text(), re.DOTALL)
COMMANDS = [line.removeprefix("$ ") for line in SECTION.splitlines() if line.startswith("$ ")]
LINES = next(block for block in BLOCKS if "pspnet.pth" in block)


@pytest.fixture
def weights(enter_world, tmp_path):
    """Stand in a folder with CamVid's layout and a plain state dict of the README's network."""
    import segmentation_models_pytorch as smp

    with enter_world(tmp_path / "here"):
        shutil.rmtree("runs")
        theirs = smp.PSPNet("resnet18", encoder_weights=None, classes=11)
        torch.save(theirs.state_dict(), "pspnet.pth")
        yield theirs.state_dict()


def test_the_three_commands_run_as_they_are_printed(weights):
    from prunekit.modelfile import load_model
    from prunekit.run import RunDirectory

    assert len(COMMANDS) == 3
    for line in COMMANDS:
        result = CliRunner().invoke(app, shlex.split(line)[1:])
        assert result.exit_code == 0, (line, result.output, result.exception)
    assert "mIoU" in result.stdout
    imported = load_model(RunDirectory(Path("runs/0001-import"))).segmenter.network.state_dict()
    assert all(torch.equal(imported[name], value) for name, value in weights.items())


def test_the_ten_lines_do_what_the_commands_do(weights, capsys):
    lines = [line for line in LINES.splitlines() if line.strip()]
    assert len(lines) <= 10
    exec(compile(LINES, "library.md", "exec"), {})
    assert re.search(r"dense: [0-9.]+\s+pruned: [0-9.]+", capsys.readouterr().out)
    told = json.loads(Path("runs/0002-prune/prune.json").read_text())
    assert told["exactness"] < 1e-4
