"""Step training: images a second of a training step, dense and cut, by precision and memory layout."""

import copy
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from gpu_steps.networks import AGAIN, CLASSES, CUTS, DENSE, Subject, family, subjects
from gpu_steps.step import Bench, Job, Row, Step
from gpu_steps.tables import CUT, ratio_cell, table, verdict_cell
from gpu_steps.timing import DRY, Call, Effort, compare, stopwatch_of
from prunekit.models.segmenter import Segmenter

EFFORT = Effort(budget_s=12.0, block_ms=0.0)
MODES = tuple(itertools.product(("bf16", "fp16", "fp32"), (True, False)))
_IGNORED, _BATCH = 255, 8


def jobs(bench: Bench) -> Sequence[Job]:
    """Return a job a network, precision and layout."""
    modes = (("bf16", True),) if bench.dry_run else MODES
    return [
        Job(
            f"{name} | {precision} | {layout_name(last)}",
            lambda n=name, p=precision, c=last: _row(bench, n, p, c),
            subject.needs,
        )
        for (name, subject), (precision, last) in itertools.product(subjects(bench).items(), modes)
    ]


def layout_name(channels_last: bool) -> str:
    """Return what a memory layout is called."""
    return "channels last" if channels_last else "channels first"


def _row(bench: Bench, name: str, precision: str, channels_last: bool) -> dict[str, Any]:
    found, subject = family(name, bench.device), subjects(bench)[name]
    batch, effort = (2, DRY) if bench.dry_run else (_BATCH, EFFORT)
    calls = {
        member: step_call(network, subject, bench.device, precision, channels_last, batch)
        for member, network in found.members.items()
    }
    times = compare(calls, stopwatch_of(bench.device), effort, bench.device)
    macs = {member: found.ratio(member) for member in found.members}
    shown = {"network": name, "precision": precision, "layout": layout_name(channels_last)}
    return {**times, **shown, "spec": found.spec, "macs_ratio": macs, "batch": batch, "crop": subject.crop}


def step_call(
    network: Segmenter, subject: Subject, device: str, precision: str, channels_last: bool, batch: int
) -> Call:
    """Return a training step on noise as `prunekit train` does it: forward, backward, optimiser."""
    from prunekit.models.narrow import NarrowConvolutionsContiguous
    from prunekit.recipe import parse_recipe
    from prunekit.training.device import autocast
    from prunekit.training.losses import training_loss
    from prunekit.training.optimisers import make_optimiser

    config = parse_recipe({"train": {"batch_size": batch, "precision": precision}}).train
    layout = torch.channels_last if channels_last else torch.contiguous_format
    trained = copy.deepcopy(network).train().to(memory_format=layout)
    where = torch.device(device)
    images_B3HW = torch.randn(batch, 3, subject.crop, subject.crop, device=where).to(memory_format=layout)
    labels_BHW = torch.randint(CLASSES, (batch, subject.crop, subject.crop), device=where)
    optimiser = make_optimiser(trained.network, config)
    scaler = torch.amp.GradScaler(device, enabled=precision == "fp16")

    def run() -> None:
        optimiser.zero_grad(set_to_none=True)
        with NarrowConvolutionsContiguous():
            with autocast(where, precision):
                outputs = trained.outputs(images_B3HW)
            loss = training_loss(outputs, labels_BHW, config, _IGNORED)
            scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()

    return run


def _table(rows: Mapping[str, Row]) -> list[str]:
    how = (
        "Forward, backward and optimiser of `prunekit train` on noise that lies on the GPU: what a data loader that keeps up "
        "leaves. fp32 multiplies as torch does by default, convolutions in TF32. Speed-ups are ratios of medians over "
        "rounds in turns, with 95 % bootstrap intervals."
    )
    speedups = [f"{name}, times as fast" for name in CUTS]
    header = (
        "network",
        "precision",
        "layout",
        "batch x crop",
        "dense [images/s]",
        *speedups,
        "dense, again",
        "verdict",
    )
    return [how, "", CUT, "", *table(header, [_cells(row) for row in rows.values()])]


def _cells(row: Row) -> list[str]:
    dense, batch = row["candidates"][DENSE], row["batch"]
    rate, low, high = (batch * 1e3 / dense[key] for key in ("ms", "high_ms", "low_ms"))
    cells = [str(row[key]) for key in ("network", "precision", "layout")]
    cells += [f"{batch} x {row['crop']}", f"{rate:.1f} ({low:.1f}..{high:.1f})"]
    cells += [ratio_cell(row["candidates"][name]["speedup"]) for name in (*CUTS, AGAIN)]
    return [*cells, verdict_cell(row)]


STEP = Step("training", "Training throughput", ("pydantic", "tomli_w"), ("pydantic", "tomli_w"), jobs, _table)
