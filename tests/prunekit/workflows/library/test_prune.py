"""One call prunes a module as the command would: what matters stays, wherever it stands."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import prunekit
from prunekit.errors import PruneError
from prunekit.pruning import arbitrary_plan, exactness, pruned, uniform_plan


def network() -> nn.Module:
    """What is read stands in the second half of the channels: nothing reads the first."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 4, 1)]
    with torch.no_grad():
        layers[3].weight[:, :32] = 0
    return nn.Sequential(*layers).eval()


def batches(count: int = 2, size: int = 16) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    images = [torch.randn(2, 3, size, size, generator=generator) for _ in range(count)]
    return [(image, torch.randint(0, 4, (2, size, size), generator=generator)) for image in images]


def settled(module: nn.Module) -> nn.Module:
    """Batch norms that have seen the images: the call measures them anew."""
    module[1].momentum = None
    with torch.no_grad():
        for images, _ in batches():
            module.train()(images)
    return module.eval()


def agreement(one: nn.Module, other: nn.Module) -> float:
    images = torch.cat([image for image, _ in batches()])
    with torch.no_grad():
        return float((one(images).argmax(1) == other(images).argmax(1)).float().mean())


def kept(plan: prunekit.Plan) -> tuple[int, ...]:
    return next(row.keep for row in plan.slices if row.parameter == "0.weight")


