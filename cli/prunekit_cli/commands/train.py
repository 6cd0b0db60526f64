"""`prunekit train`: train a network by a recipe."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunekit_cli.commands.importing import tell_weights, trust_flag
from prunekit_cli.folders import target_run
from prunekit_cli.options import common as options
from prunekit_cli.options import data as data_options
from prunekit_cli.options.common import OptionError
from prunekit_cli.showing import formats, output
from prunekit_cli.showing.observing import TrainingProgress
from prunekit_cli.showing.output import Setting, Table
from prunekit_cli.showing.progress import Progress
from prunekit_cli.threads import wait_patiently

if TYPE_CHECKING:
    from prunekit.recipe import Recipe
    from prunekit.run import RunDirectory
    from prunekit.training.loop import FitReport

EXAMPLES = (
    "prunekit train",
    "prunekit train --data camvid --root camvid --size 360x480 --epochs 60 --precision bf16",
    "prunekit train --data folder --root street --classes street.toml --size 512x1024",
    "prunekit train --model 'smp:Unet?encoder=resnet18' --head ccs --select pfb",
    "prunekit train --model 'smp:Unet?encoder=resnet18' --weights best.pth --allow-missing 'segmentation_head.*'",
    "prunekit train --data camvid --root camvid --size 360x480 --loss ohem --class-weights sqrt",
    "prunekit train --from runs/0002-prune --qat",
    "prunekit train --resume runs/0001-train",
)

PANELS = {
    "Data": ("data", "root", "classes", "size"),
    "Network": ("model", "weights"),
    "Training": ("pretrained", "epochs", "batch_size", "select"),
    "Run": ("recipe", "settings", "out", "resume", "help"),
}

Data = Annotated[
    str | None, typer.Option(metavar="NAME", help=f"Data set: {options.DATA_SETS}.", show_default="shapes")
]
Root = Annotated[str | None, typer.Option(metavar="DIR", help="Folder of the data set (all but shapes).")]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="SPEC",
        help="Network: smp:NAME?encoder=..., torchvision:NAME, hf:FOLDER or python:package.module:factory?arg=...",
        show_default="street_net",
    ),
]
Head = Annotated[
    str | None,
    typer.Option(
        metavar="plain|ccs",
        help="Classifier: plain, the network's own; ccs, class center similarity (class centers adapt to the scene).",
        show_default="plain",
    ),
]
Pretrained = Annotated[
    bool | None,
    typer.Option(
        "--pretrained/--no-pretrained",
        help="Start from the library's pretrained encoder, with the mean and standard deviation it was trained with.",
        show_default="no-pretrained",
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Start from the weights in this file: .safetensors, or a state dict as .pt, .pth, .bin or .ckpt.",
        show_default="random weights",
    ),
]
From = Annotated[
    Path | None,
    typer.Option(
        "--from",
        metavar="RUN",
        help="Train the network of this run on, pruned as it is, by the run's own recipe; all but the network may be "
        "set anew.",
        show_default="a new network",
    ),
]
Qat = Annotated[
    bool | None,
    typer.Option(
        "--qat/--no-qat",
        help="Quantization-aware training: round weights and inputs of layers to int8 as an int8 export does. With "
        "--from, epochs and learning rate are a tenth of the run's unless given.",
        show_default="no-qat",
    ),
]
Epochs = Annotated[int | None, typer.Option(help="Number of passes over the training images.", show_default="20")]
BatchSize = Annotated[int | None, typer.Option(help="Images per training step.", show_default="8")]
LearningRate = Annotated[
    float | None, typer.Option("--lr", help="Highest learning rate of the schedule.", show_default="0.002")
]
Precision = Annotated[
    str | None,
    typer.Option(
        metavar="fp32|bf16|fp16",
        help="Number format of training: fp32, or mixed precision with bf16 or fp16.",
        show_default="fp32",
    ),
]
Loss = Annotated[
    str | None,
    typer.Option(
        metavar="ce|ohem|focal|gsrl",
        help="Loss by pixel: cross-entropy, that of hard pixels, focal, or rebalanced towards rare classes. Dice and "
        "Lovasz are added by --set train.dice_weight and train.lovasz_weight.",
        show_default="ce",
    ),
]
ClassWeights = Annotated[
    str | None,
    typer.Option(
        metavar="HOW",
        help="Weights of the classes in the loss: sqrt or inverse, from their frequency, or numbers between commas.",
        show_default="none",
    ),
]
Select = Annotated[
    str | None,
    typer.Option(
        metavar="none|random|pfb|rs2|classes",
        help="Which images to train on. random and pfb (partial forward blocking) skip some of each batch; rs2 (random "
        "subsets) and classes (views that even out the classes) take fewer steps.",
        show_default="none",
    ),
]
SelectRatio = Annotated[
    float | None, typer.Option(help="Share of each batch, or of the steps, to save by --select.", show_default="0.4")
]
Budget = Annotated[float | None, typer.Option(help="Share of the steps to take, in (0, 1].", show_default="1")]
Seed = Annotated[
    int | None, typer.Option(help="Random seed of initial weights, image order and augmentation.", show_default="0")
]
Resume = Annotated[Path | None, typer.Option(metavar="RUN", help="Continue an interrupted run with its own recipe.")]

_MOVABLE = ("data.root", "data.classes")  # what may be said anew beside --resume


def command(
    recipe: options.RecipeOption = None,
    settings: options.SetOption = None,
    data: Data = None,
    root: Root = None,
    classes: data_options.ClassesOption = None,
    ignore_index: data_options.IgnoreOption = None,
    images: data_options.ImagesOption = None,
    masks: data_options.MasksOption = None,
    size: data_options.SizeOption = None,
    model: Model = None,
    head: Head = None,
    pretrained: Pretrained = None,
    weights: Weights = None,
    from_run: From = None,
    allow_missing: options.AllowMissingOption = None,
    allow_unexpected: options.AllowUnexpectedOption = None,
    part: options.PartOption = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    lr: LearningRate = None,
    precision: Precision = None,
    select: Select = None,
    select_ratio: SelectRatio = None,
    budget: Budget = None,
    loss: Loss = None,
    class_weights: ClassWeights = None,
    qat: Qat = None,
    seed: Seed = None,
    device: options.DeviceOption = None,
    threads: options.ThreadsOption = None,
    out: options.OutOption = None,
    resume: Resume = None,
    trust_code: options.TrustOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Train a network.

    Flags override --set, --set overrides the recipe file, and the recipe file overrides the defaults.
    """
    wait_patiently()
    flags = {
        "data.name": data,
        "data.root": root,
        **data_options.mask_settings(classes, ignore_index, images, masks),
        **data_options.size_settings(size),
        "model.name": model,
        "model.head": head,
        "model.pretrained": pretrained,
        "model.weights": None if weights is None else str(weights),
        "model.weights_part": part,
        "model.allow_missing": allow_missing,
        "model.allow_unexpected": allow_unexpected,
        "train.epochs": epochs,
        "train.batch_size": batch_size,
        "train.lr": lr,
        "train.precision": precision,
        "train.qat": qat,
        "train.seed": seed,
        "train.device": device,
        "train.threads": threads,
        "selection.strategy": select,
        "selection.ratio": select_ratio,
        "train.budget": budget,
        "train.loss": loss,
        "train.class_weights": class_weights,
    }
    chosen, given = options.parse_settings(settings), options.given(flags)
    overrides = chosen | given
    if resume is not None:
        moved = {name: value for name, value in overrides.items() if name in _MOVABLE}
        others = [name for name in overrides if name not in moved]
        options.refuse_with_resume([*others, *options.given({"--recipe": recipe, "--from": from_run, "--out": out})])
        _continue(resume, moved, trust_code, as_json)
        return
    plan, source = _adopted(recipe, given, chosen) if from_run is None else _from(from_run, recipe, given, chosen)
    # What is named on the command line, or in a recipe that is, is the user's own; what a run names is not.
    trusted = from_run is None or trust_code
    with target_run(out, "train") as run:
        _show(_fit(plan, run, source, resume=False, trust_code=trusted, held=True), plan, run, as_json)


