import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from prunekit.errors import PruneError, PrunekitError
from prunekit.pruning.latency import LatencyTable, LayerTimes, Machine, widths_of

MACHINE = Machine("a processor", "a runtime 1.2", 1, "fp32")


def grid(inputs: list[int], outputs: list[int], *, slope: float = 1e-3, start: float = 0.05) -> LayerTimes:
    """Times that are bilinear in both widths: interpolation must give them back."""
    rows = tuple(tuple(start + slope * i + 2 * slope * o + slope**2 * i * o for o in outputs) for i in inputs)
    return LayerTimes(tuple(inputs), tuple(outputs), rows)


def table(block: int = 1, granule: int = 1, ragged: float = 1.0) -> LatencyTable:
    wide = grid([16, 64, 128], [16, 32, 96])
    layers = {
        "first": LayerTimes(wide.channels_in_I, wide.channels_out_O, wide.ms_IO, ragged),
        "depthwise": grid([40], [8, 16, 40]),
    }
    return LatencyTable(MACHINE, (1, 3, 32, 64), layers, 0.75, block, granule)


widths = st.lists(st.integers(1, 300), min_size=1, max_size=6, unique=True).map(sorted)


@st.composite
def monotone_tables(draw: st.DrawFn) -> tuple[LatencyTable, int, int]:
    inputs, outputs = draw(widths), draw(widths)
    steps = draw(st.lists(st.floats(0, 5), min_size=len(inputs) * len(outputs), max_size=len(inputs) * len(outputs)))
    rising_IO = np.asarray(steps).reshape(len(inputs), len(outputs)).cumsum(axis=0).cumsum(axis=1)
    rows = tuple(tuple(map(float, row)) for row in rising_IO)
    layer = LayerTimes(tuple(inputs), tuple(outputs), rows)
    return (
        LatencyTable(MACHINE, (1, 3, 8, 8), {"a": layer}, 0.0, draw(st.sampled_from([1, 4, 16]))),
        inputs[-1],
        outputs[-1],
    )


@given(st.floats(16, 128), st.floats(16, 96))
def test_between_measured_widths_times_are_bilinear(channels_in: float, channels_out: float) -> None:
    expected = 0.05 + 1e-3 * channels_in + 2e-3 * channels_out + 1e-6 * channels_in * channels_out
    assert table().layer_ms("first", channels_in, channels_out) == pytest.approx(expected, rel=1e-9)


@given(monotone_tables(), st.data())
def test_a_narrower_layer_is_never_slower(drawn: tuple[LatencyTable, int, int], data: st.DataObject) -> None:
    measured, dense_in, dense_out = drawn
    small = (data.draw(st.integers(1, dense_in)), data.draw(st.integers(1, dense_out)))
    large = (data.draw(st.integers(small[0], dense_in)), data.draw(st.integers(small[1], dense_out)))
    assert measured.layer_ms("a", *small) <= measured.layer_ms("a", *large) + 1e-9
    assert measured.layer_ms("a", *large) <= measured.dense_ms + 1e-9


@given(monotone_tables(), st.data())
def test_measured_widths_give_what_was_measured(drawn: tuple[LatencyTable, int, int], data: st.DataObject) -> None:
    measured = drawn[0]
    times = measured.layers["a"]
    i = data.draw(st.integers(0, len(times.channels_in_I) - 1))
    o = data.draw(st.integers(0, len(times.channels_out_O) - 1))
    aligned = all(width % measured.block == 0 for width in (*times.channels_in_I, *times.channels_out_O))
    if aligned:
        assert measured.layer_ms("a", times.channels_in_I[i], times.channels_out_O[o]) == pytest.approx(
            times.ms_IO[i][o]
        )
    assert measured.layer_ms("a", times.channels_in_I[-1], times.channels_out_O[-1]) == pytest.approx(times.dense_ms)


