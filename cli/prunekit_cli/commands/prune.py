"""`prunekit prune`: remove channels that repeat each other, then train on."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunekit_cli.folders import source_run, target_run
from prunekit_cli.options import common as options
from prunekit_cli.options import prune as own
from prunekit_cli.options.device import On
from prunekit_cli.showing import output
from prunekit_cli.showing.observing import TrainingProgress
from prunekit_cli.showing.progress import Progress
from prunekit_cli.showing.prune_report import announce, show, show_criteria
from prunekit_cli.threads import wait_patiently

if TYPE_CHECKING:
    from prunekit.pruning.latency import Machine
    from prunekit.run import RunDirectory
    from prunekit.workflows.prune import PruneConfig, PruneReport
    from prunekit_export.latency import LatencyMeter

EXAMPLES = (
    "prunekit prune",
    "prunekit prune runs/0001-train --ratio 0.5 --epochs 20",
    "prunekit prune --ratio 0.6 --schedule iterative --stage-epochs 5 --distill channel",
    "prunekit prune --target-latency 8ms --allocation cost --align 16",
    "prunekit prune --target-latency 8ms --on nvidia@orin --latency-precision fp16",
    "prunekit prune --target-macs 2.5G --schedule gradual --steps 6 --min-miou 0.6",
    "prunekit prune --ratio 0.3 --criterion taylor --compensate none --json",
    "prunekit prune --list-criteria",
    "prunekit prune --resume runs/0002-prune",
)

PANELS = {
    "What to reach": ("ratio", "target_macs", "target_params", "target_latency", "on"),
    "What goes": ("criterion", "list_criteria"),
    "How, in steps": ("schedule", "steps"),
    "Training": ("epochs", "lr"),
    "Run": ("out", "resume", "as_json", "help"),
}

_MEASURING = {"latency_runtime": "ort", "latency_threads": 1, "latency_precision": "fp32"}
_ON = ("on", "on_python", "ssh_config")
_NOT_CONFIG = (*_MEASURING, *_ON, "run", "list_criteria", "trust_code", "out", "resume", "verbose", "as_json")


def command(
    run: options.RunArgument = None,
    ratio: own.Ratio = None,
    target_macs: own.TargetMacs = None,
    target_params: own.TargetParams = None,
    target_latency: own.TargetLatency = None,
    latency_runtime: own.LatencyRuntime = None,
    latency_threads: own.LatencyThreads = None,
    latency_precision: own.LatencyPrecision = None,
    on: own.On = None,
    on_python: own.OnPython = None,
    ssh_config: own.SshConfig = None,
    criterion: own.Criterion = None,
    list_criteria: own.ListCriteria = False,
    allocation: own.Allocation = None,
    align: own.Align = None,
    schedule: own.Schedule = None,
    stages: own.Stages = None,
    steps: own.Steps = None,
    epochs: own.Epochs = None,
    stage_epochs: own.StageEpochs = None,
    min_miou: own.MinMiou = None,
    init: own.Init = None,
    distill: own.Distill = None,
    compensate: own.Compensate = None,
    bn_batches: own.BnBatches = None,
    sparsity: own.Sparsity = None,
    sparsity_epochs: own.SparsityEpochs = None,
    loss: own.Loss = None,
    sampler: own.Sampler = None,
    select: own.Select = None,
    select_ratio: own.SelectRatio = None,
    root: options.RootOption = None,
    settings: own.Settings = None,
    lr: own.LearningRate = None,
    batches: own.Batches = None,
    seed: own.Seed = None,
    precision: own.Precision = None,
    device: own.Device = None,
    threads: own.Threads = None,
    trust_code: options.TrustOption = False,
    out: options.OutOption = None,
    resume: own.Resume = None,
    verbose: own.Verbose = False,
    as_json: options.JsonOption = False,
) -> None:
    """Prune a trained run to a share of its MACs, to a size or to a latency, then fine-tune it by its own recipe."""
    every = dict(locals())
    given = {name: value for name, value in every.items() if name not in _NOT_CONFIG}
    measuring = options.given({name: every[name] for name in _MEASURING})
    place = On.given(on, on_python, ssh_config)
    wait_patiently()
    if list_criteria:
        show_criteria(as_json)
        return
    if resume is not None:
        options.refuse_with_resume(options.given(given | {"root": None, "RUN": run, "out": out}) | measuring)
        show(
            _continue(resume, root, place, trust_code),
            resume,
            as_json=as_json,
            verbose=verbose,
            trust=_trust(trust_code),
        )
        return
    config = own.config_of(given)
    if (measuring or place) and config.target_kind != "latency":
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in (*measuring, *(["on"] if place else [])))
        raise options.OptionError(f"{flags} says how --target-latency is measured, and there is none. Leave it out.")
    source = source_run(run, kinds=("train", "import"), called="trained or imported run")
    with target_run(out, "prune") as target:
        report = _run(source, config, target, measuring, place, trust_code)
        show(report, target.path, as_json=as_json, verbose=verbose, trust=_trust(trust_code))


def _run(
    source: "RunDirectory",
    config: "PruneConfig",
    target: "RunDirectory",
    measuring: dict[str, Any],
    device: On | None,
    trust_code: bool,
) -> "PruneReport":
    from prunekit.workflows.prune import prune_run

    chosen = _MEASURING | ({"latency_runtime": "tensorrt"} if device else {}) | measuring
    with (
        output.hint_on_interrupt(_hint(target, device, trust_code), once=target.recipe_path),
        Progress() as progress,
        _meter(chosen if config.target_kind == "latency" else None, device, progress) as meter,
    ):
        return prune_run(
            source,
            config,
            target,
            meter=meter,
            held=True,
            on_ready=lambda: announce(source, config, target, progress),
            **_watching(progress, trust_code),
        )


def _continue(path: Path, root: str | None, device: On | None, trust_code: bool) -> "PruneReport":
    from prunekit.run import RunDirectory, open_run
    from prunekit.workflows.prune import is_pruning, needs_latency, read_report, resume_prune

    begun = RunDirectory(path)
    if path.is_dir() and not (begun.recipe_path.exists() or is_pruning(begun)):
        raise options.OptionError(f"{path} holds no pruning that was begun. Prune again; nothing is lost.")
    target = begun if is_pruning(begun) else open_run(path)
    report = read_report(target) if is_pruning(target) else None
    machine = report.machine if report is not None and needs_latency(report) else None
    with (
        output.hint_on_interrupt(_hint(target, device, trust_code), once=target.recipe_path),
        Progress() as progress,
        _meter(None if machine is None else _measured_with(machine), device, progress) as meter,
    ):
        return resume_prune(target, meter=meter, root=root, **_watching(progress, trust_code))


def _measured_with(machine: "Machine") -> dict[str, Any]:
    """Return the options that the earlier stages were measured with."""
    runtime = "ort" if machine.runtime.startswith("onnxruntime") else "tensorrt"
    return dict(zip(_MEASURING, (runtime, machine.threads, machine.precision), strict=True))


def _meter(
    measuring: dict[str, Any] | None, device: On | None, progress: Progress
) -> AbstractContextManager["LatencyMeter | None"]:
    """Return what measures, here or on a device; nothing where nothing is to be measured."""
    if measuring is None:
        return nullcontext()

    def on_progress(done: int, total: int) -> None:
        progress.advance("measuring layers", done, total)

    runtime, threads, precision = (measuring[name] for name in _MEASURING)
    if device is not None:
        return device.meter(runtime, threads=threads, precision=precision, on_progress=on_progress)
    from prunekit_export.latency import open_meter

    return nullcontext(open_meter(runtime, threads=threads, precision=precision, on_progress=on_progress))


def _hint(target: "RunDirectory", device: On | None, trust_code: bool) -> str:
    there = "" if device is None else device.typed
    return f"Go on with: prunekit prune --resume {target.path}{there}{_trust(trust_code)}"


def _trust(trust_code: bool) -> str:
    """Return what a command needs that loads the run: what this one was given."""
    return " --trust-code" if trust_code else ""


def _watching(progress: Progress, trust_code: bool) -> dict[str, Any]:
    observer = TrainingProgress(progress, "fine-tuning")
    return {
        "observer": observer,
        "on_stage": progress.stage,
        "on_progress": progress.advance,
        "trust_code": trust_code,
    }
