"""`prunekit data`: look at a data set before a training, and begin a class list."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from prunekit_cli.options import common as options
from prunekit_cli.options import data as data_options
from prunekit_cli.options.common import OptionError
from prunekit_cli.panels import in_panels
from prunekit_cli.showing import data_report, output
from prunekit_cli.showing.output import Setting
from prunekit_cli.showing.progress import Progress

if TYPE_CHECKING:
    from prunekit.data.checking.check import Checked
    from prunekit.recipe import DataConfig

CHECK_EXAMPLES: Final = (
    "prunekit data check --data folder --root street --size 512x1024 --sheet street.png",
    "prunekit data check --data camvid --root camvid",
    "prunekit data check runs/0001-train",
    "prunekit data check --recipe mine.toml --json > report.json",
)
INIT_EXAMPLES: Final = (
    "prunekit data init town",
    "prunekit data init town --ignore 0 --overwrite",
    "prunekit data init painted --ignore 255,255,255",
)
_SHEET_SUFFIXES: Final = (".png",)

app = typer.Typer(no_args_is_help=True)

Run = Annotated[
    Path | None, typer.Argument(metavar="RUN", help="Run whose data is looked at.", show_default="the options below")
]
Data = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Data set, as in prunekit train.", show_default="folder if there is --root, else shapes"
    ),
]
Root = Annotated[str | None, typer.Option(metavar="DIR", help="Folder of the data set.")]
SheetFile = Annotated[
    Path | None,
    typer.Option(
        "--sheet",
        metavar="FILE",
        help="Also draw a contact sheet here, a PNG: samples that show each class, as image, mask and both.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a contact sheet that is there already.")]
Folder = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="Folder with images/ and masks/, or with train/, val/ and test/ of them."),
]
Ignore = Annotated[
    str | None,
    typer.Option(
        metavar="VALUE",
        help="What in the masks does not count: a number, a colour as R,G,B, or none.",
        show_default="255, if masks hold numbers above 0 beside it",
    ),
]
Replace = Annotated[bool, typer.Option("--overwrite", help="Replace a classes.toml that is there already.")]
Force = Annotated[bool, typer.Option("--force", hidden=True, help="As --overwrite.")]


@app.callback()
def group() -> None:
    """Look at a data set before a training, and begin a class list."""


def check(
    run: Run = None,
    data: Data = None,
    root: Root = None,
    classes: data_options.ClassesOption = None,
    ignore_index: data_options.IgnoreOption = None,
    images: data_options.ImagesOption = None,
    masks: data_options.MasksOption = None,
    size: data_options.SizeOption = None,
    recipe: options.RecipeOption = None,
    settings: options.SetOption = None,
    sheet: SheetFile = None,
    overwrite: Overwrite = False,
    trust_code: options.TrustOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Look at every image and mask of a data set: what it holds, what is wrong, what looks suspicious.

    Every fault is named, not only the first.

    Exit code 0: nothing to mend; there may be things to look at.

    Exit code 1: there is something to mend before a training.
    """
    named = options.parse_settings(settings)
    options.only_section("data", named)
    flags = {
        "data.name": data,
        "data.root": root,
        **data_options.mask_settings(classes, ignore_index, images, masks),
        **data_options.size_settings(size),
    }
    config = _config(run, recipe, named | options.given(flags))
    if sheet is not None:
        _check_sheet(sheet, overwrite)
    with Progress() as progress:
        checked = _check(config, progress, trust_code=trust_code or run is None)
    _announce(config, sheet)
    data_report.show_json(checked.report) if as_json else data_report.show(checked.report)
    if sheet is not None:
        _draw(sheet, checked)
    else:
        output.say("To look at samples of every class: add --sheet data_check.png")
    faults = len(checked.report.to_mend)
    if faults:
        output.flush()
        output.fail(f"{faults} {'thing' if faults == 1 else 'things'} to mend, see above.")
        raise typer.Exit(1)
    if not as_json:
        output.result("Nothing to mend.")
    if run is None:
        masks_by = {"--ignore-index": ignore_index, "--images": images, "--masks": masks}
        texts = {"--root": root, "--classes": classes, **masks_by, "--size": size}
        _say_train(config, recipe, settings or [], texts)


