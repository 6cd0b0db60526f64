"""`prunekit import`: make a run of a network that was trained elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from prunekit_cli.folders import target_run
from prunekit_cli.options import common as options
from prunekit_cli.options import data as data_options
from prunekit_cli.options.common import OptionError
from prunekit_cli.showing import formats, output
from prunekit_cli.showing.output import Setting, Table
from prunekit_cli.showing.progress import Progress

if TYPE_CHECKING:
    from prunekit.models.weights.loading import WeightsReport
    from prunekit.recipe import Recipe
    from prunekit.run import RunDirectory
    from prunekit.workflows.importing import ImportReport, Prepared

EXAMPLES = (
    "prunekit import --model 'smp:Unet?encoder=resnet18' --weights best.pth --size 360x480 --data camvid --root camvid",
    "prunekit import --model smp:FPN --weights last.ckpt --size 256x512 --data folder --root street --mean .5,.5,.5",
    "prunekit import --model torchvision:lraspp_mobilenet_v3_large --weights net.pt --size 520x520 --classes voc.txt",
    "prunekit import --model hf:segformer-folder --data folder --root street",
)
PANELS: Final = {
    "The network": ("model", "weights"),
    "Its images": ("size", "mean", "std", "channels", "scale"),
    "Data": ("data", "root", "classes"),
    "Run": ("out", "as_json", "help"),
}
_ASSUMED: Final = {"mean": "ImageNet's, assumed", "std": "ImageNet's, assumed", "pixel_scale": "1/255, assumed"}

Model = Annotated[
    str | None,
    typer.Option(
        metavar="SPEC",
        help="Network: smp:NAME?encoder=..., torchvision:NAME, python:package.module:factory?arg=..., "
        "hf:FOLDER of a transformers model.",
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Its weights: .safetensors, or a state dict as .pt, .pth, .bin or .ckpt. No code in the file is executed.",
        show_default="model.safetensors in the folder of an hf: network",
    ),
]
Data = Annotated[
    str | None,
    typer.Option(metavar="NAME", help=f"Data set to evaluate on and to fine-tune with: {options.DATA_SETS}."),
]
Root = Annotated[str | None, typer.Option(metavar="DIR", help="Folder of the data set (all but shapes).")]
Classes = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Class list (TOML, text or CSV). Without --data it names the classes, and nothing is evaluated.",
    ),
]
Size = Annotated[
    str | None,
    typer.Option(metavar="HxW", help="Input size of the network, height first, such as 512x1024."),
]
Mean = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,C",
        help="Mean of the three channels after --scale, in the order of --channels.",
        show_default="the network's own where its library knows it, else ImageNet's",
    ),
]
Std = Annotated[
    str | None,
    typer.Option(metavar="A,B,C", help="Standard deviation of the three channels.", show_default="as for --mean"),
]
Channels = Annotated[
    str | None,
    typer.Option(metavar="rgb|bgr", help="Channel order that the network expects.", show_default="rgb"),
]
Scale = Annotated[
    str | None,
    typer.Option(
        metavar="NUMBER",
        help="Factor for pixel values of 0 to 255, applied before --mean and --std; 1 keeps them.",
        show_default="1/255",
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


def command(
    model: Model = None,
    weights: Weights = None,
    data: Data = None,
    root: Root = None,
    classes: Classes = None,
    ignore_index: data_options.IgnoreOption = None,
    images: data_options.ImagesOption = None,
    masks: data_options.MasksOption = None,
    size: Size = None,
    mean: Mean = None,
    std: Std = None,
    channels: Channels = None,
    scale: Scale = None,
    allow_missing: options.AllowMissingOption = None,
    allow_unexpected: options.AllowUnexpectedOption = None,
    part: options.PartOption = None,
    head: Head = None,
    recipe: options.RecipeOption = None,
    settings: options.SetOption = None,
    device: options.DeviceOption = None,
    threads: options.ThreadsOption = None,
    out: options.OutOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Turn a network that was trained elsewhere into a run, without training, to prune, evaluate or export it.

    Every tensor of the file must match the network. If one does not, nothing is written and the error says what.
    """
    flags = {
        "data.name": data if data is not None or classes is None else "folder",
        "data.root": root,
        **data_options.mask_settings(classes, ignore_index, images, masks),
        **data_options.size_settings(size),
        "data.mean": mean,
        "data.std": std,
        "data.channels": None if channels is None else options.one_of("--channels", channels.lower(), ("rgb", "bgr")),
        "data.pixel_scale": scale,
        "model.name": model,
        "model.weights": None if weights is None else str(weights),
        "model.weights_part": part,
        "model.allow_missing": allow_missing,
        "model.allow_unexpected": allow_unexpected,
        "model.head": head,
        "train.device": device,
        "train.threads": threads,
    }
    prepared = _prepared(options.recipe_of(recipe, options.given(flags), options.parse_settings(settings)))
    with target_run(out, "import") as run:
        report = _import(prepared, run)
    if as_json:
        output.show_json({"run": run.path, "report": report})
    else:
        _show(report, prepared.recipe, run)


