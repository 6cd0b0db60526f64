"""The options of `prunekit prune`, and how their texts become numbers."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from prunekit_cli.options import common as options
from prunekit_cli.options.common import OptionError

if TYPE_CHECKING:
    from prunekit.workflows.prune import PruneConfig

Ratio = Annotated[float | None, typer.Option(help="Share of the MACs to remove, in (0, 1).", show_default="0.5")]
TargetMacs = Annotated[
    str | None, typer.Option(metavar="NUMBER", help="MACs of one image that remain, such as 2.5G; in place of --ratio.")
]
TargetParams = Annotated[
    str | None, typer.Option(metavar="NUMBER", help="Parameters that remain, such as 3M; in place of --ratio.")
]
TargetLatency = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", help="Latency that remains, measured here or --on a device, such as 8ms; in place of --ratio."
    ),
]
LatencyRuntime = Annotated[
    str | None,
    typer.Option(
        metavar="ort|tensorrt",
        help="What --target-latency is measured in: ONNX Runtime's CPU, or a GPU.",
        show_default="ort; with --on tensorrt",
    ),
]
On = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="HOST",
        help="Measure --target-latency on this device, over ssh with your own keys: NAME or USER@NAME.",
        show_default="this machine",
    ),
]
OnPython = Annotated[
    str | None,
    typer.Option(
        "--on-python", metavar="PATH", help="Python there: 3.10 or later, with numpy.", show_default="python3"
    ),
]
SshConfig = Annotated[
    Path | None,
    typer.Option("--ssh-config", metavar="FILE", help="Configuration of ssh for --on.", show_default="~/.ssh/config"),
]
LatencyThreads = Annotated[
    int | None, typer.Option(help="CPU threads for it; 0 leaves ONNX Runtime's choice.", show_default="1")
]
LatencyPrecision = Annotated[
    str | None, typer.Option(metavar="fp32|fp16", help="Arithmetic for it; fp16 on a GPU.", show_default="fp32")
]
Criterion = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Which channels go: sirfp (spatial-aware information redundancy filter pruning), another of "
        "--list-criteria, or your own as python:MODULE:NAME.",
        show_default="sirfp",
    ),
]
ListCriteria = Annotated[bool, typer.Option("--list-criteria", help="Say what each criterion measures, and exit.")]
Allocation = Annotated[
    str | None,
    typer.Option(
        metavar="auto|uniform|global|cost|balanced",
        help="What each group loses: the same share; what has the lowest score anywhere; what has the lowest score "
        "for what it saves; shares as even as the target allows. auto is what the criterion asks for, or cost for a "
        "latency where it allows that.",
        show_default="auto",
    ),
]
Align = Annotated[
    int | None,
    typer.Option(help="Channel counts are kept multiples of this; 16 or 32 for INT8, 1 for any.", show_default="8"),
]
Schedule = Annotated[
    str | None,
    typer.Option(
        metavar="one-shot|iterative|gradual",
        help="All at once; in equal stages with training between them; in stages that shrink (cubic).",
        show_default="one-shot",
    ),
]
Stages = Annotated[
    str | None,
    typer.Option(
        metavar="SHARES", help="Shares removed after each stage before the last, such as 0.3,0.6 (iterative)."
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(help="Number of stages.", show_default="1 one-shot, 2 iterative, 4 gradual"),
]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training images after pruning.", show_default="10")]
StageEpochs = Annotated[int | None, typer.Option(help="The same after each stage but the last.", show_default="2")]
MinMiou = Annotated[
    float | None,
    typer.Option(
        help="Validation mIoU that every stage must reach; one that does not is taken back, and the run ends."
    ),
]
Init = Annotated[
    str | None,
    typer.Option(
        metavar="pruned|rewind|random",
        help="Weights that training starts from after the cut: what is left; those of train.rewind_epoch (lottery "
        "ticket); new ones (control).",
        show_default="pruned",
    ),
]
Distill = Annotated[
    str | None,
    typer.Option(
        metavar="none|logits|channel",
        help="Follow the source network while training on: its logits, or its class maps.",
        show_default="none",
    ),
]
Compensate = Annotated[
    str | None,
    typer.Option(
        metavar="auto|none|linear",
        help="Express removed channels by kept ones before the cut. auto is linear, or the criterion's own.",
        show_default="auto",
    ),
]
BnBatches = Annotated[
    int | None,
    typer.Option(help="Batches to re-estimate batch norms on after the cut; 0 keeps them.", show_default="16"),
]
Sparsity = Annotated[
    str | None,
    typer.Option(
        metavar="none|l1|polarisation|group|mask",
        help="Train before the cut under a pull towards zero on scales (l1, polarisation), on coupled weights (group), "
        "or on what is going to be cut (mask).",
        show_default="none",
    ),
]
SparsityEpochs = Annotated[int | None, typer.Option(help="Epochs of that training.", show_default="5")]
Loss = Annotated[
    str | None,
    typer.Option(
        metavar="ce|ohem|focal|gsrl", help="Loss of the training after the cut.", show_default="as the run was trained"
    ),
]
Sampler = Annotated[
    str | None,
    typer.Option(
        metavar="uniform|balanced",
        help="Draw every image once, or every class equally often.",
        show_default="as the run was trained",
    ),
]
Select = Annotated[
    str | None,
    typer.Option(
        metavar="none|random|pfb|rs2|classes",
        help="Which images to train on after the cut: as --select of prunekit train.",
        show_default="none",
    ),
]
SelectRatio = Annotated[
    float | None, typer.Option(help="Share of each batch, or of the steps, to save by --select.", show_default="0.4")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="train.KEY=VALUE", help="Any other setting of the training; may be repeated."),
]
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
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Show every group, layer, reason and stage below the result.")
]
Resume = Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with a pruning that was interrupted.")]

NAMES: Final = {"target_latency_ms": "target-latency", "settings": "set"}
"""Options that are not called like the setting."""

_SCALES: Final = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_SECONDS: Final = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_AMOUNT: Final = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([a-zA-Z]*)\s*")


def amount(option: str, text: str) -> float:
    """Return the number in "2.5G", "300k" or "1200000".

    Raises:
        OptionError: the text has another form.
    """
    found = _AMOUNT.fullmatch(text)
    if found is None or found.group(2).lower() not in _SCALES:
        raise OptionError(f"{option} takes a number with k, M, G or T, such as 2.5G; got {text!r}.")
    return float(found.group(1)) * _SCALES[found.group(2).lower()]


def milliseconds(option: str, text: str) -> float:
    """Return the milliseconds in "8ms", "500us" or "0.02s".

    Raises:
        OptionError: the text has another form; a number alone could mean anything.
    """
    found = _AMOUNT.fullmatch(text)
    if found is None or found.group(2).lower() not in _SECONDS:
        raise OptionError(f"{option} takes a time with its unit, such as 8ms; got {text!r}.")
    return float(found.group(1)) * _SECONDS[found.group(2).lower()]


def shares(option: str, text: str) -> tuple[float, ...]:
    """Return the numbers in "0.3,0.6".

    Raises:
        OptionError: the text has another form.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise OptionError(f"{option} takes numbers with commas between them, such as 0.3,0.6; got {text!r}.") from None