@given(st.lists(st.tuples(st.floats(1, 128), st.floats(1, 96)), min_size=1, max_size=20))
def test_many_look_ups_are_the_single_ones(pairs: list[tuple[float, float]]) -> None:
    measured = table(block=16, granule=4, ragged=1.5)
    together_N = measured.layer_ms_N("first", [pair[0] for pair in pairs], [pair[1] for pair in pairs])
    assert together_N.tolist() == [measured.layer_ms("first", *pair) for pair in pairs]


def test_look_ups_broadcast() -> None:
    assert table().layer_ms_N("first", [[16], [32], [64]], [16, 96]).shape == (3, 2)


@pytest.mark.parametrize(("channels", "as_much_as"), [(17, 32), (24, 32), (32, 32), (33, 48), (90, 96)])
def test_a_part_of_a_block_costs_a_whole_one(channels: int, as_much_as: int) -> None:
    measured = table(block=16)
    assert measured.layer_ms("first", 128, channels) == measured.layer_ms("first", 128, as_much_as)
    assert measured.layer_ms("first", channels, 96) == measured.layer_ms("first", as_much_as, 96)


def test_within_the_first_block_widths_are_not_rounded() -> None:
    measured = table(block=16)
    assert measured.layer_ms("depthwise", 8, 8) < measured.layer_ms("depthwise", 12, 12)
    assert measured.layer_ms("depthwise", 12, 12) < measured.layer_ms("depthwise", 16, 16)


@pytest.mark.parametrize(("channels_in", "slow"), [(126, True), (64, False), (128, False), (15, False), (63, True)])
def test_ragged_inputs_take_longer(channels_in: int, slow: bool) -> None:
    regular = table(block=16, granule=4).layer_ms("first", channels_in, 96)
    got = table(block=16, granule=4, ragged=1.5).layer_ms("first", channels_in, 96)
    assert got == pytest.approx(regular * (1.5 if slow else 1.0))


def test_a_dense_layer_was_measured_as_it_is_even_if_ragged() -> None:
    odd = LayerTimes((8, 30), (8, 30), ((1.0, 2.0), (2.0, 3.0)), ragged=4.0)
    assert LatencyTable(MACHINE, (1, 3, 8, 8), {"odd": odd}, 0.0, 8, 4).layer_ms("odd", 30, 30) == 3.0


def test_one_measured_input_means_that_the_output_decides() -> None:
    measured = table()
    assert measured.layer_ms("depthwise", 1, 16) == measured.layer_ms("depthwise", 40, 16)


def test_a_network_is_its_layers_and_the_rest() -> None:
    measured = table()
    assert measured.dense_ms == pytest.approx(
        0.75 + measured.layer_ms("first", 128, 96) + measured.layer_ms("depthwise", 40, 40)
    )
    assert measured.network_ms({}) == pytest.approx(measured.dense_ms)
    assert measured.network_ms({"first": (64, 32)}) == pytest.approx(
        measured.dense_ms - measured.layer_ms("first", 128, 96) + measured.layer_ms("first", 64, 32)
    )


@given(st.floats(1e-3, 1e3), st.integers(1, 128), st.integers(1, 96))
def test_scaling_multiplies_everything(factor: float, channels_in: int, channels_out: int) -> None:
    plain, scaled = table(block=16), table(block=16).scaled(factor)
    pair = {"first": (channels_in, channels_out)}
    assert scaled.network_ms(pair) == pytest.approx(factor * plain.network_ms(pair))
    assert scaled.dense_ms == pytest.approx(factor * plain.dense_ms)


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_is_a_positive_number(factor: float) -> None:
    with pytest.raises(PruneError, match=r"above 0"):
        table().scaled(factor)


@pytest.mark.parametrize("pair", [(0, 16), (16, 0), (129, 16), (16, 97), (float("nan"), 16)])
def test_widths_outside_the_layer_are_refused(pair: tuple[float, float]) -> None:
    with pytest.raises(PruneError, match=r"first has 1 to (128|96) channels"):
        table().layer_ms("first", *pair)


