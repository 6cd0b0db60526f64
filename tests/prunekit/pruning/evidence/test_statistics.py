"""The collector: what it sums, how often, over how many ranks."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from prunekit.pruning import analyse
from prunekit.pruning.evidence import POSITIONS, Collector, at_places, collect
from prunekit.pruning.evidence.moments import STRIPS_FROM, _gram


def chain() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 2, 1))


def images(seed: int, size: int = 8) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_small_maps_are_summed_whole_where_the_consumer_sees_them() -> None:
    network = chain()
    (seen,) = collect(network, analyse(network, (images(0),)), [images(0), images(1)]).seen("0")
    with torch.no_grad():
        x_UN = torch.cat([network[:2](images(seed)).movedim(1, 0).flatten(1) for seed in (0, 1)], dim=1).double()
    assert (seen.at, seen.layer, seen.places) == ("input", "2", x_UN.shape[1])
    torch.testing.assert_close(seen.moment_UU, x_UN @ x_UN.T, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(seen.sum_U, x_UN.sum(dim=1), rtol=1e-5, atol=1e-5)


def test_large_maps_are_sampled() -> None:
    network = chain()
    (seen,) = collect(network, analyse(network, (images(0),)), [images(0, size=64)]).seen("0")
    assert seen.places == POSITIONS
    with torch.no_grad():
        x_UN = network[:2](images(0, size=64)).movedim(1, 0).flatten(1).double()
    whole = x_UN @ x_UN.T / x_UN.shape[1]
    assert torch.linalg.norm(seen.moment_UU / seen.places - whole) < 0.15 * torch.linalg.norm(whole)


def test_every_second_pass_is_measured() -> None:
    network = chain()
    coupling = analyse(network, (images(0),))
    with Collector(network, coupling, every=2) as collector:
        for seed in range(5):
            network(images(seed))
    thinned = collector.statistics()
    whole = collect(network, coupling, [images(seed) for seed in (0, 2, 4)])
    (one,), (two,) = thinned.seen("0"), whole.seen("0")
    assert one.places == two.places
    torch.testing.assert_close(one.moment_UU, two.moment_UU)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in network.modules())


def test_half_precision_features_are_summed_in_single_precision() -> None:
    network = chain()
    coupling = analyse(network, (images(0),))
    with Collector(network, coupling) as collector, torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        network(images(0))
        features = network[:2](images(0))
    assert features.dtype == torch.bfloat16
    (seen,) = collector.statistics().seen("0")
    x_UN = features.movedim(1, 0).flatten(1).double()
    torch.testing.assert_close(seen.moment_UU, x_UN @ x_UN.T, rtol=1e-5, atol=1e-4)


def _rank(rank: int, folder: str) -> None:
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    network = chain()
    with Collector(network, analyse(network, (images(0),))) as collector, torch.no_grad():
        network(images(rank))
    (seen,) = collector.statistics().seen("0")
    torch.save([seen.places, seen.sum_U, seen.moment_UU], f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="this torch has no gloo")
def test_ranks_see_each_other_s_images(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ranks = [context.Process(target=_rank, args=(rank, str(tmp_path))) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
    assert [process.exitcode for process in ranks] == [0, 0]
    network = chain()
    (want,) = collect(network, analyse(network, (images(0),)), [images(0), images(1)]).seen("0")
    for rank in range(2):
        places, sum_U, moment_UU = torch.load(tmp_path / f"{rank}.pt")
        assert places == want.places
        torch.testing.assert_close(sum_U, want.sum_U, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(moment_UU, want.moment_UU, rtol=1e-5, atol=1e-5)


class Branches(nn.Module):
    """Two layers read one tensor, the second after it was written to, as in-place activations do."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.make, self.one, self.two = nn.Conv2d(3, 5, 1), nn.Conv2d(5, 2, 1), nn.Conv2d(5, 2, 1)
        self.write = False

    def forward(self, batch: Tensor) -> Tensor:
        x = torch.relu(self.make(batch))
        return self.one(x) + self.two(x.mul_(2) if self.write else x)


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_branches_share_what_they_read_as_long_as_it_is_the_same(write: bool, mode: Callable[[], Any]) -> None:
    network = Branches()
    coupling = analyse(network, (images(0),))
    network.write = write
    with Collector(network, coupling) as collector, mode():
        network(images(0, size=64))
    one, two = collector.statistics().seen("make")
    torch.testing.assert_close(two.sum_U, one.sum_U * (2 if write else 1), rtol=0.1, atol=0)


def test_producers_are_measured_until_a_consumer_is_seen() -> None:
    network = chain()
    coupling = analyse(network, (images(0),))
    places = {}
    for producers in (False, True):
        with Collector(network, coupling, producers=producers) as collector, torch.no_grad():
            for seed in range(3):
                network(images(seed))
        (places[producers],) = [one.places for one in collector.statistics().groups["0"] if one.at == "output"]
    assert places[True] == 3 * places[False] > 0


@pytest.mark.parametrize("units", [1, 3, STRIPS_FROM - 1, STRIPS_FROM, STRIPS_FROM + 1, 1030])
def test_strips_are_the_whole_product(units: int) -> None:
    x_UN = torch.randn(units, 37, generator=torch.Generator().manual_seed(units))
    torch.testing.assert_close(_gram(x_UN).double(), x_UN.double() @ x_UN.T.double(), rtol=1e-5, atol=1e-4)


@given(
    batch=st.integers(1, 4),
    channels=st.integers(1, 9),
    places=st.integers(2, 40),
    layout=st.sampled_from(["contiguous", "channels last", "expanded", "every second"]),
    data=st.data(),
)
def test_places_are_taken_from_any_layout(
    batch: int, channels: int, places: int, layout: str, data: st.DataObject
) -> None:
    x_BCN = torch.arange(float(batch * channels * places)).view(batch, channels, places)
    if layout == "channels last":
        x_BCN = x_BCN.transpose(1, 2).contiguous().transpose(1, 2)
    elif layout == "expanded":
        x_BCN = x_BCN[:1].expand(batch, -1, -1)
    elif layout == "every second":
        x_BCN = x_BCN[:, ::2, ::2]
    width = x_BCN.shape[2]
    chosen_P = torch.tensor(data.draw(st.lists(st.integers(0, width - 1), min_size=1, max_size=6)))
    assert torch.equal(at_places(x_BCN, chosen_P), x_BCN[:, :, chosen_P])
