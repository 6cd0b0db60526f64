"""How long pruning's own arithmetic takes on one thread: coupling analysis and the greedy clique.

    python benchmarks/pruning_speed.py

prints the table of docs/results/pruning_speed.md. Each figure is the median of several runs after a first one that does
not count; the spread is the fastest and the slowest.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from torchvision.models import segmentation

from prunekit.models.zoo import build
from prunekit.pruning import analyse, uniform_plan
from prunekit.pruning.clique import greedy

RUNS = 5


def main() -> None:
    """Print both tables."""
    torch.set_num_threads(1)
    print("# Pruning: the cost of the arithmetic\n")
    print(
        f"`python benchmarks/pruning_speed.py`: torch {torch.__version__}, one CPU thread, median of {RUNS} runs [ms], "
    )
    print("fastest and slowest in brackets.\n")
    print("## Greedy clique, half of C channels kept\n")
    print("| C | time [ms] |\n| --- | --- |")
    for channels in (64, 256, 512, 1024, 2048):
        half_CC = torch.rand(channels, channels, generator=torch.Generator().manual_seed(0))
        print(f"| {channels} | {_timed(lambda half_CC=half_CC: greedy(half_CC + half_CC.T, len(half_CC) // 2))} |")
    print("\n## Coupling analysis at 512x512 and a plan for half of the MACs\n")
    print("| network | parameters | groups | analysis [ms] | plan [ms] |\n| --- | --- | --- | --- | --- |")
    for name, network in _networks().items():
        images_13HW = torch.zeros(1, 3, 512, 512)
        coupling = analyse(network, (images_13HW,))
        analysis = _timed(lambda network=network, images=images_13HW: analyse(network, (images,)))
        plan = _timed(lambda coupling=coupling: uniform_plan(coupling, 0.5, align=8))
        print(f"| {name} | {coupling.params() / 1e6:.1f} M | {len(coupling.groups)} | {analysis} | {plan} |")


def _networks() -> dict[str, nn.Module]:
    return {
        "torchvision deeplabv3_resnet50": segmentation.deeplabv3_resnet50(weights=None, weights_backbone=None).eval(),
        "torchvision deeplabv3_resnet101": segmentation.deeplabv3_resnet101(weights=None, weights_backbone=None).eval(),
        "torchvision lraspp_mobilenet_v3_large": segmentation.lraspp_mobilenet_v3_large(
            weights=None, weights_backbone=None
        ).eval(),
        "smp Unet, resnet18": build("smp:Unet?encoder=resnet18", num_classes=19).network.eval(),
        "street_net": build("python:prunekit.models.street:street_net", num_classes=19).network.eval(),
    }


def _timed(run: Callable[[], object]) -> str:
    run()
    times_ms: list[float] = []
    for _ in range(RUNS):
        started_s = time.perf_counter()
        run()
        times_ms.append((time.perf_counter() - started_s) * 1e3)
    return f"{statistics.median(times_ms):.1f} ({min(times_ms):.1f}..{max(times_ms):.1f})"


if __name__ == "__main__":
    main()
