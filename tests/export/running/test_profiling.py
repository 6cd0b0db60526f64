"""`prunekit profile`: how its numbers are judged, and what it writes and returns."""

import csv
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from prunekit_cli.main import app
from prunekit_export.running import ProfileConfig, profile_models, profiling
from prunekit_runtime.measuring.latency import Samples

pytest.importorskip("onnxruntime")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Write two networks of a convolution each."""
    paths = []
    for number in range(2):
        weight = numpy_helper.from_array(np.ones((4, 3, 1, 1), np.float32), "w")
        graph = helper.make_graph(
            [helper.make_node("Conv", ["images", "w"], ["logits"])],
            "one",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 16, 16])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 4, 16, 16])],
            [weight],
        )
        paths.append(tmp_path / f"{number}.onnx")
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), paths[-1])
    return paths


def taken(monkeypatch: pytest.MonkeyPatch, *models: tuple[list[float], list[float]]) -> None:
    """Let a measurement find these wall and CPU times [ms]."""
    found = {f"{number}": Samples(wall_ms, cpu_ms) for number, (wall_ms, cpu_ms) in enumerate(models)}
    monkeypatch.setattr(profiling, "alternate", lambda *_, **__: found)


STEADY = [10.0 + 0.01 * (number % 3) for number in range(60)]


def test_steady_times_of_a_thread_that_works_all_the_time_are_stable(files, monkeypatch):
    taken(monkeypatch, (STEADY, STEADY), ([2 * value for value in STEADY], [2 * value for value in STEADY]))
    report = profile_models(files, ProfileConfig(threads=1))
    assert [(model.verdict, model.reasons) for model in report.models] == [("stable", ())] * 2
    assert report.is_stable
    assert report.speed_up == pytest.approx(2)
    assert report.speed_up_interval is not None
    low, high = report.speed_up_interval
    assert low <= 2 <= high
    assert high - low < 0.05
    assert report.models[0].interval_ms[0] <= report.models[0].latency.p50_ms <= report.models[0].interval_ms[1]


def test_a_thread_that_waited_for_a_core_is_noisy_however_steady_its_times(files, monkeypatch):
    taken(monkeypatch, (STEADY, [value / 2 for value in STEADY]))
    (model,) = profile_models(files[:1], ProfileConfig(threads=1)).models
    assert model.verdict == "noisy"
    assert "waited for a core for 50% of the time" in model.reasons[0]


def test_several_threads_use_more_than_their_time_and_are_not_judged_by_it(files, monkeypatch):
    taken(monkeypatch, (STEADY, [value / 2 for value in STEADY]))
    assert profile_models(files[:1], ProfileConfig(threads=2)).is_stable


def test_drifting_times_are_noisy(files, monkeypatch):
    drifting = [10.0 + 0.1 * number for number in range(60)]
    taken(monkeypatch, (drifting, drifting))
    assert not profile_models(files[:1], ProfileConfig(threads=1)).is_stable


def invoke(*arguments: object):
    return CliRunner().invoke(app, ["profile", *map(str, arguments)])


def test_the_command_shows_intervals_and_verdicts_and_writes_every_run(files, tmp_path):
    out = tmp_path / "samples.csv"
    options = ("--threads", 1, "--runs", 12, "--warmup", 1, "--samples", out)
    result = invoke(files[0], "--against", files[1], *options, "--json")
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)
    first = values["report"]["models"][0]
    assert first["verdict"] in ("stable", "noisy", "throttled")
    assert first["interval_ms"][0] <= first["latency"]["p50_ms"] <= first["interval_ms"][1]
    assert first["cpu_ms"] > 0
    low, high = values["report"]["speed_up_interval"]
    assert low <= high
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert len(rows) == 24
    walls_ms = [float(row["wall_ms"]) for row in rows if row["model"] == str(files[0])]
    assert np.median(walls_ms) == pytest.approx(first["latency"]["p50_ms"], abs=1e-5)
    shown = " ".join(invoke(files[0], "--threads", 1, "--runs", 5).output.split())
    assert "95 % interval" in shown
    assert "verdict" in shown


@pytest.mark.parametrize(("cpu_share", "code"), [(1.0, 0), (0.5, 3)])
def test_strict_is_an_exit_code_of_its_own(files, monkeypatch, cpu_share, code):
    taken(monkeypatch, (STEADY, [value * cpu_share for value in STEADY]))
    assert invoke(files[0], "--threads", 1).exit_code == 0
    result = invoke(files[0], "--threads", 1, "--strict")
    assert result.exit_code == code
    assert ("waited for a core" in " ".join(result.output.split())) == (code == 3)
