import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunekit_cli.options.common import OptionError, parse_settings
from prunekit_cli.options.common import given as only_given
from prunekit_cli.showing import formats
from prunekit_cli.showing.output import plain


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("train.epochs=3", 3),
        ("train.lr=1e-3", 1e-3),
        ("train.cache=false", False),
        ("data.name=shapes", "shapes"),
        ("data.root=/data/a b=c", "/data/a b=c"),
        ('data.root="quoted"', "quoted"),
        ("data.root=", ""),
        ("data.root=1\nother = 2", "1\nother = 2"),
    ],
)
def test_set_reads_toml_values_and_bare_words(text, value):
    assert parse_settings([text]) == {text.partition("=")[0]: value}


@pytest.mark.parametrize("text", ["", "epochs=3", "train.epochs", ".epochs=3", "train.=3", "=3"])
def test_set_refuses_other_forms(text):
    with pytest.raises(OptionError, match=r"section\.key=value"):
        parse_settings([text])


@given(st.text())
def test_set_reads_or_refuses_any_text(text):
    try:
        (key,) = parse_settings([text])
    except OptionError:
        return
    assert key == text.partition("=")[0].strip()


def test_zero_and_false_count_as_given():
    assert only_given({"a": 0, "b": False, "c": None}) == {"a": 0, "b": False}


@given(st.floats(min_value=0, max_value=1e6))
def test_durations_have_whole_units(seconds):
    text = formats.duration(seconds)
    assert " 60 s" not in text
    assert " 60 min" not in text


def test_unknown_durations_and_scores_are_dashes():
    assert (
        formats.duration(math.nan)
        == formats.duration(math.inf)
        == formats.score(None)
        == formats.score(math.nan)
        == "-"
    )


def test_json_holds_no_nan():
    assert plain({"a": (math.nan, 1.5), "b": math.inf}) == {"a": [None, 1.5], "b": None}


STREET = "python:prunekit.models.street:street_net?width=4"


@pytest.mark.parametrize("number", ["1000000000000", "9" * 30])
@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", STREET, "--height"], ["inspect", STREET, "--width"], ["inspect", STREET, "--classes"],
        ["profile", "a.onnx", "--batch"], ["profile", "a.onnx", "--runs"], ["profile", "a.onnx", "--warmup"],
        ["profile", "model.onnx", "--threads"], ["profile", "model.onnx", "--width", "8", "--height"],
        ["eval", "model.onnx", "--data", "shapes", "--threads"], ["demo", "--threads"], ["demo", "--seed"],
        ["train", "--threads"], ["train", "--epochs"], ["train", "--seed"], ["train", "--set", "train.workers"],
        ["prune", "--threads"], ["prune", "--align"], ["prune", "--seed"], ["prune", "--batches"],
    ],
)  # fmt: skip
def test_numbers_out_of_range_end_in_a_sentence_and_leave_nothing(invoke, tmp_path, arguments, number):
    if arguments[-1].startswith("train."):
        arguments = [*arguments[:-1], f"{arguments[-1]}={number}"]
    else:
        arguments = [*arguments, number]
    result = invoke(*arguments)
    assert result.exit_code in (1, 2)
    assert "Error" in result.stderr
    assert list(tmp_path.rglob("*")) in ([], [tmp_path / "runs"])