def test_an_unknown_layer_is_refused() -> None:
    with pytest.raises(PruneError, match="no layer third"):
        table().layer_ms("third", 1, 1)


@settings(max_examples=30)
@given(monotone_tables())
def test_json_gives_the_table_back(drawn: tuple[LatencyTable, int, int]) -> None:
    measured = drawn[0]
    assert LatencyTable.from_json(json.loads(json.dumps(measured.to_json()))) == measured
    assert LatencyTable.from_json(measured.to_json()) == measured


def test_a_file_gives_the_table_back(tmp_path: Path) -> None:
    measured = table(16, 4, 2.0)
    measured.save(tmp_path / "table.json")
    assert LatencyTable.load(tmp_path / "table.json") == measured


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"rest_ms": -1.0},
        {"rest_ms": float("nan")},
        {"rest_ms": "1"},
        {"block": 0},
        {"extra": 1},
        {"machine": {"device": "a", "runtime": "b", "threads": -1, "precision": "fp32"}},
        {"layers": {"a": {"channels_in_I": [2, 1], "channels_out_O": [1], "ms_IO": [[1.0], [2.0]], "ragged": 1.0}}},
        {"layers": {"a": {"channels_in_I": [1, 2], "channels_out_O": [1], "ms_IO": [[1.0]], "ragged": 1.0}}},
        {"layers": {"a": {"channels_in_I": [], "channels_out_O": [1], "ms_IO": [], "ragged": 1.0}}},
    ],
)
def test_a_damaged_file_is_refused_in_one_sentence(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "table.json"
    path.write_text(json.dumps({**table().to_json(), **change}))
    with pytest.raises(PrunekitError, match=r"[Mm]easure|NaN"):
        LatencyTable.load(path)


def test_what_is_no_table_at_all_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text("[]")
    for name in ("absent.json", "list.json"):
        with pytest.raises(PrunekitError):
            LatencyTable.load(tmp_path / name)


@pytest.mark.parametrize("field", ["device", "runtime", "threads", "precision"])
def test_a_table_of_another_machine_is_refused_by_name(field: str) -> None:
    here = {"device": "a processor", "runtime": "a runtime 1.2", "threads": 1, "precision": "fp32"}
    table().check_machine(Machine(**here))  # type: ignore[arg-type]  # mixed values
    here[field] = 8 if field == "threads" else "other"
    with pytest.raises(PruneError, match=rf"now {field} .* instead of "):
        table().check_machine(Machine(**here))  # type: ignore[arg-type]  # mixed values


def network(channels_in: int = 128, channels_out: int = 96) -> nn.Module:
    return nn.ModuleDict(
        {"first": nn.Conv2d(channels_in, channels_out, 1), "depthwise": nn.Conv2d(40, 40, 3, groups=40)}
    )


def test_a_table_of_another_network_is_refused() -> None:
    table().check_network(network())
    with pytest.raises(PruneError, match="here they are 64 and 96"):
        table().check_network(network(channels_in=64))
    with pytest.raises(PruneError, match="depthwise, which is missing"):
        table().check_network(nn.ModuleDict({"first": nn.Conv2d(128, 96, 1)}))
    with pytest.raises(PruneError, match="first, which is a ReLU"):
        table().check_network(nn.ModuleDict({"first": nn.ReLU()}))


def test_widths_count_all_groups_together() -> None:
    layers = nn.ModuleDict(
        {"grouped": nn.Conv2d(8, 12, 1, groups=4), "up": nn.ConvTranspose2d(6, 4, 2), "linear": nn.Linear(5, 7)}
    )
    assert widths_of(layers, dict(layers)) == {"grouped": (8, 12), "up": (6, 4), "linear": (5, 7)}
    assert torch.is_tensor(layers["up"].weight)
