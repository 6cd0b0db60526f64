"""Tables measured by a timer whose truth is known, so that every number can be checked; then by the real one."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prunekit.models.segmenter import Segmenter
from prunekit.pruning import analyse
from prunekit.pruning.coupling import Coupling
from prunekit.pruning.latency import LatencyTable, LayerTimes, Machine, widths_of
from prunekit_export.errors import ExportError
from prunekit_export.latency import LatencyMeter, open_meter
from prunekit_export.latency.cache import LatencyCache
from prunekit_export.latency.fit import _call_key, _node_key
from prunekit_export.latency.layer_onnx import LayerShape
from prunekit_export.latency.layer_timing import LayerTime, NetworkTime, OrtTimer, is_layer
from prunekit_export.latency.meter import compare_latencies
from prunekit_export.latency.table import layer_calls, measure_latency_table
from prunekit_runtime.measuring.latency import LatencyReport, summarise
from prunekit_runtime.timing.kernels import Kernel

Shape = tuple[int, int, int, int]
SHAPE = (1, 3, 32, 48)
BLOCK = 4
INSIDE = 1.5
"""How much longer the known machine takes for a layer inside a network than alone."""
WALL = 1.25
"""And its wall time over the sum of its kernels."""
REST_MS = 0.5


class Net(nn.Module):
    """Every kind of layer that a table holds, one of them used twice, and one kind that it does not hold."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, 2, 1)
        self.depthwise = nn.Conv2d(12, 12, 3, 1, 2, dilation=2, groups=12)
        self.twice = nn.Conv2d(12, 12, (3, 1), padding="same")
        self.up = nn.ConvTranspose2d(12, 10, 3, 2, 1, output_padding=1)
        self.scale = nn.Linear(10, 10)
        self.head = nn.Conv2d(10, 4, 1)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        x = torch.relu(self.depthwise(torch.relu(self.stem(images_B3HW))))
        x = torch.relu(self.twice(torch.relu(self.twice(x))))
        x = torch.relu(self.up(x))
        return self.head(x * torch.sigmoid(self.scale(x.mean(dim=(2, 3))))[:, :, None, None])


