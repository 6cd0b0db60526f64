import pytest
import torch
from torch import Tensor, nn

from prunekit.errors import PruneError
from prunekit.pruning import analyse
from prunekit.pruning.clique import greedy
from prunekit.pruning.evidence import collect, redundancy
from prunekit.pruning.evidence.redundancy_matrix import cosine


class TwinChannels(nn.Module):
    """Channels 1 and 3 of the first layer are the same filter at another scale."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.Conv2d(4, 2, 1)
        with torch.no_grad():
            self.first.weight[3] = 2.5 * self.first.weight[1]

    def forward(self, images: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(images)))


def images(count: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 3, 16, 16, generator=generator) for _ in range(count)]


def test_twins_repeat_each_other_whatever_their_scale() -> None:
    network = TwinChannels()
    coupling = analyse(network, (images()[0],))
    repeated = redundancy(collect(network, coupling, images()), "first")
    assert repeated[1, 3] == pytest.approx(1, abs=1e-5)
    others = repeated.masked_fill(torch.eye(4, dtype=torch.bool), 0)
    others[1, 3] = others[3, 1] = 0
    assert float(others.max()) < 0.95
    kept = greedy(repeated, 3).tolist()
    assert (1 in kept) != (3 in kept), "one twin goes first, the other stays"


def test_redundancy_does_not_depend_on_the_scale_of_a_channel() -> None:
    network = TwinChannels()
    coupling = analyse(network, (images()[0],))
    before = redundancy(collect(network, coupling, images()), "first")
    with torch.no_grad():
        network.first.weight[0] *= 100
    after = redundancy(collect(network, coupling, images()), "first")
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)


def test_a_silent_channel_repeats_everything() -> None:
    features_CN = torch.randn(3, 50)
    features_CN[1] = 0
    repeated = cosine(features_CN @ features_CN.T)
    assert repeated[1, [0, 2]].tolist() == [1, 1]
    assert repeated.diagonal().tolist() == [0, 0, 0]


def test_collecting_leaves_the_network_as_it_was() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    collect(network, analyse(network, (images()[0],)), images())
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_without_data_there_is_one_clear_error() -> None:
    network = TwinChannels()
    with pytest.raises(PruneError, match="never used"):
        collect(network, analyse(network, (images()[0],)), [])