def _prepared(recipe: "Recipe") -> "Prepared":
    from prunekit.models.hf import weights_in
    from prunekit.recipe import merge, parse_recipe
    from prunekit.workflows.importing import with_own_preprocessing

    if "name" not in recipe.model.model_fields_set:
        raise OptionError(
            "Which network is it? Name it as it was trained: --model SPEC, for example smp:Unet?encoder=resnet18"
        )
    if not recipe.model.weights and (found := weights_in(recipe.model.name)) is not None:
        recipe = parse_recipe(merge(recipe.model_dump(exclude_unset=True), {"model.weights": str(found)}))
    if not recipe.model.weights:
        raise OptionError("Where are the weights? Name their file: --weights FILE")
    if "name" not in recipe.data.model_fields_set:
        raise OptionError(
            "What are the classes? Name the data set that the network was trained for, --data folder --root DIR, or "
            "only its class list: --classes FILE"
        )
    return with_own_preprocessing(recipe)


def _announce(prepared: "Prepared", run: "RunDirectory", progress: Progress) -> None:
    recipe, sources = prepared.recipe, prepared.sources
    data = recipe.data
    values = [
        ("size", f"{data.height}x{data.width}", "height", "--size"),
        ("channels", data.channels.upper(), "channels", "--channels"),
        ("scale", f"{data.pixel_scale:.6g}", "pixel_scale", "--scale"),
        ("mean", _numbers(data.mean), "mean", "--mean"),
        ("standard deviation", _numbers(data.std), "std", "--std"),
    ]
    said = {key: _ASSUMED.get(key, source) if source == "assumed" else source for key, source in sources.items()}
    rows = [
        Setting("model", f"{recipe.model.name}, {recipe.model.head} head", "--model --head"),
        Setting("weights", recipe.model.weights, "--weights"),
        Setting("data", f"{data.name} {data.root or data.classes}".strip(), "--data --root --classes"),
        *(Setting(what, f"{value} ({said[key]})", option) for what, value, key, option in values),
        Setting("run", str(run.path), "--out"),
    ]
    progress.settings("Import", rows)


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)


def _import(prepared: "Prepared", run: "RunDirectory") -> "ImportReport":
    from prunekit.workflows.importing import import_run

    with Progress() as progress:
        progress.stage("Checking the data and loading the weights")
        return import_run(
            prepared.recipe,
            run,
            on_progress=progress.advance,
            on_ready=lambda: _announce(prepared, run, progress),
            on_weights=tell_weights,
            on_image=lambda done, all_: progress.advance("evaluating", done, all_, detail="images"),
            held=True,
        )


def tell_weights(report: "WeightsReport") -> None:
    """Say what came from a file of weights, and what did not."""
    output.say(f"Taken: {report.sentence()}.")
    if report.own:
        output.say(f"Not in the file and not trained ({len(report.own)}): {_some(report.own)}.")
    if report.unused:
        output.say(f"Left out of the file ({len(report.unused)}): {_some(report.unused)}.")
    if report.others:
        output.say(f"Also in the file and fitting as well: {_some(report.others)}. To take that: --part NAME.")


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(repr(name) for name in names[:4]) + (", ..." if len(names) > 4 else "")


def _show(report: "ImportReport", recipe: "Recipe", run: "RunDirectory") -> None:
    if report.images:
        classes = zip(report.card.class_names, report.iou, strict=True)
        title = f"Validation IoU of {run.path}, {report.images} images on {report.device}"
        output.show(Table(title, ("class", "IoU"), [(name, formats.score(iou)) for name, iou in classes]))
        accuracy = formats.score(report.pixel_accuracy)
        output.result(f"mIoU {formats.score(report.miou)}  pixel accuracy {accuracy}")
        output.say("Lower than expected? Compare mean, standard deviation, channels, scale and size with its training.")
    else:
        output.result(f"Imported {run.path}; not evaluated, since no images were named (--data folder --root DIR).")
    trust = trust_flag(recipe)
    prune = f"prunekit prune {run.path} --ratio 0.5{trust}   or   " if report.images else ""
    output.say(f"Next: {prune}prunekit export {run.path}{trust}")


def trust_flag(recipe: "Recipe") -> str:
    """Return what a command needs to load the run again."""
    from prunekit.errors import UntrustedCodeError
    from prunekit.models.hf import named_by_settings
    from prunekit.models.spec import parse_spec
    from prunekit.models.trust import check_foreign
    from prunekit.recipe_values import OWN_DATA

    if recipe.data.name.startswith(OWN_DATA):
        return " --trust-code"
    try:
        name = named_by_settings(recipe.model.name)
        check_foreign(parse_spec(name), name)
    except UntrustedCodeError:
        return " --trust-code"
    return ""
