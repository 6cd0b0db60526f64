"""Options that say which data and at which size."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunekit.run import RunDirectory
from prunekit_cli.options.common import OptionError
from prunekit_cli.options.data import size_settings


@given(st.integers(32, 1 << 14), st.integers(32, 1 << 14), st.sampled_from(["x", "X", "\u00d7", " x "]))
def test_a_size_is_height_first(height, width, between):
    assert size_settings(f"{height}{between}{width}") == {"data.height": height, "data.width": width}


@pytest.mark.parametrize(
    ("text", "said"),
    [("512", "'512'"), ("512,1024", "'512,1024'"), ("x", "'x'"), ("360x480x3", "x3'"), ("", "''"), ("0.5x9", "0.5x9")],
)
def test_another_form_of_size_is_refused_with_an_example(text, said):
    with pytest.raises(OptionError, match="--size 360x480") as caught:
        size_settings(text)
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["31x480", "480x31", "99999x480", "0x0"])
def test_a_size_out_of_range_is_refused(text):
    with pytest.raises(OptionError, match=f"32 to 16384 pixels, got {text}"):
        size_settings(text)


MODEL = "python:prunekit.models.street:street_net?width=8"
TRAINING = ("--model", MODEL, "--epochs=1", "--batch-size=2", "--device=cpu", "--threads=1")


def listed(folder, text):
    folder.joinpath("mine.toml").write_text(text)
    return folder


@pytest.fixture
def street(tmp_path, write_folder):
    """Masks whose numbers are 0 (void), 7 and 8."""
    return write_folder(tmp_path / "street", (0, 7, 8))


LIST = '[[classes]]\nname = "road"\nid = 7\n[[classes]]\nname = "sky"\nid = 8\n'


def test_train_and_eval_take_the_list_the_size_and_what_to_ignore(invoke, tmp_path, street):
    listed(tmp_path, LIST)
    data = ("--data=folder", "--root=street", "--classes=mine.toml", "--ignore-index=0,255")
    result = invoke("train", *data, "--size=32x48", *TRAINING, "--out=run")
    assert result.exit_code == 0, result.stderr
    kept = RunDirectory(tmp_path / "run").recipe().data
    assert (kept.height, kept.width, kept.ignore_index) == (32, 48, (0, 255))
    assert kept.classes == str(tmp_path / "mine.toml")
    assert invoke("eval", "run").exit_code == 0
    # The list may be said anew, and is then the one that counts.
    result = invoke("eval", "run", "--ignore-index=255")
    assert result.exit_code == 1
    assert "holds 0 at" in result.stderr
    listed(tmp_path, LIST.replace("sky", "air"))
    result = invoke("eval", "run", "--classes=mine.toml")
    assert result.exit_code == 2
    assert "Class 1 is 'sky' in the model and 'air' in the data set" in result.stderr


def test_a_wrong_number_to_ignore_is_one_sentence(invoke, tmp_path, street):
    listed(tmp_path, LIST)
    result = invoke("train", "--data=folder", "--root=street", "--classes=mine.toml", "--ignore-index=void", *TRAINING)
    assert result.exit_code == 2
    assert "--ignore-index" in result.stderr
    assert "such as 0,255" in result.stderr
    assert not list(tmp_path.glob("runs/*"))


def test_a_class_list_that_is_not_there_is_named_with_its_option(invoke, street):
    result = invoke("train", "--data=folder", "--root=street", "--classes=nowhere.toml", *TRAINING)
    assert result.exit_code == 2
    assert "nowhere.toml does not exist" in result.stderr
    assert "--classes FILE" in result.stderr


def test_patterns_are_advised_taken_and_kept(invoke, tmp_path, write_folder):
    listed(tmp_path, "[[classes]]\nname = 'road'\n[[classes]]\nname = 'sky'\n")
    write_folder(tmp_path / "street", (0, 1), masks="{split}/masks/{name}_mask.png")
    data = ("--data=folder", "--root=street", "--classes=mine.toml", "--size=32x32")
    result = invoke("train", *data, *TRAINING)
    assert result.exit_code == 1
    advised = shlex.split(result.stderr.partition("by that alone: ")[2].strip().removesuffix("."))
    result = invoke("train", *data, *advised, *TRAINING, "--out=run")
    assert result.exit_code == 0, result.stderr
    assert RunDirectory(tmp_path / "run").recipe().data.masks == "{split}/masks/{name}_mask.*"
    assert invoke("eval", "run").exit_code == 0
    (tmp_path / "street/val/masks").rename(tmp_path / "street/val/annotations")
    (tmp_path / "street/val/images").rename(tmp_path / "street/val/pictures")
    moved = ("--images={split}/pictures/{name}", "--masks={split}/annotations/{name}_mask")
    assert invoke("eval", "run", *moved).exit_code == 0
    result = invoke("eval", "run")
    assert "images does not exist" in result.stderr
