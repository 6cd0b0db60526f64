"""`bench` of a bundle, from end to end: ONNX Runtime in the place of TensorRT."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from prunekit_runtime.__main__ import main
from prunekit_runtime.commands import bundle_bench
from prunekit_runtime.commands.bench_words import summary

QUICK = ["--backend", "ort", "--threads", "1", "--warmup", "1", "--runs", "25"]


@pytest.fixture
def bundle(checkable: Path) -> Path:
    """Return a bundle of two models, with one golden picture."""
    return checkable


def test_both_models_are_measured_in_alternation_and_compared(bundle, capsys, tmp_path):
    samples = tmp_path / "samples.csv"
    assert main(["bench", "--bundle", str(bundle), *QUICK, "--json", "--samples", str(samples)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((bundle / "reports/bench.json").read_text())
    assert [each["entry"] for each in report["benched"]] == ["labels", "logits"]
    for each in report["benched"]:
        low_ms, high_ms = each["median_interval_ms"]
        assert 0 < low_ms <= each["latency"]["p50_ms"] <= high_ms
        assert each["latency"]["runs"] == 25
        assert each["verdict"] in ("stable", "noisy", "throttled")
        assert bool(each["reasons"]) == (each["verdict"] != "stable")
        assert each["parts_ms"]["network"] > 0
        assert each["compute"] is None
        assert each["ran_on"].startswith("onnxruntime CPUExecutionProvider")
    assert (report["picture"], report["warmup_runs"], report["cuda_graph"]) == ([24, 32], 1, False)
    assert (report["paired"]["of"], report["paired"]["over"]) == ("logits", "labels")
    assert report["paired"]["low"] <= report["paired"]["ratio"] <= report["paired"]["high"]
    assert set(report["conditions"]) == {"before", "after"}
    assert report["conditions"]["before"]["card"] is None
    rows = list(csv.DictReader(samples.read_text().splitlines()))
    assert len(rows) == 50
    measured_ms = [float(row["ms"]) for row in rows if row["model"] == "labels"]
    assert np.median(measured_ms) == pytest.approx(report["benched"][0]["latency"]["p50_ms"], rel=1e-3)


def test_people_are_told_in_lines(bundle, capsys):
    assert main(["bench", "--bundle", str(bundle), *QUICK]) == 0
    output = capsys.readouterr().out
    assert "ms a frame (95 % interval" in output
    assert "parts [ms]" in output
    assert "times as long as labels" in output


class Sensor:
    """A rail of 5 W."""

    name, scope = "hwmon VDD_IN", "the whole board"

    def watts(self) -> float:
        return 5.0

    def joules(self) -> None:
        return None


def test_energy_is_that_of_the_source_and_says_of_what(bundle, capsys, monkeypatch):
    monkeypatch.setattr(bundle_bench, "total_rail", Sensor)
    monkeypatch.setattr("prunekit_runtime.measuring.power.MIN_SAMPLES", 1)
    assert main(["bench", "--bundle", str(bundle), *QUICK, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    for each in report["benched"]:
        assert each["power"]["of"] == "the whole board"
        assert each["joules_per_frame"] == pytest.approx(5.0 * each["power"]["seconds"] / 25)
    assert "J a frame, of the whole board (hwmon VDD_IN)" in summary(report)


def test_a_model_that_cannot_be_run_does_not_stop_the_other_and_is_told(bundle, seal, capsys):
    (bundle / "models/logits.onnx").write_bytes(b"\x12\x07damaged")
    seal(bundle)
    assert main(["bench", "--bundle", str(bundle), *QUICK, "--json"]) == 1
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert [each["entry"] for each in report["benched"]] == ["labels"]
    assert [each["entry"] for each in report["failed"]] == ["logits"]
    assert report["paired"] is None
    assert "logits" in captured.err


def test_where_no_model_can_be_run_there_is_a_report_of_that(bundle, seal, capsys):
    for name in ("labels", "logits"):
        (bundle / f"models/{name}.onnx").write_bytes(b"\x12\x07damaged")
    seal(bundle)
    assert main(["bench", "--bundle", str(bundle), *QUICK, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["benched"], len(report["failed"])) == ([], 2)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--precision", "int8"], "no model of --precision int8"),
        (["--cuda-graph"], "--backend ort runs none"),
        (["--runs", "0"], "--runs"),
        (["--golden", "x.npz"], "which the bundle describes itself"),
    ],
)
def test_wrong_use_is_one_sentence(bundle, capsys, extra, words):
    try:
        code = main(["bench", "--bundle", str(bundle), *QUICK, *extra])
    except SystemExit as stop:  # argparse's own
        code = stop.code
    assert code == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_without_golden_pictures_there_is_nothing_to_measure(runnable, capsys):
    assert main(["bench", "--bundle", str(runnable), *QUICK]) == 2
    assert "no golden picture" in capsys.readouterr().err