def truth_ms(layer: LayerShape, channels_in: int, channels_out: int) -> float:
    """A time that is bilinear in the widths in blocks, and differs between all layers of `Net`."""
    places = layer.height * layer.width * layer.kernel[0] * layer.kernel[1]
    wide_in, wide_out = (-(-channels // BLOCK) * BLOCK for channels in (channels_in, channels_out))
    return places * 1e-5 * (wide_out if layer.grouped else (wide_in + 1) * (wide_out + 2))


class KnownTimer:
    """A machine that takes `truth_ms`."""

    machine = Machine("known", "none", 1, "fp32")
    block = BLOCK
    granule = 1
    shares: Sequence[float] = (0.5, 1)

    def __init__(self, *, tells_nodes: bool = True, dies_after: int | None = None) -> None:
        self.points: list[tuple[LayerShape, int, int]] = []
        self.tells_nodes = tells_nodes
        self.dies_after = dies_after

    def layer(self, layer: LayerShape, channels_in: int, channels_out: int) -> LayerTime:
        if len(self.points) == self.dies_after:
            raise KeyboardInterrupt
        self.points.append((layer, channels_in, channels_out))
        return LayerTime(truth_ms(layer, channels_in, channels_out), 0.1)

    def network(self, segmenter: nn.Module, input_shape: Shape) -> NetworkTime:
        nodes = [Kernel("Shape", ((7,),), (7,), REST_MS)]
        for layer in layer_calls(segmenter, input_shape).values():
            nodes += [node_of(call, layer.channels_in, layer.channels_out) for call in layer.calls]
        return NetworkTime(self.network_ms(segmenter, input_shape), tuple(nodes) if self.tells_nodes else ())

    def network_ms(self, segmenter: nn.Module, input_shape: Shape) -> LatencyReport:
        layers = layer_calls(segmenter, input_shape).values()
        kernels_ms = sum(
            INSIDE * truth_ms(call, layer.channels_in, layer.channels_out) for layer in layers for call in layer.calls
        )
        return summarise([WALL * (REST_MS + kernels_ms)], batch=1, warmup_runs=0)


def node_of(call: LayerShape, channels_in: int, channels_out: int) -> Kernel:
    """The kernel of a call as a runtime tells it: widths of plain convolutions filled up to blocks."""
    time_ms = INSIDE * truth_ms(call, channels_in, channels_out)
    if call.kind == "linear":
        return Kernel("Gemm", ((1, channels_in), (channels_out, channels_in)), (1, channels_out), time_ms)
    if call.kind == "transposed":
        weight = (channels_in, channels_out, *call.kernel)
    else:
        channels_in, channels_out = (-(-channels // BLOCK) * BLOCK for channels in (channels_in, channels_out))
        weight = (channels_out, 1 if call.grouped else channels_in, *call.kernel)
    inputs = ((1, channels_in, call.height, call.width), weight)
    return Kernel(
        "ConvTranspose" if call.kind == "transposed" else "Conv", inputs, (1, channels_out, *call.output_size), time_ms
    )


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def coupling(net: Net) -> Coupling:
    return analyse(net, (torch.zeros(SHAPE),))


def cache(folder: Path, timer: KnownTimer | OrtTimer) -> LatencyCache:
    return LatencyCache(timer.machine, folder)


def test_calls_are_noted_with_their_shapes_and_the_mode_is_put_back(net: Net) -> None:
    net.train()
    calls = layer_calls(net, SHAPE)
    assert net.training
    net.eval()
    assert list(calls) == ["stem", "depthwise", "twice", "up", "scale", "head"]
    assert [len(layer.calls) for layer in calls.values()] == [1, 1, 2, 1, 1, 1]
    assert (calls["stem"].channels_in, calls["stem"].channels_out) == (3, 12)
    assert calls["depthwise"].calls[0].group == (1, 1)
    assert calls["depthwise"].calls[0].padding == (2, 2, 2, 2)
    assert calls["twice"].calls[0].padding == (1, 0, 1, 0)
    assert calls["up"].calls[0].output_size == (32, 48)
    assert (calls["scale"].calls[0].kind, calls["scale"].calls[0].height) == ("linear", 1)


def test_layers_of_a_segmenter_bear_the_names_that_pruning_uses(net: Net) -> None:
    assert list(layer_calls(Segmenter(net, 4), SHAPE)) == list(layer_calls(net, SHAPE))


def test_the_table_holds_the_truth_at_every_width(net: Net, tmp_path: Path) -> None:
    timer = KnownTimer()
    table = measure_latency_table(net, SHAPE, timer, cache=cache(tmp_path, timer))
    calls = layer_calls(net, SHAPE)
    for name, layer in calls.items():
        for channels_in, channels_out in itertools.product(
            range(1, layer.channels_in + 1), range(1, layer.channels_out + 1)
        ):
            if (min(channels_in, channels_out) < BLOCK) or (layer.calls[0].grouped and channels_in != channels_out):
                continue  # within the first block there are points between which the truth is flat
            expected = sum(WALL * INSIDE * truth_ms(call, channels_in, channels_out) for call in layer.calls)
            assert table.layer_ms(name, channels_in, channels_out) == pytest.approx(expected), name
    assert table.rest_ms == pytest.approx(WALL * REST_MS)
    assert table.dense_ms == pytest.approx(timer.network_ms(net, SHAPE).p50_ms)
    table.check_network(net)


def test_without_kernels_the_whole_decides_the_scale(net: Net, tmp_path: Path) -> None:
    timer = KnownTimer(tells_nodes=False)
    table = measure_latency_table(net, SHAPE, timer, cache=cache(tmp_path, timer))
    dense_ms = timer.network_ms(net, SHAPE).p50_ms
    assert table.dense_ms == pytest.approx(dense_ms)
    alone_ms = sum(times.dense_ms for times in table.layers.values())
    assert table.rest_ms == pytest.approx(dense_ms - alone_ms)


class Fusing(KnownTimer):
    """A machine on which the whole takes less than its layers alone."""

    def network_ms(self, *_: object) -> LatencyReport:
        return summarise([0.01], batch=1, warmup_runs=0)


def test_a_whole_that_is_less_than_its_layers_leaves_no_rest(net: Net, tmp_path: Path) -> None:
    timer = Fusing(tells_nodes=False)
    table = measure_latency_table(net, SHAPE, timer, cache=cache(tmp_path, timer))
    assert table.rest_ms == 0.0
    assert table.dense_ms == pytest.approx(0.01)


def test_frozen_sides_are_measured_dense_only(net: Net, coupling: Coupling, tmp_path: Path) -> None:
    timer = KnownTimer()
    table = measure_latency_table(net, SHAPE, timer, coupling=coupling, cache=cache(tmp_path, timer))
    assert table.layers["stem"].channels_in_I == (3,)
    assert table.layers["head"].channels_out_O == (4,)
    assert len(table.layers["stem"].channels_out_O) > 1
    assert len(table.layers["depthwise"].channels_out_O) > 1
    assert len(table.layers["head"].channels_in_I) > 1


def test_what_was_measured_is_not_measured_again(net: Net, tmp_path: Path) -> None:
    first, second = KnownTimer(), KnownTimer()
    table = measure_latency_table(net, SHAPE, first, cache=cache(tmp_path, first), passes=2)
    assert len(first.points) == 2 * len(set(first.points))
    again = measure_latency_table(net, SHAPE, second, cache=cache(tmp_path, second))
    assert len(second.points) <= 2 * 24  # only a sample, to see that the machine is as it was
    assert len(second.points) < len(set(first.points))
    assert again == table


def test_times_of_a_busy_machine_are_taken_anew_when_it_is_quiet(net: Net, tmp_path: Path) -> None:
    class Busy(KnownTimer):
        def layer(self, layer: LayerShape, channels_in: int, channels_out: int) -> LayerTime:
            return LayerTime((1 + channels_out) * super().layer(layer, channels_in, channels_out).layer_ms, 0.1)

    busy, quiet, alone = Busy(), KnownTimer(), KnownTimer()
    measure_latency_table(net, SHAPE, busy, cache=cache(tmp_path / "a", busy))
    again = measure_latency_table(net, SHAPE, quiet, cache=cache(tmp_path / "a", quiet))
    assert again == measure_latency_table(net, SHAPE, alone, cache=cache(tmp_path / "b", alone))
    busy.points.clear()
    measure_latency_table(net, SHAPE, busy, cache=cache(tmp_path / "b", busy))  # and a quiet one's are kept
    assert len(busy.points) <= 2 * 24


def test_narrow_inputs_may_be_slower_than_a_block(net: Net, tmp_path: Path) -> None:
    class Reading(KnownTimer):
        granule = 2

        def layer(self, *point: object) -> LayerTime:
            return LayerTime(5.0 if cast("int", point[1]) < BLOCK else 1.0, 0.0)

    timer = Reading(tells_nodes=False)
    table = measure_latency_table(net, SHAPE, timer, cache=cache(tmp_path, timer))
    assert table.layers["head"].channels_in_I == (2, 3, 4, 8, 10)
    for channels_in in (1, 2, 3):
        assert table.layer_ms("head", channels_in, 4) == pytest.approx(5 * table.layer_ms("head", 4, 4))


class Resizing(KnownTimer):
    """A machine that spends its time on what is no layer."""

    other: tuple[Kernel, ...] = ()

    def network(self, segmenter: nn.Module, input_shape: Shape) -> NetworkTime:
        nodes = (*super().network(segmenter, input_shape).nodes, *self.other)
        return NetworkTime(summarise([sum(node.ms for node in nodes)], batch=1, warmup_runs=0), nodes)


def resizing(*maps: tuple[int, ...], to: tuple[int, ...] = ()) -> Kernel:
    return Kernel("Resize", maps, to, 1000.0)


UP, HEAD = (1, 10, 32, 48), (1, 4, 32, 48)
"""Outputs of these layers, as their kernels tell them."""


@pytest.mark.parametrize(
    ("others", "shares"),
    [
        ([resizing((1, 12, 16, 24))], {"twice": 1.0}),  # the latest layer that makes such a map
        ([resizing((1, 12, 16, 24), (1, 12, 16, 24))], {"twice": 1.0}),  # it was called twice
        ([resizing(*[(1, 12, 16, 24)] * 3)], {"twice": 2 / 3, "depthwise": 1 / 3}),
        ([resizing(UP, HEAD)], {"up": 10 / 14, "head": 4 / 14}),
        ([resizing(HEAD, to=(1, 4, 64, 96)), resizing((1, 4, 64, 96))], {"head": 2.0}),  # by way of another
        ([resizing(UP, HEAD, to=(1, 14, 32, 48)), resizing((1, 14, 32, 48))], {"up": 20 / 14, "head": 8 / 14}),
        ([resizing((1, 40, 5, 5))], {}),
        ([resizing((7,))], {}),
    ],
)
def test_other_operations_go_with_the_layers_whose_outputs_they_read(
    net: Net, tmp_path: Path, others: list[Kernel], shares: dict[str, float]
) -> None:
    timer, plain = Resizing(), Resizing()
    timer.other = tuple(others)
    with_it = measure_latency_table(net, SHAPE, timer, cache=cache(tmp_path, timer))
    without = measure_latency_table(net, SHAPE, plain, cache=cache(tmp_path, timer))
    for name, times in with_it.layers.items():
        carried_ms = 1000 * shares.get(name, 0.0)
        more_IO = times.grid_IO - without.layers[name].grid_IO
        outputs_O = np.asarray(times.channels_out_O)
        assert more_IO == pytest.approx(np.tile(carried_ms * outputs_O / outputs_O[-1], (len(more_IO), 1)), abs=1e-6)
    assert with_it.dense_ms == pytest.approx(without.dense_ms + 1000 * len(others))
    assert with_it.rest_ms - without.rest_ms == pytest.approx(1000 * (len(others) - sum(shares.values())), abs=1e-6)


class Slowing(KnownTimer):
    """A machine with other work to do at first."""

    def layer(self, layer: LayerShape, channels_in: int, channels_out: int) -> LayerTime:
        time = super().layer(layer, channels_in, channels_out)
        busy = self.points.count((layer, channels_in, channels_out)) == 1
        return LayerTime(time.layer_ms * (3 if busy else 1), time.around_ms)


def test_the_fastest_pass_counts(net: Net, tmp_path: Path) -> None:
    quiet, slowing = KnownTimer(), Slowing()
    expected = measure_latency_table(net, SHAPE, quiet, cache=cache(tmp_path / "a", quiet))
    assert measure_latency_table(net, SHAPE, slowing, cache=cache(tmp_path / "b", slowing), passes=2) == expected
    slowing = Slowing()
    slow = measure_latency_table(net, SHAPE, slowing, cache=cache(tmp_path / "c", slowing), passes=1)
    assert slow.layers["stem"].grid_IO == pytest.approx(expected.layers["stem"].grid_IO)  # fitted to the whole
    assert slowing.points == list(dict.fromkeys(slowing.points))


class Big(nn.Sequential):
    """Points enough for more than one save."""

    def __init__(self) -> None:
        super().__init__(*[nn.Conv2d(24, 24, size, padding=size // 2) for size in (1, 3, 5, 7, 9, 11)])


def test_a_kill_loses_no_more_than_what_was_not_saved(tmp_path: Path) -> None:
    network, whole = Big(), KnownTimer()
    shape = (1, 24, 6, 6)
    layers = layer_calls(network, shape)
    assert len(layers) == 6
    killed = KnownTimer(dies_after=53)
    with pytest.raises(KeyboardInterrupt):
        measure_latency_table(network, shape, killed, cache=cache(tmp_path, killed), passes=1)
    assert len(cache(tmp_path, killed)) == 50
    measure_latency_table(network, shape, whole, cache=cache(tmp_path, whole), passes=1)
    again = set(whole.points) & set(killed.points[:50])
    assert len(again) <= 2 * 24  # the sample
    assert len(set(whole.points) - again) + 50 == len(cache(tmp_path, whole))


@pytest.mark.parametrize("dies_after", [53, 120, 180])
def test_an_interrupted_measuring_goes_on_in_the_pass_it_was_in(tmp_path: Path, dies_after: int) -> None:
    network, shape = Big(), (1, 24, 6, 6)
    killed, rest, whole = KnownTimer(dies_after=dies_after), KnownTimer(), KnownTimer()
    expected = measure_latency_table(network, shape, whole, cache=cache(tmp_path / "whole", whole), passes=2)
    with pytest.raises(KeyboardInterrupt):
        measure_latency_table(network, shape, killed, cache=cache(tmp_path, killed), passes=2)
    found = measure_latency_table(network, shape, rest, cache=cache(tmp_path, rest), passes=2)
    assert found == expected
    again = len(rest.points) - (len(whole.points) - dies_after)
    assert again < 50 + 24  # what was not saved, and the sample


def test_noise_that_makes_narrow_layers_slow_is_taken_out(net: Net, tmp_path: Path) -> None:
    class Noisy(KnownTimer):
        def layer(self, *point: object) -> LayerTime:
            return LayerTime(1.0 if cast("int", point[2]) < 6 else 0.5, 0.0)

    timer = Noisy()
    table = measure_latency_table(net, SHAPE, timer, cache=cache(tmp_path, timer))
    for times in table.layers.values():
        assert (times.grid_IO[1:] >= times.grid_IO[:-1]).all()
        assert (times.grid_IO[:, 1:] >= times.grid_IO[:, :-1]).all()


class Blocked(KnownTimer):
    """A machine with a slow path for widths that are no multiple of two."""

    granule = 2

    def layer(self, layer: LayerShape, channels_in: int, channels_out: int) -> LayerTime:
        slow = 3.0 if channels_in % 2 else 1.0
        return LayerTime(slow * truth_ms(layer, channels_in, channels_out), 0.0)


def test_the_slow_path_is_measured_where_there_is_one(net: Net, tmp_path: Path) -> None:
    timer = Blocked()
    layers = measure_latency_table(net, SHAPE, timer, cache=cache(tmp_path, timer)).layers
    assert layers["twice"].ragged == pytest.approx(3.0)
    assert layers["head"].ragged == pytest.approx(3.0)
    assert layers["depthwise"].ragged == pytest.approx(3.0)
    assert layers["stem"].ragged == 1.0  # its input is within one block
    assert layers["up"].ragged == layers["scale"].ragged == 1.0  # no convolution


def test_refusals(net: Net, tmp_path: Path) -> None:
    timer = KnownTimer()
    with pytest.raises(ExportError, match="nothing to time"):
        measure_latency_table(nn.Identity(), SHAPE, timer, cache=cache(tmp_path, timer))
    with pytest.raises(ExportError, match="at least 1 pass"):
        measure_latency_table(net, SHAPE, timer, cache=cache(tmp_path, timer), passes=0)
    other = LatencyCache(Machine("other", "none", 1, "fp32"), tmp_path)
    with pytest.raises(ExportError, match=r"The cache is of .*other"):
        measure_latency_table(net, SHAPE, timer, cache=other)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}'])
def test_a_damaged_cache_says_what_to_delete(tmp_path: Path, content: str) -> None:
    machine = Machine("this", "none", 1, "fp32")
    path = LatencyCache(machine, tmp_path).path
    path.write_text(content)
    with pytest.raises(ExportError, match=r"Delete it") as refusal:
        LatencyCache(machine, tmp_path)
    assert str(path) in str(refusal.value)
    assert "Repeat the step" not in str(refusal.value)


def test_a_meter_measures_tables_and_networks(net: Net, tmp_path: Path) -> None:
    timer = KnownTimer()
    steps: list[tuple[int, int]] = []
    meter = LatencyMeter(
        timer, cache=cache(tmp_path, timer), on_progress=lambda done, total: steps.append((done, total))
    )
    segmenter = Segmenter(net, 4)
    table = meter.table(segmenter, SHAPE)
    assert meter.machine == table.machine == timer.machine
    assert meter.network_ms(segmenter, SHAPE) == pytest.approx(table.dense_ms)
    assert steps == [(done, len(timer.points)) for done in range(1, len(timer.points) + 1)]
    with pytest.raises(ExportError, match="batch, 3, height, width"):
        meter.network_ms(segmenter, (1, 4, 32, 48))


def test_meters_that_cannot_be_opened() -> None:
    with pytest.raises(ExportError, match="ort, tensorrt, got 'tflite'"):
        open_meter("tflite")  # type: ignore[arg-type]  # what is refused
    with pytest.raises(ExportError, match="fp16"):
        open_meter(precision="fp16")
    with pytest.raises(ExportError, match="threads cannot be -1"):
        open_meter(threads=-1)


@pytest.fixture(scope="module")
def measured(net: Net, coupling: Coupling, tmp_path_factory: pytest.TempPathFactory) -> LatencyTable:
    """The real thing: ONNX Runtime, one thread."""
    timer = OrtTimer(1)
    folder = tmp_path_factory.mktemp("cache")
    return measure_latency_table(net, SHAPE, timer, coupling=coupling, cache=cache(folder, timer), passes=1)


def test_onnx_runtime_gives_a_time_for_every_layer(net: Net, measured: LatencyTable) -> None:
    measured.check_network(net)
    assert list(measured.layers) == ["stem", "depthwise", "twice", "up", "scale", "head"]
    assert all(times.grid_IO.min() > 0 for times in measured.layers.values())
    assert 0 <= measured.rest_ms < measured.dense_ms
    assert measured.machine.runtime.startswith("onnxruntime ")
    assert measured.machine.threads == 1
    assert measured.block in (1, 8, 16)
    assert LatencyTable.from_json(measured.to_json()) == measured
    narrow = {name: (times.channels_in_I[0], times.channels_out_O[0]) for name, times in measured.layers.items()}
    assert measured.network_ms(narrow) <= measured.dense_ms


def test_the_kernels_of_all_layers_are_found_inside_the_network(net: Net) -> None:
    timer = OrtTimer(1)
    kernels = [_node_key(node, timer.block) for node in timer.network(net, SHAPE).nodes if is_layer(node)]
    calls = [_call_key(layer, call, timer.block) for layer in layer_calls(net, SHAPE).values() for call in layer.calls]
    assert sorted(map(str, kernels)) == sorted(map(str, calls))


def test_networks_are_compared_in_alternation(net: Net) -> None:
    reports = compare_latencies({"one": net, "other": net}, SHAPE, runs=3)
    assert list(reports) == ["one", "other"]
    assert all(report.runs == 3 and report.p50_ms > 0 for report in reports.values())


def test_widths_of_a_layer_time_are_those_of_the_module(net: Net, measured: LatencyTable) -> None:
    widths = widths_of(net, measured.layers)
    dense: dict[str, LayerTimes] = dict(measured.layers)
    assert {name: (t.channels_in_I[-1], t.channels_out_O[-1]) for name, t in dense.items()} == widths