def config_of(given: dict[str, Any]) -> "PruneConfig":
    """Return the settings that the given options make.

    Raises:
        OptionError: a value is out of range, or two do not go together; the message names each option.
    """
    from pydantic import ValidationError

    from prunekit.validation import sentences
    from prunekit.workflows.prune import PruneConfig

    try:
        return PruneConfig.model_validate(_values(given))
    except ValidationError as error:
        raise OptionError("\n".join(sentences(error, PruneConfig, named=_named))) from None


def _values(given: dict[str, Any]) -> dict[str, Any]:
    """Return the settings as the config has them."""
    values = {name: value for name, value in given.items() if value is not None and name != "target_latency"}
    for name in ("target_macs", "target_params"):
        if name in values:
            values[name] = amount(_flag(name), values[name])
    if given.get("target_latency") is not None:
        values["target_latency_ms"] = milliseconds("--target-latency", given["target_latency"])
    if "stages" in values:
        values["stages"] = shares("--stages", values["stages"])
    if "settings" in values:
        values["settings"] = options.parse_settings(values["settings"])
    if "root" in values:
        values["settings"] = values.get("settings", {}) | {"data.root": values.pop("root")}
    return values


def _named(loc: tuple[int | str, ...]) -> str:
    return _flag(str(loc[0]))


def _flag(name: str) -> str:
    return "--" + NAMES.get(name, name).replace("_", "-")