def _from(path: Path, file: Path | None, given: dict[str, Any], chosen: dict[str, Any]) -> tuple["Recipe", str]:
    """Return the recipe of a training that goes on from a finished run, which brings its own preprocessing."""
    from prunekit.run import open_run
    from prunekit.workflows.continuing import recipe_from

    taken = [options.flag_of(name) for name in given if name.startswith("model.")]
    taken += [f"--set {name}" for name in chosen if name.startswith("model.")]
    taken += [] if file is None else ["--recipe"]
    if taken:
        raise OptionError(f"{', '.join(taken)}: --from takes the network and the recipe of the run. Leave it out.")
    return recipe_from(open_run(path), chosen | given), ""


def _adopted(file: Path | None, given: dict[str, Any], chosen: dict[str, Any]) -> tuple["Recipe", str]:
    """Return the recipe with the preprocessing of its pretrained network, and whose that is."""
    from prunekit.workflows.preparing import with_pretrained_preprocessing

    adopted = with_pretrained_preprocessing(options.recipe_of(file, given, chosen))
    return adopted.recipe, adopted.source


def _continue(path: Path, moved: dict[str, Any], trust_code: bool, as_json: bool) -> None:
    from prunekit.run import open_run
    from prunekit.workflows.importing import is_import
    from prunekit.workflows.prune import is_pruning

    run = open_run(path)
    if is_pruning(run):
        raise OptionError(f"{path} is a pruning. Go on with it by: prunekit prune --resume {path}")
    if is_import(run):
        raise OptionError(
            f"{path} is an import, which has no training to go on with. Train from its weights in a new run: "
            f"prunekit train --recipe {run.recipe_path}"
        )
    recipe = run.recipe(moved)
    _show(_fit(recipe, run, resume=True, trust_code=trust_code, held=False), recipe, run, as_json)


