import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from prunekit.pruning.latency import Machine
from prunekit_export.errors import EngineError, ExportError
from prunekit_export.latency import engine_timing
from prunekit_export.latency.cache import LatencyCache, cache_folder
from prunekit_export.latency.engine_timing import EngineTimer
from prunekit_export.latency.layer_onnx import LayerShape, layer_model, shape_of_call
from prunekit_export.latency.layer_timing import LayerTime, OrtTimer, is_layer
from prunekit_runtime.timing.kernels import noise

MACHINE = Machine("a processor", "a runtime 1.2", 1, "fp32")


@st.composite
def layers(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kind = draw(st.sampled_from(["conv", "grouped", "transposed", "same", "linear"]))
    per_in, per_out, groups = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(2, 3))
    size = (draw(st.integers(1, 2)), per_in, draw(st.integers(7, 10)), draw(st.integers(7, 10)))
    if kind == "linear":
        return nn.Linear(per_in, per_out), (*size[2:], per_in)
    if kind == "same":
        return nn.Conv2d(per_in, per_out, draw(pair), padding="same", dilation=draw(pair)), size
    options = {"stride": draw(pair), "dilation": draw(pair), "padding": (0, draw(st.integers(0, 1)))}
    if kind == "transposed":
        return nn.ConvTranspose2d(per_in, per_out, draw(pair), **options), size
    if kind == "conv":
        return nn.Conv2d(per_in, per_out, draw(pair), **options), size
    grouped = nn.Conv2d(groups * per_in, groups * per_out, draw(pair), groups=groups, **options)
    return grouped, (size[0], groups * per_in, *size[2:])


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@settings(max_examples=40, deadline=None)
@given(layers())
def test_the_file_of_a_layer_computes_what_the_layer_computes(drawn: tuple[Any, tuple[int, ...]]) -> None:
    """Shapes and, with the file's weights, numbers: strides, pads, groups and dilations are where they belong."""
    module, shape = drawn
    inputs = torch.from_numpy(noise(shape))
    layer = shape_of_call(module, inputs)
    channels = (
        (module.in_features, module.out_features)
        if layer.kind == "linear"
        else (module.in_channels, module.out_channels)
    )
    model = layer_model(layer, *channels)
    weight = torch.from_numpy(noise(tuple(next(t.dims for t in model.graph.initializer if t.name == "weight"))))
    with torch.no_grad():
        module.weight.copy_(weight.T if layer.kind == "linear" else weight)
        module.bias.zero_()
        expected = torch.relu(module(inputs))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"images": inputs.reshape(layer.input_shape(channels[0])).numpy()})
    torch.testing.assert_close(torch.from_numpy(got).reshape(expected.shape), expected, rtol=1e-4, atol=1e-4)
    if layer.kind != "linear":
        assert layer.output_size == tuple(expected.shape[2:])


def test_keys_tell_layers_apart() -> None:
    inputs = torch.zeros(1, 4, 8, 8)
    modules = [
        nn.Conv2d(4, 4, 3),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Conv2d(4, 4, 3, stride=2),
        nn.Conv2d(4, 4, 3, dilation=2),
        nn.Conv2d(4, 4, 3, groups=4),
        nn.Conv2d(4, 4, 3, groups=2),
        nn.ConvTranspose2d(4, 4, 3),
        nn.Conv2d(4, 4, (3, 1)),
        nn.Conv2d(4, 4, (1, 3)),
    ]
    keys = [shape_of_call(module, inputs).key for module in modules]
    assert len(set(keys)) == len(modules)
    assert shape_of_call(nn.Conv2d(4, 9, 3), inputs).key == keys[0]  # widths are no part of it


def test_what_cannot_be_timed_is_refused() -> None:
    grouped = shape_of_call(nn.Conv2d(4, 4, 3, groups=2), torch.zeros(1, 4, 8, 8))
    with pytest.raises(ExportError, match="whole number of groups"):
        layer_model(grouped, 3, 3)
    with pytest.raises(ExportError, match="not a batch of maps"):
        shape_of_call(nn.Conv2d(4, 4, 3), torch.zeros(4, 8, 8))


@pytest.fixture(scope="module")
def timer() -> OrtTimer:
    return OrtTimer(1)


def conv(kernel: int = 3, size: int = 24) -> LayerShape:
    pad = kernel // 2
    return LayerShape("conv", (kernel, kernel), (1, 1), (1, 1), (pad, pad, pad, pad), (0, 0), (0, 0), 1, size, size)


def test_a_layer_takes_time_and_more_when_it_is_much_larger(timer: OrtTimer) -> None:
    small, large = timer.layer(conv(size=8), 16, 16), timer.layer(conv(size=64), 64, 64)
    assert 0 < small.layer_ms < large.layer_ms  # a factor of 1,000 in multiplications
    assert small.around_ms >= 0


def test_the_block_is_what_onnx_runtime_fills_up_to(timer: OrtTimer) -> None:
    assert timer.block in (1, 8, 16)
    assert timer.granule <= timer.block
    nodes = timer._profiled(conv(1, 8), 4 * timer.block, timer.block + 1)
    layer = next(node for node in nodes if is_layer(node))
    assert layer.output[1] == (2 * timer.block if timer.block > 1 else 2)


def test_threads_are_part_of_the_machine(timer: OrtTimer) -> None:
    assert OrtTimer(2).machine != timer.machine
    assert OrtTimer(1).machine == timer.machine


