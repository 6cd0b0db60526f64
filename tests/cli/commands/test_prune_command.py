"""`prunekit prune` on a recipe that takes seconds: stages, targets, what is shown, what is resumed."""

import json
import shlex
import shutil

import pytest
from typer.testing import CliRunner

from prunekit_cli.main import app
from prunekit_cli.showing import formats

TINY = """
[data]
height = 32
width = 48
train_images = 8
val_images = 2

[model]
name = "python:prunekit.models.street:street_net?width=8"

[train]
epochs = 1
batch_size = 4
threads = 1
device = "cpu"
"""
QUICK = ("--criterion", "l2", "--align", "2", "--epochs", "0", "--stage-epochs", "0", "--batches", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("prune")
    (path / "tiny.toml").write_text(TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        result = CliRunner().invoke(app, ["train", "--recipe", "tiny.toml"])
        assert result.exit_code == 0, result.output
    return path


@pytest.fixture
def here(folder, invoke, monkeypatch):
    monkeypatch.chdir(folder)
    return invoke


def test_criteria_are_listed_as_table_and_as_json(invoke, tmp_path):
    from prunekit.workflows.prune import CRITERIA

    assert all(name in invoke("prune", "--list-criteria").stdout for name in CRITERIA)
    rows = json.loads(invoke("prune", "--list-criteria", "--json").stdout)
    assert [row["name"] for row in rows] == list(CRITERIA)
    assert all(row["summary"] for row in rows)
    assert list(tmp_path.iterdir()) == []


def test_stages_are_shown_and_a_finished_run_is_shown_again(here, folder):
    arguments = ("--ratio", "0.5", "--schedule", "iterative", "--out", "staged")
    first = here("prune", "runs/0001-train", *arguments, *QUICK)
    assert first.exit_code == 0, first.output
    assert "Stage 2 of 2" in first.stderr
    assert "Validation mIoU" in first.stdout
    assert (folder / "staged/prune.svg").exists()
    assert (folder / "staged/stage-01/model.json").exists()
    assert here("prune", "--resume", "staged").stdout == first.stdout
    report = json.loads(here("prune", "--resume", "staged", "--json").stdout)["report"]
    assert report == json.loads((folder / "staged/prune.json").read_text())


def test_the_result_comes_first_in_few_lines_and_the_rest_when_asked_for(here, folder):
    short = here("prune", "runs/0001-train", "--ratio", "0.5", "--out", "short", *QUICK)
    assert short.exit_code == 0, short.output
    lines = short.stdout.splitlines()
    assert 10 < len(lines) <= 25
    assert lines[0].strip() == "Pruned short"
    report = json.loads((folder / "short/prune.json").read_text())
    for number in (formats.percent(report["ratio_realised"]), formats.score(report["miou_pruned"])):
        assert number in short.stdout
    lost = {group["name"]: group["width_after"] / group["width_before"] for group in report["groups"]}
    worst = min(lost, key=lost.__getitem__)
    assert worst in short.stdout
    details = ("Channel groups", "Layers", "MACs by part", "Padding", "Stages")
    assert not any(title in short.stdout for title in details)
    command = next(line for line in lines if "--verbose" in line).partition(": prunekit ")[2]
    full = here(*shlex.split(command)).stdout
    assert full.startswith("\n".join(lines[:-2]))
    assert all(title in full for title in details)
    assert all(layer["name"] in full for layer in report["layers"])
    assert all(reason in full for _, reason in report["frozen"])


def test_a_second_bare_pruning_takes_the_trained_run_again_and_says_so(folder, invoke, tmp_path):
    shutil.copytree(folder / "runs", tmp_path / "runs")
    for number in (2, 3):
        done = invoke("prune", "--ratio", "0.3", *QUICK)
        assert done.exit_code == 0, done.output
        assert "newest trained or imported run, runs/0001-train" in " ".join(done.stderr.split())
        report = json.loads((tmp_path / f"runs/{number:04d}-prune/prune.json").read_text())
        assert report["source"].endswith("runs/0001-train")
    assert "runs/0002-prune is newer, but no trained or imported run" in " ".join(done.stderr.split())
    named = invoke("prune", "runs/0002-prune", "--ratio", "0.2", *QUICK)
    assert named.exit_code == 0, named.output
    assert "newest" not in named.stderr


def test_a_bare_pruning_without_a_trained_run_says_what_to_do(folder, invoke, tmp_path):
    shutil.copytree(folder / "runs/0001-train", tmp_path / "runs/0001-prune")
    refused = invoke("prune", *QUICK)
    assert refused.exit_code == 2
    assert "No finished train or import run under runs/" in refused.stderr
    assert "name a run" in " ".join(refused.stderr.split())


def test_a_stage_is_a_run_of_its_own(here):
    here("prune", "runs/0001-train", "--ratio", "0.5", "--schedule", "gradual", "--steps", "2", "--out", "g", *QUICK)
    assert here("eval", "g/stage-01", "--json").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ratio", "0.9999"], r"out of reach"),
        (["--target-macs", "1"], "out of reach"),
        (["--target-params", "1G"], "removes nothing"),
        (["--min-miou", "1"], "--min-miou"),
        (["--set", "train.nonsense=1"], "nonsense"),
        (["--target-latency", "8"], "8ms"),
        (["--target-latency", "8ms", "--latency-runtime", "tflite"], "ort, tensorrt"),
    ],
)
def test_a_refused_pruning_leaves_no_run(here, folder, arguments, message):
    before = sorted(folder.rglob("*"))
    result = here("prune", "runs/0001-train", *QUICK, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert sorted(folder.rglob("*")) == before
    if "--min-miou" not in arguments:  # known when the network was evaluated; all others are known before
        assert "changed by" not in result.stderr


def test_a_target_out_of_reach_is_refused_before_an_image_is_read(here, monkeypatch):
    from prunekit.data.shapes import ShapesDataset

    def read(*_):
        raise AssertionError("an image was read")

    monkeypatch.setattr(ShapesDataset, "__getitem__", read)
    for target in (("--ratio", "0.999"), ("--target-macs", "1T"), ("--target-params", "1")):
        result = here("prune", "runs/0001-train", *target)
        assert result.exit_code == 2
        assert f"{target[0]}" in result.stderr.splitlines()[-1]
        assert not any(word in result.stderr for word in ("changed by", "Evaluating", "Reading"))


def test_a_latency_is_measured_by_the_runtime_asked_for(here, monkeypatch):
    from prunekit.pruning.latency import LatencyTable, LayerTimes, Machine
    from prunekit_export import latency as latency_meter

    asked = {}

    class Meter:
        def table(self, segmenter, input_shape, _=None):
            layers = {"classifier": LayerTimes((1, segmenter.network.classifier.in_channels), (10,), ((1.0,), (2.0,)))}
            return LatencyTable(Machine("pretended", "none", 1, "fp32"), input_shape, layers, rest_ms=0.0)

        def network_ms(self, segmenter, input_shape):
            return self.table(segmenter, input_shape).dense_ms

    def open_meter(runtime, *, threads, precision, on_progress):
        asked.update(runtime=runtime, threads=threads, precision=precision)
        on_progress(1, 1)
        return Meter()

    monkeypatch.setattr(latency_meter, "open_meter", open_meter)
    arguments = ("--target-latency", "1.6ms", "--latency-threads", "3", "--align", "1", "--out", "timed")
    result = here("prune", "runs/0001-train", *QUICK, *arguments)
    assert result.exit_code == 0, result.output
    assert asked == {"runtime": "ort", "threads": 3, "precision": "fp32"}
    # One cut network, of 2 ms whatever is cut, is measured; it misses what was asked for, and that is said.
    assert "misses 1.60 ms" in result.stdout


@pytest.mark.parametrize(
    "option", [("--latency-runtime", "foo"), ("--latency-threads", "2"), ("--latency-precision", "fp16")]
)
def test_how_to_measure_is_refused_where_nothing_is_measured(here, folder, option):
    result = here("prune", "runs/0001-train", *option, "--out", "unmeasured", *QUICK)
    assert result.exit_code == 2
    assert f"{option[0]} says how --target-latency is measured" in " ".join(result.stderr.split())
    assert not (folder / "unmeasured").exists()


def test_stages_are_measured_with_the_options_of_the_first():
    from prunekit.pruning.latency import Machine
    from prunekit_cli.commands.prune import _measured_with

    cpu = Machine("c", "onnxruntime 1.31.1 CPUExecutionProvider", 2, "fp32")
    gpu = Machine("g", "TensorRT 10.16", 0, "fp16")
    names = ("latency_runtime", "latency_threads", "latency_precision")
    assert _measured_with(cpu) == dict(zip(names, ("ort", 2, "fp32"), strict=True))
    assert _measured_with(gpu) == dict(zip(names, ("tensorrt", 0, "fp16"), strict=True))


def test_what_was_never_begun_is_not_gone_on_with(here, folder):
    missing = here("prune", "--resume", "nothing")
    assert (missing.exit_code, "does not exist" in missing.stderr) == (2, True)
    (folder / "empty").mkdir()
    empty = here("prune", "--resume", "empty")
    assert (empty.exit_code, "no pruning that was begun" in empty.stderr) == (2, True)
