"""Latency of pruned networks in ONNX Runtime on one core: MAC targets against measured-latency targets, by alignment.

    pip install torch-pruning==1.6.1
    python benchmarks/pruning_latency.py

keeps every finished step in --state (it can be interrupted) and writes docs/results/pruning_latency.md. Weights are
random: only shapes matter here. Each block of the table is one run in which dense and pruned networks took turns.

Efficiency = speed-up x share of MACs kept: 1 where the time fell as much as the MACs. A latency target asks for the dense
latency times the share; its plan is corrected by measuring until it is within 2 %, or no nearer in 5 networks.
"""

import argparse
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from equal_macs import at_share_of_macs
from pruning_latency_table import (
    AT_EQUAL_MACS,
    BOUND_ALIGN,
    MOST_MACS,
    SHARES,
    TORCH_PRUNING,
    VARIANTS,
    State,
    Variant,
    report,
)
from torch_pruning_baseline import UniformL2
from width_bound import least_time
from width_frontier import most_macs

from prunekit.errors import PruneError
from prunekit.models.segmenter import Segmenter
from prunekit.models.zoo import build
from prunekit.pruning.allocation import Target, allocate, padding_waste
from prunekit.pruning.analysis import analyse
from prunekit.pruning.coupling import Coupling
from prunekit.pruning.evidence import Ranking
from prunekit.pruning.latency import LatencyTable, meet_latency, widths_of
from prunekit.pruning.surgery import make_plan, pruned
from prunekit_export.latency import LatencyMeter, open_meter
from prunekit_export.latency.meter import compare_latencies

NETWORKS = {
    "DeepLabV3-ResNet50": "torchvision:deeplabv3_resnet50",
    "DeepLabV3+-MobileNetV2": "smp:DeepLabV3Plus?encoder=mobilenet_v2",
    "street_net": "python:prunekit.models.street:street_net",
}
CLASSES = 19


