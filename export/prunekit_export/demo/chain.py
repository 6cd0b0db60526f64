"""The demo: the whole chain on generated street scenes, by the same functions as the commands.

It trains a small network with the CCS head, prunes half of its MACs, fine-tunes, exports three files - dense, pruned,
pruned and folded - and measures them in one alternating loop.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from prunekit.progress import told
from prunekit.run import RunDirectory
from prunekit_export.demo.picture import draw_predictions
from prunekit_export.engine import choose_package
from prunekit_export.errors import ExportError
from prunekit_export.require import require
from prunekit_export.running import CONTRACT, ProfileConfig, evaluate_runner, open_runner, profile_models
from prunekit_export.workflow import ExportConfig, export_model
from prunekit_runtime.preprocessing import read_contract

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from prunekit.data.dataset import SegmentationDataset
    from prunekit.progress import Progress
    from prunekit.recipe import Recipe
    from prunekit.training.events import Observer
    from prunekit.workflows.prune import PruneConfig
    from prunekit_export.running import ProfileReport
    from prunekit_export.workflow import ExportOutcome, Fold

    Tell = Callable[[str], None]

PICTURE = "predictions.png"
PICTURE_ROWS = 4  # validation images shown


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """The few things about the demo that can be chosen; the rest is in the recipe it writes."""

    seed: int = 0
    device: str = "auto"
    train_epochs: int = 24
    """Passes over `train_images` images."""
    tune_epochs: int = 12
    """The same after pruning."""
    train_images: int = 192
    val_images: int = 48
    model: str = "python:prunekit.models.street:street_net?width=24"
    eval_every: int = 5
    """Epochs between evaluations."""
    height: int = 128
    """[px]"""
    width: int = 192
    """[px]"""
    ratio: float = 0.5
    """Share of the MACs to remove."""
    threads: int = 0
    """CPU threads; 0 leaves torch its choice and measures on one thread, which another process disturbs least."""
    runs: int = 100
    """Runs of each file that are timed."""


@dataclass(frozen=True)
class DemoRow:
    """One exported network."""

    name: str
    miou: float
    """Of the ONNX file, in ONNX Runtime, on the validation images."""
    macs: int
    params: int
    latency_p50_ms: float
    latency_p90_ms: float
    speed_up: float
    """Over the dense file, by the medians of alternating runs."""
    parity_max_rel: float
    """Largest error against torch as a share of the largest logit, over the shapes that were tried."""
    onnx_bytes: int
    engine_bytes: int | None
    """Of the TensorRT engine; None where none can be built."""


@dataclass(frozen=True)
class DemoReport:
    """What the demo shows."""

    out: Path
    rows: tuple[DemoRow, ...]
    ran_on: str
    """The runner that was timed."""
    engines: str
    """How the engines were built, or why there are none."""
    picture: Path
    precision: str
    """Autocast type of the training."""
    device: str
    threads: int
    """Of each measured file."""
    wall_s: float


def run_demo(
    out: Path,
    config: DemoConfig,
    *,
    observer: Observer | None = None,
    on_stage: Callable[[str], None] | None = None,
    on_progress: Progress | None = None,
) -> DemoReport:
    """Run the chain and write everything below `out`: train/, prune/, export/NAME/ and predictions.png.

    Args:
        out: an existing, empty folder.
        config: what can be chosen.
        observer: watches the training and the fine-tuning.
        on_stage: told what is being done.
        on_progress: told how far each step is that has parts.

    Raises:
        PrunekitError: a step cannot be done here; the message says what to install or to change.
    """
    with told(on_progress):
        return _run(out, config, observer, on_stage or (lambda _: None))


def _run(out: Path, config: DemoConfig, observer: Observer | None, tell: Tell) -> DemoReport:
    from prunekit.workflows.prune import prune_run
    from prunekit.workflows.train import train
    from prunekit_runtime.running.ort import require_onnxruntime

    started_s = time.monotonic()
    require_onnxruntime()  # now, not after minutes of training
    no_engines = engines_here()
    recipe = demo_recipe(config)
    dense, pruned = _folder(out / "train"), _folder(out / "prune")
    tell("training the dense network")
    train(recipe, dense, observer=observer, resume=False)
    tell(f"pruning {config.ratio:.0%} of its MACs and fine-tuning")
    prune_run(dense, _prune_config(config), pruned, observer=observer, on_stage=tell)
    exports = {
        name: _export(run, fold, out, name, no_engines is None, tell) for name, run, fold in _networks(dense, pruned)
    }
    return _measure(out, config, recipe, exports, no_engines=no_engines, tell=tell, started_s=started_s)


def demo_recipe(config: DemoConfig) -> Recipe:
    """Return the recipe of the dense network."""
    from prunekit.recipe import parse_recipe

    return parse_recipe(
        {
            "data": {
                "height": config.height,
                "width": config.width,
                "train_images": config.train_images,
                "val_images": config.val_images,
                "seed": config.seed,
            },
            "model": {"name": config.model, "head": "ccs"},
            "train": {
                "epochs": config.train_epochs,
                "precision": fast_precision(config.device),
                "device": config.device,
                "threads": config.threads,
                "seed": config.seed,
                "eval_every": config.eval_every,
            },
        }
    )


def fast_precision(device: str) -> Literal["bf16", "fp32"]:
    """Return bf16 where the hardware multiplies it, fp32 where it would be emulated."""
    import torch

    if device != "cpu" and torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    capabilities = torch.cpu.get_capabilities()
    return "bf16" if capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") else "fp32"


def engines_here() -> str | None:
    """Return None where engines can be built, else why not."""
    try:
        package, _ = choose_package("auto")
        require(package)  # a package that does not load is known now, not after minutes of training
    except ExportError as error:
        return str(error)
    return None


def _networks(dense: RunDirectory, pruned: RunDirectory) -> list[tuple[str, RunDirectory, Fold]]:
    return [("dense", dense, "none"), ("pruned", pruned, "none"), ("pruned, folded", pruned, "static")]


def _folder(path: Path) -> RunDirectory:
    path.mkdir(parents=True)
    return RunDirectory(path)


def _prune_config(config: DemoConfig) -> PruneConfig:
    from prunekit.workflows.prune import PruneConfig

    return PruneConfig.model_validate({"ratio": config.ratio, "epochs": config.tune_epochs, "seed": config.seed})


def _export(run: RunDirectory, fold: Fold, out: Path, name: str, trt: bool, tell: Tell) -> ExportOutcome:
    folder = out / "export" / name.replace(", ", "-")
    config = ExportConfig(fold=fold, trt=trt)
    return export_model(run, config, folder, on_stage=lambda stage: tell(f"{name}: {stage}"))


def _measure(
    out: Path,
    config: DemoConfig,
    recipe: Recipe,
    exports: Mapping[str, ExportOutcome],
    *,
    no_engines: str | None,
    tell: Tell,
    started_s: float,
) -> DemoReport:
    from prunekit.data.registry import open_dataset
    from prunekit.training.device import resolve_device

    dataset = open_dataset(recipe.data, "val")
    paths = [outcome.summary.onnx_path for outcome in exports.values()]
    tell(f"measuring {len(paths)} files in turns, {config.runs} runs each")
    threads = config.threads or 1
    profile = profile_models(paths, ProfileConfig(threads=threads, runs=config.runs))
    tell("evaluating the exported files")
    mious = _evaluate_and_draw(out, dataset, dict(zip(exports, paths, strict=True)), config.threads)
    return DemoReport(
        out=out,
        rows=tuple(
            _row(name, outcome, mious[name], profile, index) for index, (name, outcome) in enumerate(exports.items())
        ),
        ran_on=profile.models[0].ran_on,
        engines=no_engines or _statement(exports),
        picture=out / PICTURE,
        precision=recipe.train.precision,
        device=resolve_device(recipe.train.device).type,
        threads=threads,
        wall_s=time.monotonic() - started_s,
    )


def _statement(exports: Mapping[str, ExportOutcome]) -> str:
    engines = (outcome.summary.engine for outcome in exports.values())
    return "; ".join(sorted({engine.statement for engine in engines if engine is not None}))


def _evaluate_and_draw(
    out: Path, dataset: SegmentationDataset, paths: Mapping[str, Path], threads: int
) -> dict[str, float]:
    """Return the mIoU of each file and draw what they see."""
    with ExitStack() as stack:
        runners = {name: stack.enter_context(open_runner(path, threads=threads)) for name, path in paths.items()}
        contract = read_contract(next(iter(paths.values())).parent / CONTRACT)
        shown = [index * len(dataset) // PICTURE_ROWS for index in range(PICTURE_ROWS)]
        draw_predictions(out / PICTURE, dataset, contract, runners, shown)
        return {name: evaluate_runner(runner, dataset, contract).miou for name, runner in runners.items()}


def _row(name: str, outcome: ExportOutcome, miou: float, profile: ProfileReport, index: int) -> DemoRow:
    latency = profile.models[index].latency
    summary = outcome.summary
    return DemoRow(
        name=name,
        miou=miou,
        macs=outcome.macs,
        params=outcome.params,
        latency_p50_ms=latency.p50_ms,
        latency_p90_ms=latency.p90_ms,
        speed_up=profile.models[0].latency.p50_ms / latency.p50_ms,
        parity_max_rel=summary.parity.max_rel,
        onnx_bytes=summary.onnx_bytes,
        engine_bytes=summary.engine_bytes,
    )
