"""How long pruning's own arithmetic takes on one thread: the greedy clique, coupling analysis and a plan.

    python benchmarks/pruning_speed.py

prints the table of docs/results/pruning_speed.md. Each figure is CPU time, which other processes disturb less than the
clock: the median of several runs after a first one that does not count; the spread is the fastest and the slowest.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import segmentation

from prunekit.models.zoo import build
from prunekit.pruning import analyse, arbitrary_plan
from prunekit.pruning.clique import greedy, greedy_orders, greedy_with_swaps
from prunekit.pruning.clique.batched import orders_together
from prunekit.pruning.criteria.elimination import Consumer, eliminate
from prunekit.pruning.criteria.sirfp import RIDGE

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
    """Print all tables."""
    torch.set_num_threads(1)
    print("# Pruning: the cost of the arithmetic\n")
    print(
        f"`python benchmarks/pruning_speed.py`: torch {torch.__version__}, one CPU thread, CPU time, median of {RUNS} runs "
    )
    print("[ms], fastest and slowest in brackets.\n")
    _print_clique()
    _print_layers()
    _print_elimination()
    _print_analysis()


def _print_clique() -> None:
    print("## Greedy clique, half of C channels kept\n")
    print("Reference: the rule as written, all degrees added up anew in float64 at each removal (one run).\n")
    print(
        "| C | greedy [ms] | greedy, then swaps [ms] | reference [ms] | same kept set |\n| --- | --- | --- | --- | --- |"
    )
    for channels in (64, 256, 512, 1024, 2048):
        redundancy_CC, keep = _cosines(channels), channels // 2
        started_s = time.process_time()
        reference = _reference(redundancy_CC, keep)
        reference_ms = (time.process_time() - started_s) * 1e3
        same = "yes" if greedy(redundancy_CC, keep).tolist() == reference else "no"
        times = " | ".join(_timed(partial(solver, redundancy_CC, keep)) for solver in (greedy, greedy_with_swaps))
        print(f"| {channels} | {times} | {reference_ms:.1f} | {same} |")


def _print_layers() -> None:
    widths = _published_widths()
    matrices = [_cosines(width) for width in widths]
    halves = [width // 2 for width in widths]
    print(f"\n## Greedy clique of DeepLabV3-ResNet50: {len(widths)} layers, {sum(widths)} channels\n")
    print("The layers that the published code ranks: all norms of the network with the deep stem, no auxiliary head.\n")
    print("| what | time [ms] |\n| --- | --- |")
    print(f"| half of each layer removed | {_timed(lambda: greedy_orders(matrices, halves))} |")
    print(f"| all channels ordered | {_timed(lambda: greedy_orders(matrices))} |")
    print(
        f"| all channels ordered, layers in step (the GPU's way) | {_timed(lambda: orders_together(matrices, widths))} |"
    )


def _print_elimination() -> None:
    print("\n## Backward elimination (criterion sirfp): all channels of a group ordered\n")
    print("| channels | one reader [ms] | two readers [ms] |\n| --- | --- | --- |")
    for channels in (64, 256, 512, 1024, 2048):
        readers = [_reader(channels, seed) for seed in range(2)]
        times = (_timed(partial(eliminate, readers[:count], RIDGE)) for count in (1, 2))
        print(f"| {channels} | {' | '.join(times)} |")


def _reader(channels: int, seed: int) -> Consumer:
    """Return moments of rectified features, and the influence of a layer with as many outputs as inputs."""
    generator = torch.Generator().manual_seed(seed)
    features_CN = torch.randn(channels, 4 * channels, generator=generator, dtype=torch.float64).sub(0.5).relu()
    weight_CO = torch.randn(channels, channels, generator=generator, dtype=torch.float64)
    return Consumer(features_CN @ features_CN.T / (4 * channels), weight_CO @ weight_CO.T)


def _cosines(channels: int) -> Tensor:
    """Return cosines of rectified features, in float32 and non-negative as `pruning.redundancy` gives them."""
    generator = torch.Generator().manual_seed(channels)
    features_CN = torch.randn(channels, 256, generator=generator).sub(0.5).relu()
    unit_CN = torch.nn.functional.normalize(features_CN, dim=1)
    return (unit_CN @ unit_CN.T).fill_diagonal_(0)


def _reference(redundancy_CC: Tensor, keep: int) -> list[int]:
    weights_CC = redundancy_CC.double().numpy()
    alive_C = np.ones(len(weights_CC))
    for _ in range(len(weights_CC) - keep):
        degree_C = np.where(alive_C > 0, weights_CC @ alive_C, -np.inf)
        alive_C[degree_C.argmax()] = 0
    return np.flatnonzero(alive_C).tolist()


def _published_widths() -> list[int]:
    network = segmentation.deeplabv3_resnet50(weights=None, weights_backbone=None, aux_loss=False)
    widths = [layer.num_features for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    return [64, 64, 128, *widths[1:]]  # three 3x3 convolutions in the place of the 7x7 one


def _print_analysis() -> None:
    print("\n## Coupling analysis at 512x512 and a plan for half of the MACs\n")
    print("Memory: what the first analysis adds to the peak of a fresh process, exporting included.\n")
    print(
        "| network | parameters | groups | analysis [ms] | plan [ms] | memory [MiB] |\n| --- | --- | --- | --- | --- | --- |"
    )
    for name, build_network in NETWORKS.items():
        network, images_13HW = build_network().eval(), torch.zeros(1, 3, 512, 512)
        coupling = analyse(network, (images_13HW,))
        analysis = _timed(lambda network=network, images=images_13HW: analyse(network, (images,)))
        plan = _timed(lambda coupling=coupling: arbitrary_plan(coupling, 0.5, align=8))
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
        started_s = time.process_time()
        run()
        times_ms.append((time.process_time() - started_s) * 1e3)
    return f"{statistics.median(times_ms):.1f} ({min(times_ms):.1f}..{max(times_ms):.1f})"


if __name__ == "__main__":
    main()
