"""The page on data: its class lists mean what it says, its folders are found, its class is a data set.

A comment before a block says what is expected of it. "reads:" is the label of each number of a class list; "finds:" the
names in each split, once the files that the block lists are made, by the options of the command that follows.
"""

import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from prunekit.data.dataset import IGNORE_INDEX
from prunekit.data.labels.class_list import read_class_list
from prunekit.data.registry import open_dataset
from prunekit.recipe import DataConfig, merge, parse_recipe
from prunekit_cli.main import app
from prunekit_cli.options.common import given, parse_settings
from prunekit_cli.options.data import mask_settings, size_settings

PAGE = (Path(__file__).parents[1] / "docs" / "data.md").read_text()


@dataclass(frozen=True)
class Block:
    kind: str
    expected: str
    language: str
    text: str
    command: str


BLOCKS = [
    Block(kind or "", expected or "", language, text, command)
    for kind, expected, language, text, command in re.findall(
        r"(?:<!-- (\w+): (.*?) -->\n)?```(\w+)\n(.*?)```(?:\n\n```console\n\$ (.*?)\n```)?", PAGE, re.DOTALL
    )
]
READ = [block for block in BLOCKS if block.kind == "reads"]
FOUND = [block for block in BLOCKS if block.kind == "finds"]


def config_of(command: str) -> DataConfig:
    """Return the data set that a command names, as the command itself would."""
    words = shlex.split(command.partition("prunekit train ")[2])
    options = dict(zip(words[::2], words[1::2], strict=True))
    text = CliRunner().invoke(app, ["train", "--help"], env={"COLUMNS": "250", "TERM": "dumb"}).stdout
    assert all(option in text for option in options), options
    masks = mask_settings(*(options.get(f"--{key}") for key in ("classes", "ignore-index", "images", "masks")))
    named = {
        "data.name": options["--data"],
        "data.root": options["--root"],
        **size_settings(options.get("--size")),
        **masks,
    }
    settings = [options["--set"]] if "--set" in options else []
    return parse_recipe(merge({}, parse_settings(settings) | given(named))).data


def test_every_example_of_the_page_is_looked_at() -> None:
    assert len(READ) >= 8
    assert len(FOUND) >= 5
    assert {block.language for block in READ} == {"toml", "text", "csv"}
    assert [block.language for block in BLOCKS if not block.kind] == ["python"]
    assert (
        len(re.findall("```console", PAGE)) == len(FOUND) + 1
    )  # each after the files that it is about, and the class's


@pytest.mark.parametrize("block", READ, ids=lambda block: block.expected[:40])
def test_a_class_list_of_the_page_says_what_the_page_says(block: Block, tmp_path: Path) -> None:
    path = tmp_path / f"classes.{ {'text': 'txt'}.get(block.language, block.language) }"
    path.write_text(block.text)
    found = read_class_list(path)
    numbers, _, colours = block.expected.partition(";")
    said = dict(part.split("=") for part in re.split(r" (?=\d+=)", numbers))
    names = {**dict(enumerate(found.classes.names)), IGNORE_INDEX: "ignored"}
    read = {str(number): names[label] for number, label in found.label_of.items()}
    assert said.items() <= read.items()
    assert {name for name in read.values() if name != "ignored"} == {
        name for name in said.values() if name != "ignored"
    }
    assert found.coloured == bool(colours)


def write(path: Path, numbers: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".toml", ".txt", ".csv"):
        path.write_text({".toml": 'classes = [{name="road"}, {name="sky"}]'}.get(path.suffix, "road\nsky\n"))
        return
    is_mask = {"masks", "annotations", "labels"} & set(path.parts)
    pixels = np.resize(numbers, (8, 8)) if is_mask else np.zeros((8, 8, 3))
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.mark.parametrize("block", FOUND, ids=lambda block: block.expected)
def test_a_folder_of_the_page_is_found_by_its_command(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names, _, masks = block.expected.partition("; masks=")
    for line in block.text.split():
        write(Path(line), list(map(int, (masks or "0,1").split(","))))
    config = config_of(block.command)
    for split, said in (part.split("=") for part in names.split()):
        dataset = open_dataset(config, "train" if split == "train" else "val")
        assert {int(label) for label in dataset[0].labels_HW.unique()} == ({0, 1, IGNORE_INDEX} if masks else {0, 1})
        assert [sample.name for sample in dataset] == said.split(",")


def test_the_class_of_the_page_is_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = next(block for block in BLOCKS if block.language == "python")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    Path("mine.py").write_text(block.text)
    for split in ("train", "val"):
        Path("scans", split).mkdir(parents=True)
        labels_HW = np.random.default_rng(0).integers(0, 3, (6, 7))
        np.savez(f"scans/{split}/a.npz", image=np.zeros((6, 7, 3), np.uint8), labels=labels_HW)
    config = config_of(block.command)
    assert (config.name, config.height) == ("python:mine:Scans", 360)
    dataset = open_dataset(config, "val", trust_code=True)
    assert dataset.classes.names == ("ground", "road", "sky")
    assert all(set(sample.labels_HW.unique().tolist()) <= {0, 1, 2} for sample in dataset)
    del sys.modules["mine"]