def test_what_is_read_stays_and_an_arbitrary_cut_loses_it() -> None:
    dense = settled(network()).train()
    before = {name: value.clone() for name, value in dense.state_dict().items()}
    state = torch.get_rng_state()
    small, report = prunekit.prune(dense, batches(), ratio=0.5, return_report=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert dense.training
    assert not small.training
    assert all(torch.equal(value, before[name]) for name, value in dense.state_dict().items())
    assert small[0].out_channels == 32
    assert report.macs_after == report.macs_before // 2
    assert report.ratio == pytest.approx(0.5)
    assert report.exactness <= 1e-4
    assert (report.criterion, report.allocation, report.batches, report.labelled) == ("sirfp", "cost", 2, True)
    assert "50.0% removed" in str(report)
    dense.eval()
    assert agreement(dense, small) > 0.99
    assert type(small[0]) is nn.Conv2d
    arbitrary = pruned(dense, arbitrary_plan(prunekit.analyse(dense, batches()[0][0]), 0.5))
    assert arbitrary[0].out_channels == 32
    assert agreement(dense, arbitrary) < 0.9


def test_without_a_report_the_network_comes_alone() -> None:
    small = prunekit.prune(settled(network()), batches())
    assert isinstance(small, nn.Sequential)
    assert small[0].out_channels == 32


@pytest.mark.parametrize("name", prunekit.CRITERIA)
def test_every_criterion_prunes_a_module(name: str) -> None:
    dense = settled(network())
    small, report = prunekit.prune(dense, iter(batches()), ratio=0.5, criterion=name, return_report=True)
    assert small[0].out_channels == 32
    assert exactness(dense, report.plan, (batches()[0][0],)) <= 1e-4


@pytest.mark.parametrize("wrap", [lambda images: images, lambda images: [images], lambda images: (images,)])
def test_images_alone_are_enough_and_what_was_used_is_said(wrap) -> None:
    dense = settled(network())
    loader = [wrap(images) for images, _ in batches()]
    small, report = prunekit.prune(dense, loader, return_report=True)
    assert (report.criterion, report.labelled) == ("sirfp-unweighted", False)
    assert agreement(dense, small) > 0.99
    named = prunekit.prune(dense, batches(), criterion="sirfp-unweighted", return_report=True)[1]
    assert named.plan == report.plan


class TwoHeads(nn.Module):
    """Logits of four classes, read from the first half of the channels, and a depth, read from the second."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Conv2d(3, 64, 3, padding=1)
        self.classes, self.depth = nn.Conv2d(64, 4, 1), nn.Conv2d(64, 1, 1)
        with torch.no_grad():
            self.classes.weight[:, 32:] = 0
            self.depth.weight[:, :32] = 0

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = self.trunk(images).relu()
        return {"segments": self.classes(features), "depth": self.depth(features)}


@pytest.mark.parametrize("head", ["segments", "depth"])
def test_the_loss_decides_what_matters(head: str) -> None:
    torch.manual_seed(0)
    dense = TwoHeads().eval()
    labels = {"segments": lambda image: image.argmax(1), "depth": lambda image: {"metres": image.mean(1)}}[head]
    losses = {
        "segments": lambda outputs, labels: F.cross_entropy(outputs["segments"], labels),
        "depth": lambda outputs, labels: F.mse_loss(outputs["depth"][:, 0], labels["metres"]),
    }
    loader = [(images, labels(images)) for images, _ in batches()]
    report = prunekit.prune(dense, loader, loss=losses[head], return_report=True)[1]
    left = next(row.keep for row in report.plan.slices if row.parameter == "trunk.weight")
    assert left == tuple(range(32) if head == "segments" else range(32, 64))


class Fused(nn.Module):
    """Reads an image and a depth of other sizes; the image's features meet the depth's."""

    def __init__(self) -> None:
        super().__init__()
        self.colour, self.depth = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(1, 32, 3, padding=1)
        self.norm, self.head = nn.BatchNorm2d(32), nn.Conv2d(32, 4, 1)

    def forward(self, image: Tensor, depth: Tensor) -> Tensor:
        wide = F.interpolate(self.depth(depth), image.shape[-2:])
        return self.head(self.norm(self.colour(image) * wide.sigmoid()).relu())


@pytest.mark.parametrize("how", ["labels", "images alone", "loss", "obspa", "sirfp-paper", "multi-task", "relevance"])
def test_a_network_may_read_several_tensors(how: str) -> None:
    torch.manual_seed(0)
    dense = Fused().eval()
    rows = [(images, torch.rand(2, 1, 8, 8), labels) for images, labels in batches()]
    loader = [row[:2] for row in rows] if how == "images alone" else rows
    small, report = prunekit.prune(
        dense,
        loader,
        example_inputs=tuple(part[:1] for part in rows[0][:2]),
        criterion=how if how in prunekit.CRITERIA else None,
        loss=F.cross_entropy if how == "loss" else None,
        return_report=True,
    )
    assert small.head.in_channels == 16
    assert exactness(dense, report.plan, rows[0][:2]) <= 1e-4
    assert small(*rows[0][:2]).shape == (2, 4, 16, 16)
    # The batch norm's statistics are those of both inputs together.
    with torch.no_grad():
        products = [small.colour(i) * F.interpolate(small.depth(d), i.shape[-2:]).sigmoid() for i, d, _ in rows]
    assert torch.allclose(small.norm.running_mean, torch.cat(products).mean(dim=(0, 2, 3)), atol=1e-5)


def test_the_second_input_is_that_of_its_own_batch() -> None:
    """A depth of noise in every batch but its own would change what channels are worth."""
    torch.manual_seed(0)
    dense = Fused().eval()
    rows = [(images, torch.rand(2, 1, 8, 8), labels) for images, labels in batches()]
    example = tuple(part[:1] for part in rows[0][:2])
    seen: list[tuple[Tensor, Tensor]] = []
    dense.register_forward_pre_hook(lambda _, args: seen.append(args))
    prunekit.prune(dense, rows, example_inputs=example)
    pairs = [(image, depth) for image, depth in seen if image.shape[0] == 2 and not image.is_meta]
    images = [row[0] for row in rows]
    checked = 0
    for image, depth in pairs:
        for place, known in enumerate(images):
            if image.shape == known.shape and torch.equal(image, known):
                assert torch.equal(depth, rows[place][1])
                checked += 1
    assert checked >= 6  # two passes of evidence and one of the batch norms


def test_a_criterion_of_one_s_own_is_followed() -> None:
    def first_ones(evidence: prunekit.Evidence) -> dict[str, np.ndarray]:
        return {group.name: -np.arange(group.width, dtype=float) + group.width for group in evidence.coupling.free}

    own = prunekit.Scored("first", "the first channels", "uniform", frozenset(), first_ones)
    report = prunekit.prune(network(), batches(), criterion=own, return_report=True)[1]
    assert report.criterion == "first"
    assert kept(report.plan) == tuple(range(32))


@pytest.mark.parametrize(("kind", "share"), [("macs", 0.25), ("params", 0.5)])
def test_targets_are_met_in_their_unit(kind: str, share: float) -> None:
    dense = settled(network())
    coupling = prunekit.analyse(dense, batches()[0][0][:1])
    wanted = share * getattr(coupling, kind)()
    small, report = prunekit.prune(dense, batches(), **{f"target_{kind}": wanted}, return_report=True)
    assert getattr(report, f"{kind}_after") == pytest.approx(wanted, rel=0.02)
    assert sum(value.numel() for value in small.parameters()) == report.params_after


class Clock:
    """A meter that is asked for a table first."""

    def table(self, segmenter: prunekit.Segmenter, input_shape: tuple[int, ...], coupling: prunekit.Coupling):
        assert (segmenter.num_classes, input_shape, len(coupling.free)) == (4, (1, 3, 16, 16), 1)
        raise PruneError("asked for a table")


def test_a_latency_asks_for_a_meter_and_asks_it() -> None:
    with pytest.raises(PruneError, match="open_meter"):
        prunekit.prune(network(), batches(), target_latency_ms=1)
    with pytest.raises(PruneError, match="asked for a table"):
        prunekit.prune(network(), batches(), target_latency_ms=1, meter=Clock())


def test_a_latency_that_no_meter_can_take_is_refused() -> None:
    one_channel = nn.Sequential(nn.Conv2d(3, 16, 1), nn.Conv2d(16, 1, 1))
    with pytest.raises(PruneError, match="at least 2 classes"):
        prunekit.prune(one_channel, [batches()[0][0]], target_latency_ms=1, meter=Clock())


def test_no_more_batches_are_taken_than_looked_at() -> None:
    taken: list[int] = []

    def loader() -> Iterator[tuple[Tensor, Tensor]]:
        for place, batch in enumerate(batches(8)):
            taken.append(place)
            yield batch

    report = prunekit.prune(network(), loader(), max_batches=3, return_report=True)[1]
    assert report.batches == 3
    assert taken == [0, 1, 2]


def test_progress_is_told_step_by_step_and_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[tuple[str, int, int]] = []
    prunekit.prune(network(), batches(), progress=lambda *step: told.append(step))
    assert told[0] == ("Analysing which channels belong together", 0, 0)
    assert [row[1:] for row in told if row[0] == "Measuring batch norms again"] == [(0, 2), (1, 2), (2, 2)]
    prunekit.prune(network(), batches())
    assert capsys.readouterr() == ("", "")
    prunekit.prune(network(), batches(), progress=True)
    written = capsys.readouterr()
    assert written.out == ""
    assert "Proving that the cut network equals the masked one\n" in written.err
    assert "\r" not in written.err


@pytest.mark.parametrize(
    ("batch", "says"),
    [
        ((torch.zeros(1, 3, 8, 8), torch.zeros(1, 4, 4, dtype=torch.int64)), "same size"),
        ((torch.zeros(1, 3, 8, 8), torch.full((1, 8, 8), 4)), "Labels run from 4 to 4"),
        ((torch.zeros(1, 3, 8, 8), torch.full((1, 8, 8), -1)), "Labels run from -1"),
        ((torch.zeros(1, 3, 8, 8), torch.zeros(1, 8, 8)), "labels integers"),
        ((torch.full((1, 3, 8, 8), torch.nan), torch.zeros(1, 8, 8, dtype=torch.int64)), "finite"),
        (torch.full((1, 3, 8, 8), torch.inf), "finite"),
        ({"image": torch.zeros(1, 3, 8, 8)}, r'batch\["image"\]'),
        ((torch.zeros(1, 3, 8, 8),) * 3, "example_inputs"),
        ((), "holds nothing"),
    ],
)
def test_batches_that_do_not_fit_are_refused(batch, says: str) -> None:
    with pytest.raises(PruneError, match=says):
        prunekit.prune(network(), [batch])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"ratio": 0.5, "target_macs": 1e6}, "one target at a time, got ratio and target_macs"),
        ({"ratio": 1.5}, r"must be in \[0, 1\)"),
        ({"ratio": 0.0001}, "removes no channel"),
        ({"criterion": "sirpf"}, "no criterion called sirpf"),
        ({"criterion": prunekit.Scored}, "a Criterion; got type"),
        ({"align": 0}, "at least 1"),
        ({"max_batches": 0}, "at least 1"),
        ({"loss": lambda *_: 1.0}, "The loss gave float"),
        ({"loss": lambda outputs, _: outputs}, r"The loss gave a tensor \(2, 4, 16, 16\)"),
        ({"loss": lambda outputs, _: outputs.mean().detach()}, "without detach"),
    ],
)
def test_what_cannot_be_done_is_refused(options, says: str) -> None:
    with pytest.raises(PruneError, match=says):
        prunekit.prune(network(), batches(), **options)


def test_a_loss_without_labels_and_a_network_without_classes_are_refused() -> None:
    alone = [images for images, _ in batches()]
    with pytest.raises(PruneError, match="loss, which needs labels"):
        prunekit.prune(network(), alone, criterion="sirfp")
    with pytest.raises(PruneError, match="batches hold no labels"):
        prunekit.prune(network(), alone, loss=F.mse_loss)
    with pytest.raises(PruneError, match="Some batches hold labels"):
        prunekit.prune(network(), [*batches(), alone[0]])
    with pytest.raises(PruneError, match="no batches"):
        prunekit.prune(network(), [])
    with pytest.raises(PruneError, match="Give loss="):
        prunekit.prune(nn.Sequential(nn.Conv2d(3, 16, 1), nn.Conv2d(16, 1, 1)), batches())
    with pytest.raises(PruneError, match=r"model\.module"):
        prunekit.prune(nn.DataParallel(network()), batches())


def test_a_plan_without_scores_is_not_made() -> None:
    coupling = prunekit.analyse(network(), torch.zeros(1, 3, 8, 8))
    with pytest.raises(TypeError, match="scores"):
        uniform_plan(coupling, 0.5)
    with pytest.raises(PruneError, match="Group 0 has no scores"):
        uniform_plan(coupling, 0.5, scores={})
    with pytest.raises(PruneError, match="not a finite number"):
        uniform_plan(coupling, 0.5, scores={"0": [float("nan")] * 64})


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"ratio": 0.97}, r"out of reach.* ratio=0\.\d+\.? .*align=1"),
        ({"target_macs": 10**9}, r"Ask for less with target_macs\."),
        ({"target_params": 10**9}, r"Ask for less with target_params\."),
    ],
)
def test_errors_name_the_arguments_of_python(asked: dict[str, float], words: str) -> None:
    with pytest.raises(PruneError, match=words) as raised:
        prunekit.prune(network(), batches(), **asked)
    assert "--" not in str(raised.value)
