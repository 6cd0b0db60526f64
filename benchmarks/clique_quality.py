"""How good the solvers of the clique are: what redundancy remains among the kept channels, relative to greedy.

    python benchmarks/clique_quality.py

prints the tables of docs/results/clique_quality.md: redundancy matrices of street_net after a short training on the
generated scenes (every free group), of a network that was never trained, and random ones.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunekit.data.shapes import ShapesDataset
from prunekit.models.street import street_net
from prunekit.pruning import analyse
from prunekit.pruning.clique import (
    Solution,
    degree,
    greedy,
    greedy_with_swaps,
    improved_by_swaps,
    objective,
    random_subset,
    solve_exactly,
)
from prunekit.pruning.evidence import collect, redundancy

HEIGHT, WIDTH, IMAGES, BATCH, STEPS = 64, 96, 32, 8, 60
SEEDS = range(5)
NODE_LIMIT = 40_000  # subproblems; a limit in seconds would make the table depend on the machine
INSTANCES = 40

Result = TypeVar("Result")


class Matrix(NamedTuple):
    """A redundancy matrix and where it comes from."""

    name: str
    redundancy_CC: Tensor


class Row(NamedTuple):
    """Objectives of one matrix at one number of kept channels, and what each took."""

    greedy: float
    swaps: float
    degree: float
    random: float
    swapped_random: float
    solution: Solution
    times_ms: Mapping[str, float]


def main() -> None:
    """Print all tables."""
    torch.set_num_threads(1)
    print("# The clique: how good the solvers are\n")
    print(
        f"`python benchmarks/clique_quality.py`: torch {torch.__version__}, one CPU thread. The objective is the sum of "
    )
    print(
        "redundancy over the pairs of kept channels; smaller is better. Columns give it relative to greedy's. Optimum: "
    )
    print(
        f"proven by branch and bound; where {NODE_LIMIT:,} nodes gave no proof, the interval it lies in. random: mean of "
    )
    print(f"{len(SEEDS)} draws; random, swaps: the best swaps from those draws. CPU time in ms.\n")
    for title, matrices in (
        (f"street_net after {STEPS} steps on generated scenes", network_matrices(STEPS)),
        ("street_net as initialised", network_matrices(0)),
        ("Random weights, uniform in [0, 1]", iter([random_matrix(width, 0) for width in (16, 32, 48, 64)])),
    ):
        _print_table(title, matrices)
    _print_small()


def network_matrices(steps: int) -> Iterator[Matrix]:
    """Yield the redundancy matrix of every free group, as `--criterion sirfp` sees it."""
    images_B3HW, labels_BHW = _scenes()
    network = _trained(images_B3HW, labels_BHW, steps)
    coupling = analyse(network, (images_B3HW[:1],))
    seen = collect(network, coupling, images_B3HW.split(BATCH))
    for group in coupling.free:
        yield Matrix(group.name, redundancy(seen, group.name))


def random_matrix(channels: int, seed: int) -> Matrix:
    """Return independent weights: the hardest case, without structure that a bound could use."""
    half_CC = torch.rand(channels, channels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).triu(1)
    return Matrix(f"uniform {channels}", half_CC + half_CC.T)


def _scenes() -> tuple[Tensor, Tensor]:
    dataset = ShapesDataset("train", IMAGES, height=HEIGHT, width=WIDTH)
    samples = [dataset[index] for index in range(IMAGES)]
    images_B3HW = torch.stack([sample.image_3HW for sample in samples]).float().sub(128).div(64)
    return images_B3HW, torch.stack([sample.labels_HW for sample in samples]).long()


def _trained(images_B3HW: Tensor, labels_BHW: Tensor, steps: int) -> nn.Module:
    torch.manual_seed(0)
    network = street_net(num_classes=len(ShapesDataset("train", 1, height=HEIGHT, width=WIDTH).classes)).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3)
    for step in range(steps):
        chosen_B = torch.arange(step * BATCH, (step + 1) * BATCH) % IMAGES
        logits_BKHW = F.interpolate(network(images_B3HW[chosen_B]), (HEIGHT, WIDTH), mode="bilinear")
        optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(logits_BKHW, labels_BHW[chosen_B], ignore_index=255).backward()
        optimiser.step()
    return network.eval()


def _print_table(title: str, matrices: Iterator[Matrix]) -> None:
    print(f"## {title}\n")
    print(
        "| matrix | C | kept | greedy, swaps | degree | random | random, swaps | optimum | greedy ms | swaps ms | exact ms |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    rows: list[Row] = []
    for matrix in matrices:
        for share in (2, 4):
            channels = len(matrix.redundancy_CC)
            row = _row(matrix.redundancy_CC, channels // share)
            rows.append(row)
            relative = " | ".join(
                f"{value / row.greedy:.4f}" for value in (row.swaps, row.degree, row.random, row.swapped_random)
            )
            times = " | ".join(f"{row.times_ms[name]:.1f}" for name in ("greedy", "swaps", "exact"))
            print(f"| {matrix.name} | {channels} | {channels // share} | {relative} | {_optimum(row)} | {times} |")
    print(f"\n{_summary(rows)}\n")


def _row(redundancy_CC: Tensor, keep: int) -> Row:
    times_ms: dict[str, float] = {}
    plain = _timed(times_ms, "greedy", partial(greedy, redundancy_CC, keep))
    swapped = _timed(times_ms, "swaps", partial(greedy_with_swaps, redundancy_CC, keep))
    solution = _timed(times_ms, "exact", partial(solve_exactly, redundancy_CC, keep, node_limit=NODE_LIMIT))
    draws = [random_subset(redundancy_CC, keep, seed=seed) for seed in SEEDS]
    return Row(
        greedy=objective(redundancy_CC, plain),
        swaps=objective(redundancy_CC, swapped),
        degree=objective(redundancy_CC, degree(redundancy_CC, keep)),
        random=statistics.mean(objective(redundancy_CC, draw) for draw in draws),
        swapped_random=min(objective(redundancy_CC, improved_by_swaps(redundancy_CC, draw)) for draw in draws),
        solution=solution,
        times_ms=times_ms,
    )


def _timed(times_ms: dict[str, float], name: str, run: Callable[[], Result]) -> Result:
    started_s = time.process_time()
    result = run()
    times_ms[name] = (time.process_time() - started_s) * 1e3
    return result


def _optimum(row: Row) -> str:
    if row.solution.optimal:
        return f"{row.solution.objective / row.greedy:.4f}"
    return f"{row.solution.bound / row.greedy:.4f}..{row.solution.objective / row.greedy:.4f}"


def _summary(rows: list[Row]) -> str:
    proven = [row for row in rows if row.solution.optimal]
    worst_greedy = max((row.greedy / row.solution.objective for row in proven), default=1.0)
    worst_swaps = max((row.swaps / row.solution.objective for row in proven), default=1.0)
    return (
        f"Proven optimal: {len(proven)} of {len(rows)}. Above the optimum at worst: greedy {worst_greedy - 1:.2%}, with swaps "
        f"{worst_swaps - 1:.2%}. Mean over the table: degree {statistics.mean(row.degree / row.greedy for row in rows):.3f}, "
        f"random {statistics.mean(row.random / row.greedy for row in rows):.3f} of greedy's objective."
    )


def _print_small() -> None:
    print(f"## Small random instances: {INSTANCES} of each size, half kept\n")
    print("| C | greedy optimal | greedy above the optimum, mean | swaps optimal | swaps above, mean | nodes, median |")
    print("| --- | --- | --- | --- | --- | --- |")
    for channels in (14, 24, 32):
        above: dict[str, list[float]] = {"greedy": [], "swaps": []}
        nodes: list[int] = []
        for seed in range(INSTANCES):
            matrix_CC = random_matrix(channels, seed).redundancy_CC
            best = solve_exactly(matrix_CC, channels // 2)
            assert best.optimal, "instances of these sizes are proven"
            nodes.append(best.nodes)
            for name, solver in (("greedy", greedy), ("swaps", greedy_with_swaps)):
                above[name].append(objective(matrix_CC, solver(matrix_CC, channels // 2)) / best.objective - 1)
        cells = " | ".join(
            f"{sum(value < 1e-9 for value in values)} | {statistics.mean(values):.2%}" for values in above.values()
        )
        print(f"| {channels} | {cells} | {statistics.median(nodes):.0f} |")


if __name__ == "__main__":
    main()
