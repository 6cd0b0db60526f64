"""What measuring redundancy adds to a training step at crop 512: CPU time, in turns, and the memory that it holds.

    python benchmarks/collection_cost.py

prints the table of docs/results/collection_cost.md: one process, one thread. A step is forward, backward and SGD on noise.
"""

import statistics
import time
from typing import Any

import torch
from torch import Tensor

from prunekit.models.zoo import build
from prunekit.pruning.analysis import analyse
from prunekit.pruning.evidence import POSITIONS, Collector
from prunekit.pruning.evidence.moments import STRIPS
from prunekit.recipe import parse_recipe
from prunekit.training.losses import training_loss
from prunekit.training.optimisers import make_optimiser

CROP = 512  # px
CLASSES = 19
FLOAT32 = 4  # bytes
EVERY = 10
MEASURED = (
    # network, batch, rounds; 8 is the recipe's default, with which a step of ResNet50 takes over a minute
    ("python:prunekit.models.street:street_net", 8, 9),
    ("smp:DeepLabV3Plus?encoder=mobilenet_v2", 8, 7),
    ("smp:DeepLabV3Plus?encoder=mobilenet_v2", 2, 7),
    ("torchvision:deeplabv3_resnet50", 2, 5),
)


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    print("# Measuring redundancy: what it adds to a training step\n")
    print(
        f"`python benchmarks/collection_cost.py`: torch {torch.__version__}, one CPU thread, float32, crop {CROP}, "
        f"{POSITIONS} positions a step. CPU time of a step, median; the ratio is the median over rounds in which the "
        "three took turns, quartiles in brackets. Memory: the running sums, and the largest that one step needs on top.\n"
    )
    print(
        "| network | batch | step [ms] | measured every step | a tenth of it: every 10th step | sums [MiB] | on top [MiB] |\n"
        "| --- | --- | --- | --- | --- | --- | --- |"
    )
    for name, batch, rounds in MEASURED:
        print(_row(name, batch, rounds), flush=True)


def _row(name: str, batch: int, rounds: int) -> str:
    step = Step(name, batch)
    step.run()
    collector = Collector(step.segmenter.network, step.coupling)
    plain_s: list[float] = []
    ratios: list[float] = []
    for _ in range(rounds):
        plain_s.append(step.run())
        with collector:
            measured_s = step.run()
        plain_s.append(step.run())
        ratios.append(measured_s / statistics.mean(plain_s[-2:]) - 1)
    low, middle, high = statistics.quantiles(ratios, n=4)
    sums_MiB, top_MiB = memory_MiB(collector)
    cells = [name, f"{batch}", f"{statistics.median(plain_s) * 1e3:.0f}"]
    cells += [f"{middle:+.1%} ({low:+.1%}..{high:+.1%})", f"{middle / EVERY:+.2%}", f"{sums_MiB:.0f}", f"{top_MiB:.0f}"]
    return f"| {' | '.join(cells)} |"


def memory_MiB(collector: Collector) -> tuple[float, float]:
    """Return the size of the running sums, and of what the widest sample adds.

    Places as gathered and as laid out in rows, its moment and a strip of it, and the moment of the sample before, which
    is kept for branches that read the same map.
    """
    widths = [len(one.sum_U) for seen in collector.statistics().groups.values() for one in seen]
    held = sum(FLOAT32 * (width * width + width) for width in widths)
    widest = max(widths)
    moments = 2 + 1 / STRIPS
    return held / 2**20, FLOAT32 * (2 * widest * POSITIONS + moments * widest * widest) / 2**20


class Step:
    """One network, its analysis and its optimiser."""

    def __init__(self, name: str, batch: int) -> None:
        self.recipe: Any = parse_recipe({"train": {"batch_size": batch}})
        torch.manual_seed(0)
        self.segmenter = build(name, num_classes=CLASSES)
        generator = torch.Generator().manual_seed(0)
        self.images_B3HW: Tensor = torch.randn(batch, 3, CROP, CROP, generator=generator)
        self.labels_BHW = torch.randint(CLASSES, (batch, CROP, CROP), generator=generator)
        self.coupling = analyse(self.segmenter.network.eval(), (self.images_B3HW[:1],))
        self.optimiser = make_optimiser(self.segmenter.network, self.recipe.train)
        self.segmenter.train()

    def run(self) -> float:
        """Do one step; return its CPU time in seconds."""
        started_s = time.process_time()
        loss = training_loss(self.segmenter.outputs(self.images_B3HW), self.labels_BHW, self.recipe.train, 255)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        return time.process_time() - started_s


if __name__ == "__main__":
    main()