def main() -> None:
    """Run what is not done yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS)[:2])
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--runs", type=int, default=None, help="of each network; default: about 10 s of the slowest")
    parser.add_argument("--state", type=Path, default=Path("runs/pruning_latency.json"))
    parser.add_argument("--table", type=Path, default=Path("docs/results/pruning_latency.md"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.state.parent.mkdir(parents=True, exist_ok=True)
    state = State(args.state)
    for name in args.networks:
        bench = Bench(name, (1, 3, args.height, args.width), state)
        for share in SHARES:
            bench.measure(share, args.runs)
    text = report(state, args.networks, (args.height, args.width))
    args.table.parent.mkdir(parents=True, exist_ok=True)
    args.table.write_text(text)
    print(text)


class Bench:
    """One network at one size."""

    def __init__(self, name: str, shape: tuple[int, int, int, int], state: State) -> None:
        self.name, self.shape, self.state = name, shape, state
        self.key = f"{name} {shape[2]}x{shape[3]}"
        torch.manual_seed(0)
        self.segmenter = build(NETWORKS[name], num_classes=CLASSES).eval()

    @functools.cached_property
    def coupling(self) -> Coupling:
        """Analysed when first needed."""
        return analyse(self.segmenter.network, (torch.zeros(self.shape),))

    @functools.cached_property
    def meter(self) -> LatencyMeter:
        """One thread."""
        return open_meter("ort", threads=1)

    @functools.cached_property
    def table(self) -> LatencyTable:
        """Measured once."""
        key = f"{self.key} table"
        if self.state.done(key) is None:
            started_s = time.monotonic()
            table = self.meter.table(self.segmenter, self.shape, self.coupling)
            self.state.put(key, table.to_json())
            self.state.put(f"{key} seconds", time.monotonic() - started_s)
        table = LatencyTable.from_json(self.state.done(key))
        table.check_machine(self.meter.machine)
        return table

    def measure(self, share: float, runs: int | None) -> None:
        """Plan all variants, prove what none can better, then measure them and the dense network in alternation."""
        self.bound(share)
        key = f"{self.key} {share} measured"
        if self.state.done(key) is not None:
            return
        plans = {variant.name: self.plan(variant, share) for variant in VARIANTS}
        cut = {
            variant.name: self._rebuilt(variant, plans[variant.name])
            for variant in VARIANTS
            if "refused" not in plans[variant.name]
        }
        reports = compare_latencies({"dense": self.segmenter, **cut}, self.shape, threads=1, runs=runs)
        self.state.put(key, {name: latency.to_json() for name, latency in reports.items()})

    def bound(self, share: float) -> None:
        """Prove the least time of widths with a share of the MACs; every plan has to respect it."""
        key = f"{self.key} {share} least ms"
        if self.state.done(key) is not None:
            return
        for variant in VARIANTS:
            plan = self.plan(variant, share)
            if "keep" in plan and variant.align % BOUND_ALIGN == 0:
                assert plan["predicted_ms"] >= self.least_ms(plan["share"]), f"{variant.name} beats the bound"
        self.state.put(key, self.least_ms(share))

    @functools.cached_property
    def least_ms(self) -> Callable[[float], float]:
        """By the table, for a share of the MACs."""
        return least_time(self.coupling, self.table, BOUND_ALIGN)

    def plan(self, variant: Variant, share: float) -> dict[str, Any]:
        """Choose widths, or take the choice of an earlier run."""
        key = f"{self.key} {share} {variant.name}"
        if self.state.done(key) is not None:
            return self.state.done(key)
        try:
            found = self._planned(variant, share)
        except PruneError as error:  # out of reach at this alignment: the table says so
            return self.state.put(key, {"refused": str(error)})
        if "keep" not in found:
            return self.state.put(key, found)
        keep = found["keep"]
        dense, waste = self.coupling.macs(), padding_waste(self.coupling, keep, align=16)
        return self.state.put(
            key, {**found, "share": self.coupling.macs(keep) / dense, "padding": waste.wasted / dense}
        )

    def _planned(self, variant: Variant, share: float) -> dict[str, Any]:
        if variant.policy == TORCH_PRUNING:
            return self._by_torch_pruning(variant, share)
        if variant.target == "latency":
            return self._by_latency(variant, share)
        if variant.target == AT_EQUAL_MACS:
            return self._predicted(self._at_equal_macs(variant, share))
        return self._predicted(self._allocate(variant, Target("ratio", 1 - share), None))

    def _by_torch_pruning(self, variant: Variant, share: float) -> dict[str, Any]:
        tool = UniformL2(CLASSES, variant.align)
        ratio, left = tool.at_share(self.segmenter.network, self.shape, share)
        cut = tool.cut(self.segmenter.network, self.shape, ratio)
        return {"torch_pruning_ratio": ratio, "share": left, "predicted_ms": self._predicted_ms(cut)}

    def _rebuilt(self, variant: Variant, plan: Mapping[str, Any]) -> Segmenter:
        if "keep" in plan:
            return self.cut(plan["keep"])
        tool = UniformL2(CLASSES, variant.align)
        return self._wrapped(tool.cut(self.segmenter.network, self.shape, plan["torch_pruning_ratio"]))

    def _predicted(self, keep: dict[str, list[int]]) -> dict[str, Any]:
        return {"keep": keep, "predicted_ms": self._predicted_ms(self.cut(keep).network)}

    def _predicted_ms(self, network: torch.nn.Module) -> float:
        return self.table.network_ms(widths_of(network, self.table.layers))

    def _at_equal_macs(self, variant: Variant, share: float) -> dict[str, list[int]]:
        def choose(target_ms: float) -> dict[str, list[int]]:
            return self._allocate(variant, Target("latency", target_ms), self.table)

        return at_share_of_macs(self.coupling, self.table.dense_ms, share, choose)

    def _by_latency(self, variant: Variant, share: float) -> dict[str, Any]:
        target_ms = share * self.table.dense_ms
        outcome = meet_latency(
            self.segmenter.network,
            self.coupling,
            self.table,
            target_ms,
            choose=lambda table: self._allocate(variant, Target("latency", target_ms), table),
            measure_ms=lambda network: self.meter.network_ms(self._wrapped(network), self.shape),
        )
        rounds = [(row.predicted_ms, row.measured_ms) for row in outcome.rounds]
        keep = {name: list(kept) for name, kept in outcome.best.keep.items()}
        first = {"predicted_ms": outcome.best.predicted_ms, "rounds": rounds, "target_ms": target_ms}
        return {"keep": keep, **first, "ended": outcome.ended}

    def _allocate(self, variant: Variant, target: Target, table: LatencyTable | None) -> dict[str, list[int]]:
        policy: Any = variant.policy
        if policy == MOST_MACS:
            assert table is not None, "only latency targets have it"
            return most_macs(self.coupling, table, target.value, variant.align)
        return allocate(self.coupling, self.rankings, target, policy=policy, align=variant.align, table=table).keep

    @functools.cached_property
    def rankings(self) -> Mapping[str, Ranking]:
        """Stand-ins, since random weights say nothing: the last units go first, and no policy here asks for prices."""
        return {group.name: Ranking(np.arange(group.width)[::-1], np.ones(group.width)) for group in self.coupling.free}

    def cut(self, keep: Mapping[str, Sequence[int]]) -> Segmenter:
        """Return the pruned network."""
        return self._wrapped(pruned(self.segmenter.network, make_plan(self.coupling, keep)))

    def _wrapped(self, network: torch.nn.Module) -> Segmenter:
        return Segmenter(network, self.segmenter.num_classes, self.segmenter.stride).eval()


if __name__ == "__main__":
    main()
