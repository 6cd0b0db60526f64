"""How long pruning's own arithmetic takes on one thread: coupling analysis and the greedy clique.

    python benchmarks/pruning_speed.py

prints the table of docs/results/pruning_speed.md. Each figure is the median of several runs after a first one that does
not count; the spread is the fastest and the slowest.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import nn
from torchvision.models import segmentation

from prunekit.models.zoo import build
from prunekit.pruning import analyse, uniform_plan
from prunekit.pruning.clique import greedy

RUNS = 5
NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    "torchvision deeplabv3_resnet50": partial(segmentation.deeplabv3_resnet50, weights=None, weights_backbone=None),
    "torchvision deeplabv3_resnet101": partial(segmentation.deeplabv3_resnet101, weights=None, weights_backbone=None),
    "torchvision lraspp_mobilenet_v3_large": partial(
        segmentation.lraspp_mobilenet_v3_large, weights=None, weights_backbone=None
    ),
    "smp Unet, resnet18": lambda: build("smp:Unet?encoder=resnet18", num_classes=19).network,
    "street_net": lambda: build("python:prunekit.models.street:street_net", num_classes=19).network,
}


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
        redundancy_CC = half_CC + half_CC.T
        print(f"| {channels} | {_timed(lambda matrix=redundancy_CC: greedy(matrix, len(matrix) // 2))} |")
    print("\n## Coupling analysis at 512x512 and a plan for half of the MACs\n")
    print("Memory: what the first analysis adds to the peak of a fresh process, exporting included.\n")
    print(
        "| network | parameters | groups | analysis [ms] | plan [ms] | memory [MiB] |\n| --- | --- | --- | --- | --- | --- |"
    )
    for name, build_network in NETWORKS.items():
        network, images_13HW = build_network().eval(), torch.zeros(1, 3, 512, 512)
        coupling = analyse(network, (images_13HW,))
        analysis = _timed(lambda network=network, images=images_13HW: analyse(network, (images,)))
        plan = _timed(lambda coupling=coupling: uniform_plan(coupling, 0.5, align=8))
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            added_mib = pool.submit(_memory_mib, name).result()
        size = f"{coupling.params() / 1e6:.1f} M"
        print(f"| {name} | {size} | {len(coupling.groups)} | {analysis} | {plan} | {added_mib:.0f} |")


def _memory_mib(name: str) -> float:
    network, images_13HW = NETWORKS[name]().eval(), torch.zeros(1, 3, 512, 512)
    analyse(nn.Conv2d(3, 4, 1), (images_13HW,))  # loads the exporter
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew at what is resident now
    before_kib = _status_kib("VmHWM")
    analyse(network, (images_13HW,))
    return (_status_kib("VmHWM") - before_kib) / 1024


def _status_kib(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


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
