"""`prunekit predict` as it is typed: what is said, what is written, and how it ends."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prunekit.data.registry import open_dataset
from prunekit.modelfile import new_card, rebuild, save_model
from prunekit.recipe import merge, parse_recipe
from prunekit.run import RunDirectory
from prunekit_cli.commands import predict
from prunekit_export.predicting import workflow
from prunekit_runtime.preprocessing import Preprocessing

SETTINGS = {
    "data.height": 32,
    "data.width": 48,
    "data.val_images": 3,
    "model.name": "python:prunekit.models.street:street_net?width=8",
}


@pytest.fixture
def run(invoke, tmp_path):
    """A run with a drawn network in the working folder, beside three pictures."""
    source = RunDirectory(tmp_path / "runs/0001-train")
    source.path.mkdir(parents=True)
    recipe = parse_recipe(merge({}, SETTINGS))
    source.write_recipe(recipe)
    dataset = open_dataset(recipe.data, "val")
    card = new_card(recipe.model, dataset.classes, Preprocessing(32, 48, pad_multiple=16))
    save_model(source, rebuild(card), card)
    (tmp_path / "photos").mkdir()
    for index in range(3):
        Image.fromarray(dataset[index].image_3HW.permute(1, 2, 0).numpy()).save(tmp_path / f"photos/{index}.png")
    return "runs/0001-train"


def written(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


def pixels(path):
    with Image.open(path) as image:
        return np.array(image)


def test_a_folder_as_it_is(invoke, run):
    result = invoke("predict", run, "photos")
    assert result.exit_code == 0, result.output
    out = "predictions/0001-train"
    assert written(out) == ["legend.png", *(f"{kind}/{n}.png" for kind in ("mask", "overlay") for n in range(3))]
    assert "3 images in" in result.stdout
    assert "images/s" in result.stdout
    for stage in ("decoding", "preparing", "network", "labels", "writing"):
        assert f"{stage} " in result.stdout
    masks = np.stack([pixels(f"{out}/mask/{n}.png") for n in range(3)])
    names = open_dataset(parse_recipe(merge({}, SETTINGS)).data, "val").classes.names
    for label, name in enumerate(names):
        share = (masks == label).mean()
        line = next((line for line in result.stdout.splitlines() if line.strip().startswith(f"{name} ")), "")
        assert bool(share) == bool(line)
        if share >= 1e-4:
            assert line.split()[-2] == f"{100 * share:.2f}"


def test_several_kinds_and_sources_as_json(invoke, run):
    kinds = ["--as", "contour", "--as", "side-by-side"]
    result = invoke("predict", run, "photos/0.png", "photos/[12].png", *kinds, "--out", "seen", "--json")
    report = json.loads(result.stdout)
    assert report["written"] == 3
    assert report["kinds"] == ["contour", "side-by-side"]
    drawn = [f"{kind}/{n}.png" for kind in report["kinds"] for n in range(3)]
    assert written("seen") == sorted(["legend.png", *drawn])
    assert sum(report["pixels"]) == 3 * 32 * 48
    assert pixels("seen/side-by-side/0.png").shape == (32, 2 * 48 + 4, 3)


def test_one_bad_picture_is_said_and_counted(invoke, run):
    Path("photos/bad.png").write_bytes(b"no picture")
    result = invoke("predict", run, "photos", "--as", "mask", "--out", "out")
    assert result.exit_code == 1
    assert "No result: photos/bad.png is no readable" in result.stderr
    assert "1 of 4 images have no result" in result.stderr
    assert len(written("out/mask")) == 3


def test_many_bad_pictures_are_not_all_said(invoke, run):
    for number in range(predict.MOST_COMPLAINTS + 5):
        Path(f"photos/bad{number}.png").write_bytes(b"no picture")
    result = invoke("predict", run, "photos", "--json", "--out", "out")
    assert result.stderr.count("No result:") == predict.MOST_COMPLAINTS
    assert len(json.loads(result.stdout)["failed"]) == predict.MOST_COMPLAINTS + 5


def test_only_bad_pictures_leave_nothing(invoke, run):
    Path("photos/bad.png").write_bytes(b"no picture")
    result = invoke("predict", run, "photos/bad.png", "--out", "out")
    assert result.exit_code == 1
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["runs"], "holds no"),
        (["photos", "--as", "masks"], "--as takes mask, overlay, contour, side-by-side"),
        (["photos", "--alpha", "2"], "--alpha"),
        (["photos", "--device", "gpu"], "--device takes"),
        (["photos", "--device", "tensorrt"], "torch runs on cpu or cuda"),
    ],
)
def test_mistakes_write_nothing(invoke, run, arguments, words):
    result = invoke("predict", run, *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert not Path("predictions").exists()


def test_results_are_not_written_over(invoke, run):
    assert invoke("predict", run, "photos", "--as", "mask").exit_code == 0
    again = invoke("predict", run, "photos", "--as", "mask")
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr
    assert invoke("predict", run, "photos", "--as", "mask", "--overwrite").exit_code == 0
    assert invoke("predict", run, "photos", "--as", "contour").exit_code == 0


@pytest.mark.parametrize("out", [(), ("--out", "./out")])
def test_results_beside_the_pictures_are_not_taken_for_pictures(invoke, run, out):
    for other in ("one", "another"):
        report = json.loads(invoke("predict", run, ".", *out, "--json").stdout)
        assert report["written"] == 3
        results = Path(report["out_dir"])
        assert written(results / "mask") == [f"photos/{n}.png" for n in range(3)]
        if out:
            assert "--overwrite" in invoke("predict", run, ".", *out).stderr
            break
        results.rename(results.with_name(other))


def test_ctrl_c_keeps_what_is_done_and_says_how_many(invoke, run, monkeypatch):
    read, calls = workflow._read, iter(range(9))

    def interrupted(path):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return read(path)

    monkeypatch.setattr(workflow, "_read", interrupted)
    result = invoke("predict", run, "photos", "--as", "mask", "--out", "out")
    assert result.exit_code == 130
    assert "2 images are done" in result.stderr
    assert written("out") == ["legend.png", "mask/0.png", "mask/1.png"]


def test_a_run_with_code_of_its_own_needs_trust(invoke, run):
    card = Path(run, "model.json")
    card.write_text(card.read_text().replace("python:prunekit.models.street:street_net", "python:os:system"))
    result = invoke("predict", run, "photos")
    assert result.exit_code == 2
    assert "--trust-code" in result.stderr
    assert not Path("predictions").exists()
