"""A price is of what the network computes, not of how it is written down: networks that are equal have equal prices."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunekit.errors import PruneError
from prunekit.models.ccs import CCSHead
from prunekit.pruning.criteria import CRITERIA
from prunekit.pruning.evidence import Evidence

Make = Callable[..., Evidence]
MEASURED = ("sirfp", "sirfp-unweighted", "sirfp-clique", "sirfp-v2", "obspa")
CLASSES = 4


class Net(nn.Module):
    """make -> relu -> a reader that differs -> classifier."""

    def __init__(self, read: nn.Module, width: int = 6, made: int = 8, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.make, self.classifier = nn.Conv2d(3, made, 1), nn.Conv2d(width, CLASSES, 1)
        self.read = read

    def forward(self, images: Tensor) -> Tensor:
        logits = self.classifier(F.relu(self.read(F.relu(self.make(images)))))
        return F.interpolate(logits, images.shape[-2:]) if logits.shape[-2:] != images.shape[-2:] else logits


class Windows(nn.Module):
    """A linear layer on windows of 4x4 places, as in Swin: rows are windows, not images."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.linear = nn.Linear(conv.in_channels, conv.out_channels)
        self.linear.weight.data = conv.weight.data[:, :, 0, 0].clone()
        self.linear.bias.data = conv.bias.data.clone()

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        rows = x.reshape(batch, channels, height // 4, 4, width // 4, 4).permute(0, 2, 4, 3, 5, 1)
        y = self.linear(rows.reshape(-1, 16, channels)).reshape(batch, height // 4, width // 4, 4, 4, -1)
        return y.permute(0, 5, 1, 3, 2, 4).reshape(batch, -1, height, width)


class Flat(nn.Module):
    """A linear layer on a flattened map, as at the end of a classifier."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.linear = nn.Linear(conv.weight[0].numel(), conv.out_channels)
        self.linear.weight.data = conv.weight.data.flatten(1).clone()
        self.linear.bias.data = conv.bias.data.clone()

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1))[..., None, None]


class Pair(nn.Module):
    """Two layers with equal weights: one tensor, or two."""

    def __init__(self, tied: bool) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.left, self.right = nn.Conv2d(8, 6, 1, bias=False), nn.Conv2d(8, 6, 1, bias=False)
        self.tied = tied
        if tied:
            self.right.weight = self.left.weight
        else:
            self.right.weight.data = self.left.weight.data.clone()

    def extra_repr(self) -> str:
        return f"tied={self.tied}"

    def forward(self, x: Tensor) -> Tensor:
        return 1e-3 * self.left(x) + self.right(x)


def conv(kernel: int) -> nn.Conv2d:
    torch.manual_seed(5)
    return nn.Conv2d(8, 6, kernel)


def frozen(network: Net) -> Net:
    network.make.requires_grad_(False)
    network.read.requires_grad_(False)
    return network


def prices(evidence: Evidence, criterion: str = "sirfp", group: str = "make") -> Tensor:
    """Return the prices by unit."""
    ranking = CRITERIA[criterion].rank(evidence)[group]
    return torch.zeros(len(ranking.order_U), dtype=torch.float64).index_put(
        (torch.from_numpy(ranking.order_U),), torch.from_numpy(ranking.price_U)
    )


@pytest.mark.parametrize("criterion", ["sirfp", "sirfp-unweighted"])
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: Net(conv(1)), lambda: Net(Windows(conv(1)))),
        (lambda: Net(conv(8)), lambda: Net(Flat(conv(8)))),
        (lambda: Net(Pair(tied=False)), lambda: Net(Pair(tied=True))),
        (lambda: Net(conv(3)), lambda: frozen(Net(conv(3)))),
    ],
    ids=["rows of windows", "flattened maps", "tied weights", "frozen layers"],
)
def test_equal_networks_have_equal_prices(
    evidence_for: Make, one: Callable[[], Net], other: Callable[[], Net], criterion: str
) -> None:
    first, second = evidence_for(one()), evidence_for(other())
    images = next(iter(first.batches())).images_B3HW
    with torch.no_grad():
        torch.testing.assert_close(first.network(images), second.network(images))
    torch.testing.assert_close(prices(first, criterion), prices(second, criterion), rtol=1e-3, atol=1e-9)


def test_a_transposed_layer_costs_what_the_shuffled_one_does(evidence_for: Make) -> None:
    """Not exactly: the phases of a shuffle are weighed with their correlations, the places of a kernel without."""
    torch.manual_seed(5)
    up, wide = nn.ConvTranspose2d(8, 6, 2, stride=2), nn.Conv2d(8, 24, 1)
    wide.weight.data = up.weight.data.permute(1, 2, 3, 0).reshape(24, 8, 1, 1).clone()
    wide.bias.data = up.bias.data.repeat_interleave(4)
    half = nn.AvgPool2d(2)
    transposed, shuffled = (
        Net(read) for read in (nn.Sequential(half, up), nn.Sequential(half, wide, nn.PixelShuffle(2)))
    )
    ratio = prices(evidence_for(transposed)).sum() / prices(evidence_for(shuffled)).sum()
    assert 0.7 < float(ratio) < 1.4


class Side(nn.Module):
    """A second output that the loss ignores."""

    def __init__(self, side: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.make, self.main = nn.Conv2d(3, 8, 1), nn.Conv2d(8, CLASSES, 1)
        self.side, self.end = nn.Conv2d(8, 5, 1), nn.Conv2d(5, 2, 1)
        self.with_side = side

    def extra_repr(self) -> str:
        return f"side={self.with_side}"

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.make(images))
        if self.with_side:
            return self.main(x) + 0.0 * self.end(F.relu(self.side(x))).detach().mean()
        return self.main(x)


def test_what_the_loss_ignores_costs_nothing(evidence_for: Make) -> None:
    with_side, without = evidence_for(Side(True)), evidence_for(Side(False))
    torch.testing.assert_close(prices(with_side), prices(without), rtol=1e-3, atol=1e-12)
    assert prices(with_side, group="side").max() == 0.0


class Auxiliary(nn.Module):
    """A head that only training runs, hidden behind the mode."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.make, self.main = nn.Conv2d(3, 8, 1), nn.Conv2d(8, CLASSES, 1)
        self.aux = nn.Sequential(nn.Conv2d(8, 5, 1), nn.ReLU(), nn.Conv2d(5, CLASSES, 1))

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.make(images))
        return self.main(x) + self.aux(x) if self.training else self.main(x)


@pytest.mark.parametrize("criterion", MEASURED)
def test_heads_of_training_alone_are_free(evidence_for: Make, criterion: str) -> None:
    evidence = evidence_for(Auxiliary())
    assert set(evidence.coupling.layer_macs()) == {"make", "main"}
    assert evidence.coupling.macs() == 2 * 64 * (3 * 8 + 8 * CLASSES)
    assert {group.name for group in evidence.coupling.free} == {"make", "aux.0"}
    rankings = CRITERIA[criterion].rank(evidence)
    assert rankings["make"].price_U.max() > 0.0 == rankings["aux.0"].price_U.max()


@pytest.mark.parametrize("criterion", ["sirfp", "sirfp-unweighted"])
def test_all_channels_of_a_unit_count(evidence_for: Make, criterion: str) -> None:
    """Four channels of a norm's group go together; all but the first of unit 1 matter fifty times as much."""
    network = Net(nn.Sequential(nn.GroupNorm(4, 16), nn.Conv2d(16, 6, 1)), made=16)
    evidence = evidence_for(network)
    (unit_1,) = [group.units[1] for group in evidence.coupling.free if group.name == "make"]
    slot = next(slot for group in evidence.coupling.free for slot in group.slots if slot.parameter == "read.1.weight")
    own = torch.from_numpy((slot.labels == unit_1).nonzero()[0])
    assert len(own) == 4
    with torch.no_grad():
        network.read[1].weight[:, own[1:]] *= 50
    assert int(prices(evidence, criterion).argmax()) == 1


def test_adaptation_that_does_nothing_yet_costs_nothing(evidence_for: Make) -> None:
    """A fresh CCS head computes what its coarse classifier does, and is priced like it."""

    class Head(nn.Module):
        def __init__(self, adapted: bool) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.make = nn.Conv2d(3, 8, 1)
            head = CCSHead(8, CLASSES)
            self.head = head if adapted else head.coarse

        def forward(self, images: Tensor) -> Tensor:
            return self.head(F.relu(self.make(images)))

    adapted, plain = evidence_for(Head(True)), evidence_for(Head(False))
    images = next(iter(plain.batches())).images_B3HW
    with torch.no_grad():
        torch.testing.assert_close(adapted.network(images), plain.network(images))
    torch.testing.assert_close(prices(adapted), prices(plain), rtol=1e-3, atol=1e-12)


class Similarity(nn.Module):
    """A classifier that reads all channels alike, and a product with scene vectors in which one of them weighs most."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.make, self.coarse, self.centre = nn.Conv2d(3, 8, 1), nn.Conv2d(8, CLASSES, 1), nn.Linear(8, CLASSES * 8)
        with torch.no_grad():
            rows_KD8 = self.centre.weight.view(CLASSES, 8, 8)
            rows_KD8[:, 5] *= scale
            rows_KD8[:, :5] *= 0
            rows_KD8[:, 6:] *= 0
            self.centre.bias.zero_()

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.make(images))
        centres_BKD = self.centre(x.mean((2, 3))).unflatten(1, (CLASSES, -1))
        return self.coarse(x) + torch.bmm(centres_BKD, x.flatten(2)).unflatten(2, x.shape[2:])


def test_a_channel_that_a_product_reads_costs_what_it_does_there(evidence_for: Make) -> None:
    strong, weak = prices(evidence_for(Similarity(20.0))), prices(evidence_for(Similarity(0.0)))
    assert int(strong.argmax()) == 5
    assert strong[5] > 10 * weak[5]


@pytest.mark.parametrize("criterion", ["sirfp", "sirfp-unweighted", "sirfp-clique", "obspa"])
def test_what_is_not_finite_is_refused(evidence_for: Make, criterion: str) -> None:
    network = Net(conv(1))
    evidence = evidence_for(network)
    with torch.no_grad():
        network.make.weight[0, 0] = torch.nan
    with pytest.raises(PruneError, match="finite"):
        CRITERIA[criterion].rank(evidence)