def test_the_cache_gives_back_what_was_put_in(tmp_path: Path) -> None:
    cache = LatencyCache(MACHINE, tmp_path)
    cache.add("conv a", 8, 16, LayerTime(1.5, 0.25))
    assert cache.get("conv a", 8, 16) == LayerTime(1.5, 0.25)
    assert cache.get("conv a", 16, 8) is None
    assert LatencyCache(MACHINE, tmp_path).get("conv a", 8, 16) is None  # not saved yet
    cache.save()
    again = LatencyCache(MACHINE, tmp_path)
    assert len(again) == 1
    assert again.get("conv a", 8, 16) == LayerTime(1.5, 0.25)
    other = LatencyCache(Machine("a processor", "a runtime 1.3", 1, "fp32"), tmp_path)
    assert len(other) == 0
    assert other.path != cache.path


def test_the_fastest_of_several_measurements_counts(tmp_path: Path) -> None:
    cache = LatencyCache(MACHINE, tmp_path)
    assert cache.passes("a", 1, 1) == 0
    for layer_ms in (2.0, 1.0, 3.0):
        cache.add("a", 1, 1, LayerTime(layer_ms, 10 * layer_ms))
    cache.save()
    again = LatencyCache(MACHINE, tmp_path)
    assert again.get("a", 1, 1) == LayerTime(1.0, 10.0)
    assert again.passes("a", 1, 1) == 3


def test_times_of_earlier_versions_are_those_of_two_passes(tmp_path: Path) -> None:
    cache = LatencyCache(MACHINE, tmp_path)
    cache.add("a", 1, 1, LayerTime(1.0, 0.0))
    cache.save()
    content = json.loads(cache.path.read_text())
    del content["layers"]["a"][0]["passes"]
    cache.path.write_text(json.dumps(content))
    assert LatencyCache(MACHINE, tmp_path).passes("a", 1, 1) == 2


def test_two_processes_do_not_lose_each_others_times(tmp_path: Path) -> None:
    one, two = LatencyCache(MACHINE, tmp_path), LatencyCache(MACHINE, tmp_path)
    one.add("a", 1, 1, LayerTime(1.0, 0.0))
    two.add("b", 1, 1, LayerTime(2.0, 0.0))
    one.save()
    two.save()
    assert len(LatencyCache(MACHINE, tmp_path)) == 2


@pytest.mark.parametrize(
    "text",
    [
        '{"format": 2}',
        '{"format": 1}',
        '{"format": 1, "machine": {"device": "a", "runtime": "b", "threads": "1", "precision": "c"}, "layers": {}}',
        '{"format": 1, "machine": MACHINE, "layers": {"x": [{"channels_in": 0, "channels_out": 1, TIMES}]}}',
        '{"format": 1, "machine": MACHINE, "layers": {"x": [{"channels_in": 1, "channels_out": 1}]}}',
    ],
)
def test_a_damaged_cache_is_refused(tmp_path: Path, text: str) -> None:
    path = LatencyCache(MACHINE, tmp_path).path
    text = text.replace("TIMES", '"layer_ms": 1.0, "around_ms": 0.0')
    path.write_text(text.replace("MACHINE", json.dumps(asdict(MACHINE))))
    with pytest.raises(ExportError, match="Delete it"):
        LatencyCache(MACHINE, tmp_path)


def test_the_cache_of_another_machine_is_refused_by_name(tmp_path: Path) -> None:
    elsewhere = LatencyCache(Machine("elsewhere", "a runtime 1.2", 1, "fp32"), tmp_path)
    elsewhere.save()
    elsewhere.path.rename(LatencyCache(MACHINE, tmp_path).path)
    with pytest.raises(ExportError, match=r"elsewhere.*not on.*a processor"):
        LatencyCache(MACHINE, tmp_path)


def test_a_cache_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="XDG_CACHE_HOME"):
        LatencyCache(MACHINE, tmp_path / "file" / "below").save()


def test_the_cache_lies_where_the_user_wants_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "prunekit" / "latency"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "prunekit" / "latency"


class FakeRunner:
    """An engine that takes 9 ms while it warms up, and 2 ms then."""

    def __init__(self, path: Path) -> None:
        assert path.read_bytes() == b"plan"
        self.calls = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, _: object) -> None:
        self.calls += 1

    @property
    def last_compute_ms(self) -> float:
        return 9.0 if self.calls <= 20 else 2.0


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_engines_are_timed_by_the_gpus_own_clock(monkeypatch: pytest.MonkeyPatch, precision: Any) -> None:
    built: list[tuple[Any, bytes]] = []

    def build(source: Path, plan: Path, *, profile: Any, options: Any) -> None:
        built.append((profile, source.read_bytes()))
        assert options.package == "tensorrt"
        plan.write_bytes(b"plan")

    monkeypatch.setattr(engine_timing, "require", lambda _: SimpleNamespace(__version__="10.9"))
    monkeypatch.setattr(engine_timing, "_gpu_name", lambda: "a GPU")
    monkeypatch.setattr(engine_timing, "build_engine", build)
    monkeypatch.setattr(engine_timing, "TrtRunner", FakeRunner)
    timer = EngineTimer(precision)
    assert timer.machine == Machine("a GPU", "tensorrt 10.9", 0, precision)
    assert timer.layer(conv(), 16, 8) == LayerTime(2.0, 0.0)
    assert built[0][0].optimum == (1, 16, 24, 24)
    whole = timer.network(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1)), (1, 3, 16, 16))
    assert whole.nodes == ()
    assert whole.report.p50_ms == whole.report.mean_ms == 2.0
    assert (b"Cast" in built[1][1]) == (precision == "fp16")


def test_engines_need_tensorrt_and_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ExportError, match="fp16 or fp32"):
        EngineTimer("int8")  # type: ignore[arg-type]  # what is refused
    monkeypatch.setattr(engine_timing, "require", lambda _: SimpleNamespace(__version__="10.9"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EngineError, match="torch finds none"):
        EngineTimer()
