"""What sample selection costs and saves: the CPU time of a training step, strategies measured in turns.

    python benchmarks/selection_cost.py

prints the table of docs/results/selection_cost.md: one process, one thread, street_net at 128x192, batch 8, bf16 where the
processor multiplies it. A step is selection, forward, backward and optimiser, without data loading, which no strategy saves.
"""

import statistics
import time

import torch

from prunekit.models.zoo import build
from prunekit.recipe import parse_recipe
from prunekit.training.device import autocast
from prunekit.training.losses import training_loss
from prunekit.training.optimisers import make_optimiser
from prunekit.training.selection import Place, make_selector

ROUNDS = 40
BATCH = 8
RATIO = 0.4
EPOCHS = 100
PLATEAU = 60  # an epoch at which the whole ratio is left out, and the density is long seeded


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    steps = {strategy: Step(strategy) for strategy in ("none", "random", "pfb")}
    for step in steps.values():
        for index in range(64 // BATCH + 4):  # seeds PFB's centres and warms up
            step.run(index)
    times_s: dict[str, list[float]] = {name: [] for name in steps}
    kept = dict.fromkeys(steps, 0)
    for index in range(ROUNDS):
        for name, step in steps.items():
            started_s = time.process_time()
            kept[name] += step.run(100 + index)
            times_s[name].append(time.process_time() - started_s)
    full_s = statistics.median(times_s["none"])
    print("# Sample selection: the cost of a step\n")
    print(
        f"`python benchmarks/selection_cost.py`: street_net, 128x192, batch {BATCH}, {steps['none'].precision}, one thread, "
    )
    print(
        f"{ROUNDS} rounds in turns, ratio {RATIO} at its plateau. CPU time of a step, median; quartiles in brackets.\n"
    )
    print("| strategy | kept | step [ms] | relative to none |\n| --- | --- | --- | --- |")
    for name, samples_s in times_s.items():
        low_s, middle_s, high_s = statistics.quantiles(samples_s, n=4)
        spread = f"{middle_s * 1e3:.0f} ({low_s * 1e3:.0f}..{high_s * 1e3:.0f})"
        print(f"| {name} | {kept[name] / (ROUNDS * BATCH):.3f} | {spread} | {middle_s / full_s:.2f} |")


class Step:
    """One network with its optimiser and selector."""

    def __init__(self, strategy: str) -> None:
        capabilities = torch.cpu.get_capabilities()
        fast = capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")
        self.precision = "bf16" if fast else "fp32"
        self.recipe = parse_recipe(
            {
                "train": {"precision": self.precision, "batch_size": BATCH, "epochs": EPOCHS},
                "selection": {"strategy": strategy, "ratio": RATIO},
            }
        )
        torch.manual_seed(0)
        self.segmenter = build(self.recipe.model.name, num_classes=10).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = make_optimiser(self.segmenter.network, self.recipe.train)
        self.selector = make_selector(self.segmenter, self.recipe)

    def run(self, index: int) -> int:
        """Do one step on noise; return the samples kept."""
        generator = torch.Generator().manual_seed(index)
        data = self.recipe.data
        images_B3HW = torch.randn(BATCH, 3, data.height, data.width, generator=generator)
        labels_BHW = torch.randint(10, (BATCH, data.height, data.width), generator=generator)
        self.segmenter.train()
        kept_k = self.selector.select(images_B3HW, Place(PLATEAU, EPOCHS, index, 1000))
        images_B3HW = images_B3HW[kept_k].contiguous(memory_format=torch.channels_last)
        with autocast(torch.device("cpu"), self.recipe.train.precision):
            outputs = self.segmenter.outputs(images_B3HW)
        loss = training_loss(outputs, labels_BHW[kept_k], self.recipe.train, 255)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        return len(kept_k)


if __name__ == "__main__":
    main()
