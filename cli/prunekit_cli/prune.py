"""`prunekit prune`: remove channels that repeat each other, then train on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunekit_cli import formats, options, output
from prunekit_cli.folders import source_run, target_run
from prunekit_cli.observing import TrainingProgress
from prunekit_cli.output import Setting, Table
from prunekit_cli.progress import Progress
from prunekit_cli.threads import wait_patiently

if TYPE_CHECKING:
    from prunekit.run import RunDirectory
    from prunekit.workflows.prune import PruneConfig, PruneReport

EXAMPLES = (
    "prunekit prune",
    "prunekit prune runs/0001-train --ratio 0.5 --epochs 20",
    "prunekit prune --ratio 0.3 --criterion l2 --json",
    "prunekit prune --resume runs/0002-prune",
)

Ratio = Annotated[float | None, typer.Option(help="Share of the MACs to remove, in (0, 1).", show_default="0.5")]
Criterion = Annotated[
    str | None,
    typer.Option(
        metavar="sirfp|l2|random", help="Which channels go: the redundant, the small, any.", show_default="sirfp"
    ),
]
Align = Annotated[int | None, typer.Option(help="Channel counts are kept multiples of this.", show_default="8")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training images after pruning.", show_default="10")]
LearningRate = Annotated[
    float | None, typer.Option("--lr", help="Peak learning rate after pruning.", show_default="0.001")
]
Batches = Annotated[int | None, typer.Option(help="Batches to collect channel statistics on.", show_default="16")]
Seed = Annotated[int | None, typer.Option(help="Seed of choice, order and augmentation.", show_default="0")]
Precision = Annotated[
    str | None, typer.Option(metavar="fp32|bf16|fp16", help="Autocast type.", show_default="as the run was trained")
]
Device = Annotated[
    str | None, typer.Option(metavar="auto|cpu|cuda", help="Where to compute.", show_default="as the run was trained")
]
Threads = Annotated[
    int | None,
    typer.Option(help="CPU threads; 0 leaves the library's choice.", show_default="as the run was trained"),
]
Resume = Annotated[
    Path | None, typer.Option(metavar="RUN", help="Go on with the fine-tuning of a pruning that was interrupted.")
]


def command(
    run: options.RunArgument = None,
    ratio: Ratio = None,
    criterion: Criterion = None,
    align: Align = None,
    epochs: Epochs = None,
    lr: LearningRate = None,
    batches: Batches = None,
    seed: Seed = None,
    precision: Precision = None,
    device: Device = None,
    threads: Threads = None,
    trust_code: options.TrustOption = False,
    out: options.OutOption = None,
    resume: Resume = None,
    as_json: options.JsonOption = False,
) -> None:
    """Prune a trained run to a share of its MACs, then fine-tune it by its own recipe."""
    wait_patiently()
    values = {
        "ratio": ratio,
        "criterion": criterion,
        "align": align,
        "epochs": epochs,
        "lr": lr,
        "batches": batches,
        "seed": seed,
        "precision": precision,
        "device": device,
        "threads": threads,
    }
    if resume is not None:
        options.refuse_with_resume(options.given(values | {"RUN": run, "out": out}))
        _continue(resume, trust_code, as_json)
        return
    config = _config(options.given(values))
    source = source_run(run, kinds=("train", "prune"))
    with target_run(out, "prune") as target:
        _announce(source, config, target)
        _show(_run(source, config, target, trust_code), target, as_json)


def _config(values: dict[str, Any]) -> "PruneConfig":
    from prunekit.workflows.prune import PruneConfig

    return options.checked(PruneConfig, values)


def _run(source: "RunDirectory", config: "PruneConfig", target: "RunDirectory", trust_code: bool) -> "PruneReport":
    from prunekit.workflows.prune import prune_run

    hint = f"Go on with: prunekit prune --resume {target.path}"
    with output.hint_on_interrupt(hint, once=target.recipe_path), Progress() as progress:
        observer = TrainingProgress(progress, "fine-tuning")
        return prune_run(source, config, target, observer=observer, on_stage=progress.stage, trust_code=trust_code)


def _continue(path: Path, trust_code: bool, as_json: bool) -> None:
    from prunekit.run import open_run
    from prunekit.workflows.prune import resume_prune

    target = open_run(path)
    hint = f"Go on with: prunekit prune --resume {target.path}"
    with output.hint_on_interrupt(hint, once=target.recipe_path), Progress() as progress:
        observer = TrainingProgress(progress, "fine-tuning")
        report = resume_prune(target, observer=observer, on_stage=progress.stage, trust_code=trust_code)
    _show(report, target, as_json)


def _announce(source: "RunDirectory", config: "PruneConfig", target: "RunDirectory") -> None:
    rows = [
        Setting("source", str(source.path), "RUN"),
        Setting("remove", f"{formats.percent(config.ratio)} of the MACs", "--ratio"),
        Setting("criterion", config.criterion, "--criterion"),
        Setting("channel counts", f"multiples of {config.align}", "--align"),
        Setting("statistics", f"{config.batches} batches", "--batches"),
        Setting("fine-tuning", f"{config.epochs} epochs at learning rate {config.lr:g}", "--epochs --lr"),
        Setting("seed", str(config.seed), "--seed"),
        Setting("run", str(target.path), "--out"),
    ]
    output.settings("Pruning", rows)


def _show(report: "PruneReport", target: "RunDirectory", as_json: bool) -> None:
    if as_json:
        output.show_json({"run": target.path, "report": report})
        return
    _show_layers(report)
    _show_frozen(report)
    _show_totals(report)
    output.say(f"Next: prunekit export {target.path}")


def _show_layers(report: "PruneReport") -> None:
    rows = [
        (
            layer.name,
            f"{layer.channels_before} -> {layer.channels_after}",
            f"{formats.quantity(layer.macs_before)} -> {formats.quantity(layer.macs_after)}",
        )
        for layer in report.layers
    ]
    output.show(Table("Layers", ("layer", "channels", "MACs"), rows))


def _show_frozen(report: "PruneReport") -> None:
    if report.frozen:
        output.show(Table("Left whole", ("group", "reason"), report.frozen))


def _show_totals(report: "PruneReport") -> None:
    removed = formats.percent(1 - report.params_after / report.params_before)
    rows = [
        (
            "MACs",
            formats.quantity(report.macs_before),
            formats.quantity(report.macs_after),
            formats.percent(report.ratio_realised),
        ),
        ("params", formats.quantity(report.params_before), formats.quantity(report.params_after), removed),
    ]
    output.show(Table("Pruned", ("", "before", "after", "removed"), rows))
    output.result(f"Largest difference from the masked network: {report.exactness:.1e} (exactness contract)")
    scores = [("dense", report.miou_before), ("pruned", report.miou_pruned), ("fine-tuned", report.miou_after)]
    output.show(Table("Validation mIoU", ("network", "mIoU"), [(name, formats.score(miou)) for name, miou in scores]))
