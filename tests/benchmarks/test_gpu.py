"""The steps for a GPU: all of them dry on the CPU, and what they do where something is missing, late or another's."""

import contextlib
import importlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu.py"
BARE = """
import runpy, sys
for name in ("pydantic", "tomli_w", "segmentation_models_pytorch", "transformers", "typer", "onnx", "onnxruntime"):
    sys.modules[name] = None  # not installed
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def started(*arguments: str, bare: bool = False) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *(("-c", BARE) if bare else ()), str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def stored(out: Path, step: str) -> dict[str, Any]:
    return json.loads((out / f"{step}.json").read_text())


@pytest.fixture(scope="module")
def parts() -> Any:
    """The modules by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        names = ("step", "store", "running", "timing", "tiny", "steps.ort_latency", "steps.torch_latency", "steps")
        found = {name.rpartition(".")[2]: importlib.import_module(f"gpu_steps.{name}") for name in names}
        yield SimpleNamespace(**found)


@pytest.fixture
def bench(parts: Any, tmp_path: Path) -> Any:
    return parts.step.Bench(tmp_path, True, "", time.monotonic() + 60)


def step_of(parts: Any, *jobs: Any, needs: tuple[str, ...] = ()) -> Any:
    return parts.step.Step("some", "Some", needs, needs, lambda _: jobs, lambda rows: [f"| {key} |" for key in rows])


