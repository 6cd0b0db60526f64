"""What shells offer, and that the names kept for them are those that there are."""

import os
import subprocess
import sys
from typing import get_args

import pytest

from prunekit_cli import completion


def offered(line: str) -> list[str]:
    """Return what fish is offered for the last word of a line."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "_PRUNEKIT_COMPLETE": "complete_fish",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_ARGS": line,
    }
    code = "import sys; sys.argv[0] = 'prunekit'; from prunekit_cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    return [text.split("\t")[0] for text in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("prunekit tr", ["train"]),
        ("prunekit train --precision ", ["fp32", "bf16", "fp16"]),
        ("prunekit train --data vo", ["voc", "voc-aug"]),
        ("prunekit train --model ", list(completion.KINDS)),
        ("prunekit train --model smp:Unet", ["smp:Unet", "smp:UnetPlusPlus"]),
        ("prunekit train --model torchvision:l", ["torchvision:lraspp_mobilenet_v3_large"]),
        ("prunekit prune --criterion taylor", ["taylor", "taylor-weight"]),
        ("prunekit import --channels ", ["rgb", "bgr"]),
    ],
)
def test_words_are_offered(line, words):
    assert offered(line) == words


def test_the_names_are_those_that_there_are():
    import segmentation_models_pytorch as smp
    from torchvision import models

    from prunekit.models.spec import Kind
    from prunekit.pruning.criteria import CRITERIA
    from prunekit.recipe_values import DataName

    assert set(completion.CRITERIA) == set(CRITERIA)
    assert (*get_args(DataName), "python:") == completion.DATA_SETS
    assert set(completion.SMP) == {network.__name__ for network in smp.MODEL_ARCHITECTURES_MAPPING.values()}
    assert set(completion.TORCHVISION) == set(models.list_models(module=models.segmentation))
    assert {kind.removesuffix(":") for kind in completion.KINDS} == set(get_args(Kind))


@pytest.mark.parametrize(
    ("metavar", "words"),
    [("fp32|fp16", ("fp32", "fp16")), ("NAME|python:MODULE:NAME", ()), ("FILE", ()), (None, ()), ("a|b:c", ())],
)
def test_only_lists_of_words_are_offered(metavar, words):
    assert completion.listed(metavar) == words


@pytest.mark.parametrize("arguments", [["-h"], ["train", "-h"], ["status", "-h"]])
def test_help_has_a_short_name(invoke, arguments):
    result = invoke(*arguments)
    assert result.exit_code == 0
    assert "Usage" in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--epochs", "x"], "it takes a whole number, got 'x'"),
        (["train", "--lr", "x"], "it takes a number, got 'x'"),
        (["predict", "a", "b", "--batch-size", "0"], "it takes a whole number of at least 1, got '0'"),
        (["trian"], "Did you mean 'train'?"),
        (["train", "--epohcs", "1"], "--epochs"),
    ],
)
def test_what_the_parser_refuses_is_in_our_words_too(invoke, monkeypatch, arguments, words):
    monkeypatch.setenv("COLUMNS", "200")
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.replace("\u2502", " ").split())
