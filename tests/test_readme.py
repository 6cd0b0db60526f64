"""The README is executed: its commands exist, its chain runs, its file tree is the repository's."""

import re
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from prunekit_cli.main import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def console_lines() -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    return [line.removeprefix("$ ").strip() for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def test_the_two_commands_are_there() -> None:
    lines = console_lines()
    assert 'pip install -e ".[ort,rtx]" && prunekit demo' in lines
    assert 'pip install -e ".[dev]" && pytest -n auto --dist loadfile' in lines


def test_the_test_command_is_the_one_that_ci_runs() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert 'pip install --quiet -e ".[dev]"' in script
    assert script.rstrip().endswith("\npytest -n auto --dist loadfile")


def test_every_command_and_option_in_the_readme_exists() -> None:
    runner = CliRunner()
    for line in [line.split("&&")[-1].strip() for line in console_lines()]:
        if line.startswith("prunekit "):
            words = line.removeprefix("prunekit ").split()
            command = words[: 2 if words[0] == "data" else 1]  # data is a group of commands
            text = runner.invoke(app, [*command, "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).stdout
            for option in (word.split("=")[0] for word in words if word.startswith("--")):
                assert option in text, f"{option} of `{line}`"


def test_the_file_tree_is_the_repository_s() -> None:
    tree = re.search(r"```text\n(.*?)```", README, re.DOTALL)
    assert tree is not None
    room = ""
    named: list[str] = []
    for line in tree.group(1).splitlines():
        name = line.split()[0]
        named.append(room + name if line.startswith(" ") else name)
        room = room if line.startswith(" ") else name
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    rooms = {parent.as_posix() + "/" for path in tracked for parent in Path(path).parents if parent != Path()}
    for name in named:
        assert name in rooms or name in tracked, f"{name} is in the README's tree but not in the repository"


@pytest.mark.slow
def test_the_owner_s_three_commands_run_bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The chain of the README, one command after the other in an empty folder, on settings that take seconds."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("tensorrt_rtx")
    monkeypatch.chdir(tmp_path)
    tiny = ["data.height=64", "data.width=96", "data.train_images=8", "data.val_images=4", "train.batch_size=4"]
    settings = [word for setting in tiny for word in ("--set", setting)]
    for line in (
        ["train", "--epochs", "1", *settings],
        ["prune", "--ratio", "0.5", "--epochs", "1"],
        ["export", "--trt"],
    ):
        result = CliRunner().invoke(app, line)
        assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["0001-train", "0002-prune"]
    assert list((tmp_path / "runs" / "0002-prune").rglob("*.plan"))
