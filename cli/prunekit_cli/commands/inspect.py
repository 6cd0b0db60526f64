"""`prunekit inspect`: which channels of a network belong together, what they cost, and which must stay."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunekit_cli.options import common as options
from prunekit_cli.showing import formats, output
from prunekit_cli.showing.output import Setting, Table
from prunekit_runtime.near import near_path

if TYPE_CHECKING:
    from torch import Tensor

    from prunekit.models.segmenter import Segmenter
    from prunekit.pruning.coupling import Coupling
    from prunekit.pruning.picture import GroupRow, Inspection

EXAMPLES = (
    "prunekit inspect 'smp:Unet?encoder=resnet18'",
    "prunekit inspect runs/0001-train --graph network.svg",
    "prunekit inspect python:mynets.tiny:build --classes 11 --height 360 --width 480 --json",
)
CLASSES = 19
SIZE = (256, 512)

Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="Run directory, or a network: smp:..., torchvision:..., hf:..., python:..."),
]
Classes = Annotated[
    int | None,
    typer.Option(
        "--classes",
        min=1,
        max=options.MAX_CLASSES,
        help="Number of classes, for a network that is not a run.",
        show_default=f"{CLASSES}; a run has its own",
    ),
]
Height = Annotated[
    int | None,
    typer.Option(
        "--height",
        min=1,
        max=options.MAX_SIDE,
        help="Height of the input in pixels.",
        show_default=f"{SIZE[0]}; a run has its own",
    ),
]
Width = Annotated[
    int | None,
    typer.Option(
        "--width",
        min=1,
        max=options.MAX_SIDE,
        help="Width of the input in pixels.",
        show_default=f"{SIZE[1]}; a run has its own",
    ),
]
Graph = Annotated[
    Path | None,
    typer.Option(
        "--graph", metavar="FILE", help="Draw the network to this .svg or .dot file; an existing one is replaced."
    ),
]


def command(
    model: Model,
    classes: Classes = None,
    height: Height = None,
    width: Width = None,
    graph: Graph = None,
    trust_code: options.TrustOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Show which channels of a network can be pruned together, what they cost, and why others cannot be pruned."""
    if graph is not None:
        _check_graph(graph)
    segmenter, images_13HW = _network(model, classes, height, width, trust_code)
    from prunekit.pruning.analysis import analyse
    from prunekit.pruning.picture import inspection

    coupling = analyse(segmenter.network, (images_13HW,))
    report = inspection(coupling, segmenter.network)
    title = f"{model} at {'x'.join(str(length) for length in images_13HW.shape)}"
    if graph is not None:
        _draw(graph, segmenter, images_13HW, coupling, report, title)
    if as_json:
        output.show_json({"model": model, "input": list(images_13HW.shape), **output.plain(report)})
    else:
        _show(report, title)


def _check_graph(graph: Path) -> None:
    options.one_of("--graph", graph.suffix.lower(), (".svg", ".dot"))
    if not graph.parent.is_dir():
        raise options.OptionError(f"--graph {graph}: the folder {graph.parent} does not exist. Make it first.")


def _network(
    model: str, classes: int | None, height: int | None, width: int | None, trust_code: bool
) -> "tuple[Segmenter, Tensor]":
    """Return the network and an example of its input, padded as the Segmenter pads."""
    import torch

    if Path(model).is_dir():
        segmenter, size = _from_run(Path(model), classes, trust_code)
    else:
        segmenter, size = _from_spec(model, classes)
    wanted = (height or size[0], width or size[1])
    _announce(model, segmenter.num_classes, wanted)
    stride = segmenter.stride
    padded = [-(-length // stride) * stride for length in wanted]
    return segmenter, torch.zeros(1, 3, *padded)


def _from_run(path: Path, classes: int | None, trust_code: bool) -> "tuple[Segmenter, tuple[int, int]]":
    from prunekit.modelfile import load_model
    from prunekit.run import RunDirectory

    if classes is not None:
        raise options.OptionError(f"--classes {classes}: the run {path} has its own classes. Leave it out.")
    loaded = load_model(RunDirectory(path), trust_code=trust_code)
    return loaded.segmenter, (loaded.contract.height or SIZE[0], loaded.contract.width or SIZE[1])


def _from_spec(model: str, classes: int | None) -> "tuple[Segmenter, tuple[int, int]]":
    from prunekit.models.spec import parse_spec
    from prunekit.models.zoo import build
    from prunekit_runtime.errors import PrunekitError

    try:
        parse_spec(model)
    except PrunekitError as error:
        missing = "" if ":" in model else f" There is no run {model!r} either.{near_path(Path(model))}"
        raise options.OptionError(f"{error}{missing}") from None
    return build(model, num_classes=CLASSES if classes is None else classes).eval(), SIZE


def _announce(model: str, classes: int, size: tuple[int, int]) -> None:
    rows = [
        Setting("classes", str(classes), "--classes, for a named network"),
        Setting("input", f"1x3x{size[0]}x{size[1]}", "--height --width"),
    ]
    output.settings(f"Inspecting {model}", rows)


def _draw(
    graph: Path, segmenter: "Segmenter", images: "Tensor", coupling: "Coupling", report: "Inspection", title: str
) -> None:
    from prunekit.pruning.picture import draw_dot, draw_svg, flow
    from prunekit.run import write_atomically

    draw = draw_svg if graph.suffix.lower() == ".svg" else draw_dot
    write_atomically(graph, draw(flow(segmenter.network, (images,), coupling), report, title).encode())
    output.say(f"Drew {graph}.")


def _show(report: "Inspection", title: str) -> None:
    columns = ("group and its layers", "channels", "MACs carried", "share", "params carried", "share")
    rows = [line for row in report.groups for line in _lines(row)]
    output.show(Table(f"Channel groups of {title}", columns, rows))
    free = sum(row.frozen is None for row in report.groups)
    output.result(f"{formats.quantity(report.macs)} MACs, {formats.quantity(report.params)} parameters.")
    output.result(
        f"{free} groups can be pruned, {len(report.groups) - free} must stay: "
        f"{report.channels_frozen} of {report.channels} channels."
    )
    output.result(
        "Carried: what the group's channels take part in. Groups overlap, so shares add up to more than 100 %."
    )
    if report.unseen:
        output.result(f"Used by no graph, left as they are: {', '.join(report.unseen)}.")


def _lines(row: "GroupRow") -> list[tuple[str, ...]]:
    """Return the rows of one group: itself, why it stays, its members."""
    per_unit = f" x {row.channels_per_unit}" if row.channels_per_unit > 1 else ""
    head = (
        f"{row.number}  {row.name}",
        f"{row.width}{per_unit}",
        formats.quantity(row.macs),
        formats.percent(row.macs_share),
        formats.quantity(row.params),
        formats.percent(row.params_share),
    )
    lines = [head] if row.frozen is None else [head, (f"   stays: {row.frozen}", "", "", "", "", "")]
    for member in row.members:
        part = f"{member.channels}" if member.channels == member.width else f"{member.channels} of {member.width}"
        lines.append((f"   {member.does:<6} {member.layer} ({member.kind})", part, "", "", "", ""))
    return lines