@pytest.mark.slow
def test_every_step_runs_dry_and_nothing_of_it_becomes_a_page(parts: Any, tmp_path: Path) -> None:
    out, pages = tmp_path / "rows", tmp_path / "pages"
    done = started("--dry-run", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("# DRY RUN, nothing was measured: ") == len(parts.steps.STEPS)
    assert "Not measured" not in done.stdout
    assert "not tried yet" not in done.stdout
    for step in parts.steps.STEPS:
        assert stored(out / "dry-run", step)["dry_run"] is True
    l2 = [line for line in done.stdout.splitlines() if line.startswith("| l2 |")]
    assert len(l2) == 1

    refused = started("--pages", "--out", str(out / "dry-run"), "--results", str(pages))
    assert refused.returncode == 1
    assert "is of a dry run" in refused.stderr
    assert not pages.exists()

    again = started("--dry-run", "--out", str(out))
    assert again.returncode == 0
    assert "torch-latency: 3 of 3 rows are there" in again.stderr
    assert again.stdout == done.stdout


@pytest.mark.slow
def test_torch_and_numpy_are_enough_for_three_steps_and_the_others_name_what_they_lack(tmp_path: Path) -> None:
    out = ("--out", str(tmp_path))
    done = started("--dry-run", *out, "--step", "torch-latency", "collection", "elimination", bare=True)
    assert done.returncode == 0, done.stderr
    listed = started("--list", *out, bare=True).stdout
    assert "pip install segmentation-models-pytorch transformers" in listed
    assert "Missing here: pydantic, tomli_w" in listed
    done = started("--dry-run", *out, "--step", "training", bare=True)
    assert done.returncode == 1
    assert "pip install pydantic tomli-w" in done.stderr


def test_without_a_gpu_nothing_is_measured(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    done = started("--out", str(tmp_path))
    assert done.returncode == 1
    assert "torch sees no CUDA device here" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_step_goes_on_where_its_time_was_over(parts: Any, bench: Any) -> None:
    began: list[str] = []

    def job(key: str, *, slow: bool = False) -> Any:
        def run() -> dict[str, Any]:
            began.append(key)
            if slow and began.count(key) == 1:
                time.sleep(30)
            return {"value": key}

        return parts.step.Job(key, run)

    step = step_of(parts, job("first"), job("second", slow=True), job("third"))
    short = parts.step.Bench(bench.out, True, "", time.monotonic() + 0.5)
    handler = signal.getsignal(signal.SIGALRM)
    assert parts.running.run_steps([step], short) == parts.running.MORE
    assert signal.getsignal(signal.SIGALRM) == handler
    assert list(stored(bench.out, "some")["rows"]) == ["first"]
    assert parts.running.run_steps([step], bench) == parts.running.DONE
    assert began == ["first", "second", "second", "third"], "what is done stays done"


def test_a_row_that_cannot_be_measured_says_why_and_is_tried_again(parts: Any, bench: Any) -> None:
    tries: list[int] = []

    def run() -> dict[str, Any]:
        tries.append(1)
        if len(tries) == 1:
            raise RuntimeError("out of memory\nand a page of text")
        return {}

    step = step_of(parts, parts.step.Job("row", run), parts.step.Job("other", dict))
    assert parts.running.run_steps([step], bench) == parts.running.REFUSED
    content = stored(bench.out, "some")
    assert content["refused"] == {"row": "RuntimeError: out of memory"}
    assert list(content["rows"]) == ["other"]
    text = parts.running.page(step, content, 3)
    assert "* row: RuntimeError: out of memory" in text
    assert "1 of 3 rows were not tried yet." in text
    assert parts.running.run_steps([step], bench) == parts.running.DONE
    assert stored(bench.out, "some")["refused"] == {}


def test_a_missing_package_is_named_and_nothing_is_run(parts: Any, bench: Any) -> None:
    step = step_of(parts, parts.step.Job("row", lambda: pytest.fail("run")), needs=("no_such_module",))
    assert parts.running.run_steps([step], bench) == parts.running.REFUSED
    assert stored(bench.out, "some")["refused"] == {
        "row": "Missing here: no_such_module. Install: pip install no_such_module"
    }


def test_rows_of_two_machines_or_of_a_dry_run_do_not_mix(parts: Any, tmp_path: Path) -> None:
    path, machine = tmp_path / "step.json", {"device": "one GPU", "torch": "2"}
    parts.store.Store(path, machine, dry_run=False).put("row", {})
    with pytest.raises(parts.step.GpuRefusedError, match="measured with device one GPU, here it is another"):
        parts.store.Store(path, {**machine, "device": "another"}, dry_run=False)
    with pytest.raises(parts.step.GpuRefusedError, match="holds measured rows, not a dry run"):
        parts.store.Store(path, machine, dry_run=True)


def test_without_the_cuda_provider_onnx_runtime_is_not_measured(parts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu_only = SimpleNamespace(__version__="1", get_available_providers=lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr("prunekit_runtime.running.ort.require_onnxruntime", lambda: cpu_only)
    with pytest.raises(parts.step.GpuRefusedError, match="has no CUDAExecutionProvider, only CPUExecutionProvider"):
        parts.ort_latency.require_provider("cuda")


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_graph_whose_replay_gives_something_else_is_refused(
    parts: Any, monkeypatch: pytest.MonkeyPatch, is_whole: bool
) -> None:
    weights, logits = torch.tensor([1.0, -2.0]), torch.zeros(2)
    stream = SimpleNamespace(wait_stream=lambda _: None)
    graph = SimpleNamespace(replay=lambda: logits.copy_(weights) if is_whole else None)
    fakes = {"Stream": lambda: stream, "current_stream": lambda: stream, "synchronize": lambda: None}
    fakes |= {"stream": contextlib.nullcontext, "graph": contextlib.nullcontext, "CUDAGraph": lambda: graph}
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)

    def run() -> torch.Tensor:
        return logits.copy_(weights)

    if is_whole:
        assert parts.torch_latency.graphed(run) is graph.replay
    else:
        with pytest.raises(parts.step.GpuRefusedError, match=r"logits are 1.0e\+00 of the largest apart"):
            parts.torch_latency.graphed(run)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "fp16", "autocast"])
def test_a_cuda_graph_is_captured_and_gives_what_the_network_gives(parts: Any, precision: str) -> None:
    network = parts.tiny.tiny_net(5).cuda().eval()
    images = torch.randn(1, 3, 64, 64, device="cuda")
    mode = parts.torch_latency.Mode(precision, channels_last=True, graph=True)
    with torch.inference_mode():
        assert parts.torch_latency.call_of(network, images, mode) is not None


def test_candidates_take_turns_and_a_faster_one_is_told_by_how_much(parts: Any) -> None:
    order: list[str] = []
    costs_ms = {"dense": 4.0, "cut": 1.0}

    def told(call: Any, calls: int) -> float:
        return costs_ms[call()]

    def call(name: str) -> Any:
        return lambda: order.append(name) or name

    effort = parts.timing.Effort(budget_s=0.0, block_ms=0.0, warm_s=0.0, least=4, most=4)
    found = parts.timing.compare({name: call(name) for name in costs_ms}, told, effort, "cpu")
    assert order[-8:] == ["dense", "cut", "cut", "dense"] * 2
    assert found["candidates"]["cut"]["speedup"] == {"ratio": 4.0, "low": 4.0, "high": 4.0}
    assert found["rounds"] == 4


def test_measured_rows_become_a_page_that_names_the_machine(parts: Any, tmp_path: Path) -> None:
    times = {"ms": 4.0, "low_ms": 3.9, "high_ms": 4.1, "calls": 3, "speedup": {"ratio": 1.0, "low": 0.9, "high": 1.1}}
    cut = {**times, "ms": 1.25, "speedup": {"ratio": 3.2, "low": 3.1, "high": 3.3}}
    names = ("dense", "dense again", "cut by half", "cut most")
    row = {
        "candidates": dict(zip(names, (times, times, cut, cut), strict=True)),
        "macs_ratio": dict(zip(names, (1.0, 1.0, 2.0, 4.0), strict=True)),
        "network": "Net",
        "mode": "fp16",
        "verdict": "stable",
        "why": [],
        "after": {"card": {"graphics_mhz": 1755, "graphics_max_mhz": 1980, "temperature_celsius": 61}},
    }
    machine = {
        "device": "A GPU",
        "torch": "2.11",
        "cuda": "13.0",
        "packages": {"numpy": "2"},
        "cpu": "A CPU",
        "commit": "c0ffee",
    }
    content = {"format": 1, "dry_run": False, "machine": machine, "rows": {"Net | fp16": row}, "refused": {}}
    (tmp_path / "torch-latency.json").write_text(json.dumps(content))
    done = started("--pages", "--step", "torch-latency", "--out", str(tmp_path), "--results", str(tmp_path / "pages"))
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "pages" / "gpu_torch_latency.md").read_text()
    assert "A GPU, torch 2.11, cuda 13.0, numpy 2; host A CPU; prunekit c0ffee." in text
    assert "the clock was 1755 to 1755 MHz of 1980, 61 to 61 degrees Celsius." in text
    assert "| 1/4.00 | 3.200 (3.100..3.300) | 0.80 |" in text, "the efficiency is the speed-up over the ratio of MACs"
    assert "53 of 54 rows were not tried yet." in text
