"""What an export takes from its run besides the network."""

from pathlib import Path

import pytest

from prunekit.recipe import merge, parse_recipe
from prunekit.run import RunDirectory
from prunekit_export.samples import PARITY_PICTURES, samples_of_run
from prunekit_runtime.errors import PrunekitError


def run(folder: Path, settings: dict[str, object]) -> RunDirectory:
    source = RunDirectory(folder)
    source.write_recipe(parse_recipe(merge({}, settings)))
    return source


def test_validation_images_are_taken_where_they_are(tmp_path: Path) -> None:
    said: list[str] = []
    settings = {"data.name": "shapes", "data.height": 32, "data.width": 40, "data.val_images": 9}
    pictures = samples_of_run(run(tmp_path, settings), None, trust_code=False).pictures(said.append)
    assert [(picture.shape, str(picture.dtype)) for picture in pictures] == [((32, 40, 3), "uint8")] * PARITY_PICTURES
    assert not said


def test_run_whose_data_moved_exports_and_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    settings = {"data.name": "folder", "data.root": str(tmp_path / "moved")}
    assert samples_of_run(run(tmp_path, settings), None, trust_code=False).pictures(said.append) == []
    assert len(said) == 1
    assert "random images only" in said[0]


def test_validation_images_that_root_names_must_be_there(tmp_path: Path) -> None:
    settings = {"data.name": "folder", "data.root": str(tmp_path / "moved")}
    with pytest.raises(PrunekitError, match="elsewhere"):
        samples_of_run(run(tmp_path, settings), str(tmp_path / "elsewhere"), trust_code=False).pictures(print)


def test_a_data_set_that_is_somebody_s_code_is_not_read_and_that_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    code = run(tmp_path, {"data.name": "python:no_such_module:Street"})
    assert samples_of_run(code, None, trust_code=False).pictures(said.append) == []
    assert "'python:no_such_module:Street' runs code that prunekit does not bring" in said[0]
    assert "--trust-code" in said[0]
    assert samples_of_run(code, None, trust_code=True).pictures(said.append) == []
    assert "no_such_module cannot be imported" in said[1]