def _fit(
    recipe: "Recipe", run: "RunDirectory", source: str = "", *, resume: bool, trust_code: bool, held: bool
) -> "FitReport":
    """Train; `source` says whose preprocessing the recipe adopted, if it did."""
    from prunekit.workflows.train import train

    hint = f"Go on with: prunekit train --resume {run.path}{trust_flag(recipe)}"
    with output.hint_on_interrupt(hint, once=run.recipe_path), Progress() as progress:
        progress.stage("Checking the data and building the network")
        return train(
            recipe,
            run,
            TrainingProgress(progress),
            resume,
            trust_code=trust_code,
            held=held,
            on_weights=tell_weights,
            on_progress=progress.advance,
            on_ready=None if resume else lambda: _announce(recipe, source, run, progress),
        )


def _announce(recipe: "Recipe", source: str, run: "RunDirectory", progress: Progress) -> None:
    data, train = recipe.data, recipe.train
    adopted = f"{_numbers(data.mean)} and {_numbers(data.std)}, {data.channels.upper()} ({source})"
    rows = [
        Setting("data", f"{data.name} {data.root} {data.height}x{data.width}", "--data --root --size"),
        Setting("model", f"{recipe.model.name}, {recipe.model.head} head", "--model --head"),
        Setting("weights", _start(recipe), "--weights --pretrained --from"),
        *([Setting("mean and std", adopted, "--set data.mean=... data.std=...")] if source else []),
        Setting(
            "training",
            f"{formats.counted(train.epochs, 'epoch')}, batch {train.batch_size}, {train.optimiser}",
            "--epochs --batch-size",
        ),
        Setting("learning rate", f"{train.lr:g}", "--lr"),
        Setting("precision", f"{train.precision} on {train.device}", "--precision --device"),
        *([Setting("rounding", "weights and inputs of layers to int8", "--qat")] if train.qat else []),
        Setting("selection", recipe.selection.strategy, "--select --select-ratio"),
        Setting("seed", str(train.seed), "--seed"),
        Setting("run", str(run.path), "--out"),
    ]
    progress.settings("Training", rows)
    progress.line("All settings: prunekit recipe; any of them: --set section.key=value")


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _start(recipe: "Recipe") -> str:
    if recipe.model.weights:
        is_run = Path(recipe.model.weights).is_dir()
        return f"the run {Path(recipe.model.weights).name}" if is_run else recipe.model.weights
    return "the library's, pretrained" if recipe.model.pretrained else "random, by the seed"


def _show(report: "FitReport", recipe: "Recipe", run: "RunDirectory", as_json: bool) -> None:
    if as_json:
        output.show_json({"run": run.path, "report": report})
        return
    rows = [
        ("validation mIoU", formats.score(report.miou)),
        ("pixel accuracy", formats.score(report.pixel_accuracy)),
        ("loss of the last epoch", f"{report.loss:.4f}"),
        ("steps", f"{report.steps} of {report.full_steps}"),
        ("images trained on", str(report.images_kept)),
        ("backward passes left out", formats.percent(report.pruned_fraction)),
        ("training time", formats.duration(report.train_wall_s)),
        ("speed", f"{report.images_per_s:.0f} images/s on {report.device}"),
    ]
    output.show(Table(f"Trained {run.path}", ("", "value"), rows))
    classes = zip(report.card.class_names, report.iou, strict=True)
    output.show(Table("Validation IoU", ("class", "IoU"), [(name, formats.score(iou)) for name, iou in classes]))
    trust = trust_flag(recipe)
    output.say(f"Next: prunekit prune {run.path} --ratio 0.5{trust}   or   prunekit export {run.path}{trust}")
