"""`prunekit bundle`: what is in it, that it opens, and that nothing half-written or lost is left."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import prunekit_runtime
from prunekit_cli.main import app
from prunekit_export.bundling import BundleConfig, golden, write_bundle
from prunekit_export.errors import ExportUsageError
from prunekit_runtime.bundle import open_bundle
from prunekit_runtime.checking.golden import read_golden


def test_it_opens_and_holds_what_a_device_needs(bundles):
    bundle = open_bundle(bundles["labels"])
    assert [(entry.name, entry.graph, entry.input_shape) for entry in bundle.models] == [
        ("fp32", "labels", (1, 80, 112, 3))
    ]
    assert len(bundle.golden) == 4
    assert bundle.lineage == ("0001-train",)
    for name in ("NOTICE.txt", "measured.json", "prunekit_runtime/__main__.py"):
        assert (bundle.folder / name).is_file()
    measured = json.loads((bundle.folder / "measured.json").read_text())
    assert measured["parity"]["fp32"]["labels"][0]["decided_agreement"] == 1.0
    assert measured["build_host"]["packages"]["prunekit"]


def test_golden_pictures_are_the_run_s_own_with_their_truth(bundles, trained):
    bundle = open_bundle(bundles["labels"])
    val = Path(trained.recipe().data.root) / "val"
    own = {path.read_bytes() for path in ()}
    for path in (val / "images").iterdir():
        own.add(np.asarray(Image.open(path)).tobytes())
    for entry in bundle.golden:
        assert read_golden(bundle, entry).image_HW3.tobytes() in own


def test_golden_pictures_show_several_classes(bundles):
    bundle = open_bundle(bundles["labels"])
    shown = {int(label) for entry in bundle.golden for label in np.unique(read_golden(bundle, entry).labels_HW)}
    assert len(shown) >= 3


def test_golden_logits_of_150_classes_at_512x1024_fit():
    logits = np.random.default_rng(0).normal(0, 5, (150, 512, 1024)).astype(np.float32)
    packed = golden.pack_logits(logits)
    assert len(packed) <= 1 << 20
    stride = golden.sampling(logits.shape)
    assert 150 * -(-512 // stride) * -(-1024 // stride) > 100_000


def test_the_runtime_in_it_runs_by_itself(bundles, tmp_path):
    shutil.copytree(bundles["labels"], tmp_path / "bundle")
    done = subprocess.run(
        [sys.executable, "-m", "prunekit_runtime", "check", "--backend", "ort"],
        cwd=tmp_path / "bundle",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "passed" in done.stdout
    open_bundle(tmp_path / "bundle")  # what Python and the command left there does not spoil it


def test_the_same_run_gives_the_same_models_and_pictures(trained, bundles, tmp_path):
    write_bundle(trained, tmp_path / "again", BundleConfig(graph="labels", precisions=("fp32",)))
    for file in ("models/fp32.onnx", "golden/00.png", "golden/00.labels.png", "golden/00.logits.npz"):
        assert (tmp_path / "again" / file).read_bytes() == (bundles["labels"] / file).read_bytes()


def test_a_failure_leaves_nothing(trained, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("prunekit_export.bundling.workflow.copy_runtime", full)
    with pytest.raises(OSError, match="No space"):
        write_bundle(trained, tmp_path / "bundle", BundleConfig(precisions=("fp32",)))
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_is_replaced_only_when_asked_and_another_folder_never(trained, bundles, tmp_path):
    config = BundleConfig(precisions=("fp32",))
    shutil.copytree(bundles["labels"], tmp_path / "there")
    with pytest.raises(ExportUsageError, match="overwrite"):
        write_bundle(trained, tmp_path / "there", config)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("mine")
    with pytest.raises(ExportUsageError, match="holds no bundle"):
        write_bundle(trained, tmp_path / "mine", BundleConfig(precisions=("fp32",), overwrite=True))
    (tmp_path / "there/models/fp32.onnx").write_text("damaged")
    write_bundle(trained, tmp_path / "there", BundleConfig(precisions=("fp32",), overwrite=True))
    open_bundle(tmp_path / "there")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "there"]


@pytest.mark.parametrize(
    "wrong", [{"precisions": ("int4",)}, {"precisions": ()}, {"golden": 3}, {"golden": 1000}, {"graph": "mask"}]
)
def test_what_no_bundle_can_hold_is_refused(wrong):
    with pytest.raises(ExportUsageError):
        BundleConfig(**wrong)


def test_where_there_are_fewer_pictures_than_asked_for_all_are_taken_and_that_is_told(trained, tmp_path):
    told: list[str] = []
    config = BundleConfig(golden=9, precisions=("fp32",))
    assert write_bundle(trained, tmp_path / "bundle", config, on_stage=told.append).golden == 8
    assert any("all 8 validation images" in line for line in told)


def test_the_command(trained, tmp_path):
    line = f"bundle {trained.path} -o {tmp_path / 'orin'} --precision fp32 --picture-size any"
    result = CliRunner().invoke(app, line.split())
    assert result.exit_code == 0, result.output
    entry = open_bundle(tmp_path / "orin").model()
    assert entry.input_shape == (1, None, None, 3)
    assert entry.profile == {"min": (1, 40, 56, 3), "opt": (1, 80, 112, 3), "max": (1, 160, 224, 3)}
    assert "python3 -m prunekit_runtime build" in result.output


def test_the_lines_for_a_program_of_ones_own_label_a_picture(bundles, monkeypatch):
    monkeypatch.chdir(bundles["labels"])
    page = (Path(prunekit_runtime.__file__).parents[1] / "jetson/README.md").read_text()
    lines = re.findall(r"```python\n(.*?)```", page, re.S)[0]
    lines = lines.replace('"tensorrt"', '"ort"').replace('model("fp16")', "model()")  # no GPU here
    bundle = open_bundle(Path())
    golden = read_golden(bundle, bundle.golden[0])
    names = {"image_HW3": golden.image_HW3}
    exec(lines, names)
    assert (names["labels_HW"] == golden.labels_HW).mean() > 0.999