def init(
    folder: Folder,
    ignore: Ignore = None,
    images: data_options.ImagesOption = None,
    masks: data_options.MasksOption = None,
    overwrite: Replace = False,
    force: Force = False,
    as_json: options.JsonOption = False,
) -> None:
    """Write a class list, DIR/classes.toml, from what the masks hold; then give the classes their names there.

    A table of names in the folder, such as class_dict.csv or labels.txt, is used where it fits the masks.
    """
    from prunekit.data.drafting.draft import check_target, draft, write

    check_target(folder, overwrite=overwrite or force)
    with Progress() as progress:
        found = draft(
            folder,
            ignore,
            lambda done, total: progress.advance("reading masks", done, total, detail="masks"),
            images=images or "",
            masks=masks or "",
        )
    write(found, folder)
    if as_json:
        output.show_json(found.to_json())
    else:
        data_report.show_draft(found)
    _say_next(folder, options.given({"--images": images, "--masks": masks}))


def _say_train(config: "DataConfig", recipe: Path | None, settings: list[str], texts: dict[str, str | None]) -> None:
    """Say how to train on the data set as it was named here."""
    words = ["prunekit", "train", *(("--recipe", str(recipe)) if recipe is not None else ()), "--data", config.name]
    words += [word for option, text in texts.items() if text is not None for word in (option, text)]
    words += [word for text in settings for word in ("--set", text)]
    output.say(f"Next: {shlex.join(words)}")


def _say_next(folder: Path, patterns: dict[str, str]) -> None:
    arguments = ["--data", "folder", "--root", str(folder), *(word for pair in patterns.items() for word in pair)]
    output.say(f"Next: {shlex.join(['prunekit', 'data', 'check', *arguments])}")
    output.say(f"then: {shlex.join(['prunekit', 'train', *arguments])}")


def _config(run: Path | None, path: Path | None, overrides: dict[str, Any]) -> "DataConfig":
    from prunekit.recipe import merge, parse_recipe, read_recipe
    from prunekit.run import open_run

    if run is not None and path is not None:
        raise OptionError(f"A run has a recipe of its own, got {run} and --recipe {path}. Leave one out.")
    if run is not None:
        return open_run(run).recipe(overrides).data
    if path is not None:
        return read_recipe(path, overrides).data
    if "data.name" not in overrides and overrides.keys() & {"data.root", "data.classes", "data.images", "data.masks"}:
        overrides = {"data.name": "folder"} | overrides
    return parse_recipe(merge({}, overrides)).data


def _check_sheet(sheet: Path, overwrite: bool) -> None:
    if sheet.suffix.lower() not in _SHEET_SUFFIXES:
        raise OptionError(f"--sheet draws a PNG, got {sheet}. Name it like data_check.png")
    if sheet.is_dir() or (sheet.exists() and not overwrite):
        raise OptionError(f"--sheet {sheet} is there already. Name another file, or replace it: --overwrite")


def _announce(config: "DataConfig", sheet: Path | None) -> None:
    rows = [
        Setting("data", f"{config.name} {config.root}".strip(), "--data --root"),
        Setting("size the network sees", f"{config.height}x{config.width}", "--size"),
        Setting("contact sheet", "not drawn" if sheet is None else str(sheet), "--sheet"),
    ]
    output.settings("Checked", rows)


def _check(config: "DataConfig", progress: Progress, *, trust_code: bool) -> "Checked":
    from prunekit.data.checking.check import check_data

    progress.stage("finding files")
    return check_data(
        config,
        lambda done, total: progress.advance("checking", done, total, detail="images"),
        trust_code=trust_code,
    )


def _draw(path: Path, checked: "Checked") -> None:
    from prunekit.data.checking.sheet import draw_sheet

    drawn = draw_sheet(path, checked)
    if not drawn.samples:
        output.say("No contact sheet: every sample has something to mend.")
        return
    output.say(f"Contact sheet: {path}, {drawn.samples} samples")
    if drawn.escaped:
        some = ", ".join(drawn.escaped[:3]) + (", ..." if len(drawn.escaped) > 3 else "")
        output.say(f"No font here has all letters of {some}: the sheet writes them as escapes such as \\u9053.")


for _name, _command, _examples in (("check", check, CHECK_EXAMPLES), ("init", init, INIT_EXAMPLES)):
    app.command(_name, epilog="\n\n".join(("Examples:", *_examples)), cls=in_panels({}))(_command)
