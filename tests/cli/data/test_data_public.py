"""Commands on a public data set, in its owner's layout."""

import json

import numpy as np
import pytest
from PIL import Image

SETTINGS = (
    "--set=data.height=32",
    "--set=data.width=64",
    "--device=cpu",
    "--threads=1",
    "--epochs=1",
    "--batch-size=4",
)
MODEL = "python:prunekit.models.street:street_net?width=4"
PARTS = (("leftImg8bit/_leftImg8bit", (32, 64, 3), 256), ("gtFine/_gtFine_labelIds", (32, 64), 34))


@pytest.fixture
def cityscapes(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            stem = f"{split}/ulm/ulm_{number:06d}_000019"
            for name, shape, high in PARTS:
                folder, end = name.split("/")
                path = tmp_path / "data" / folder / f"{stem}{end}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, high, shape, dtype=np.uint8)).save(path)
    return "data"


def test_a_training_on_cityscapes_takes_a_step_and_is_evaluated(invoke, cityscapes, tmp_path):
    result = invoke("train", "--data=cityscapes", "--root", cityscapes, "--model", MODEL, *SETTINGS, "--out=run")
    assert result.exit_code == 0, result.stderr
    kept = json.loads((tmp_path / "run/labels.json").read_text())
    assert (kept["classes"][0], kept["classes"][-1], len(kept["classes"])) == ("road", "bicycle", 19)
    assert kept["train"]["ignored_share"] == pytest.approx(15 / 34, abs=0.02)
    report = json.loads(invoke("eval", "run", "--json").stdout)
    assert report["images"] == 2
    assert len(report["metrics"]["iou"]) == 19


def test_the_test_split_is_refused_in_one_sentence(invoke, cityscapes):
    invoke("train", "--data=cityscapes", "--root", cityscapes, "--model", MODEL, *SETTINGS, "--out=run")
    result = invoke("eval", "run", "--split=test")
    assert result.exit_code == 2
    assert "not public" in result.stderr
    assert "Use --split val" in " ".join(result.stderr.split())


def test_a_set_that_is_not_there_is_described(invoke):
    result = invoke("train", "--data=ade20k", "--root=nowhere")
    assert result.exit_code == 2
    for part in ("nowhere does not exist", "http://sceneparsing.csail.mit.edu", "annotations/{training,validation}"):
        assert part in result.stderr
