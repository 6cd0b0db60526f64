"""What a shell offers for an option's value: from its help where that lists the words, else names known without torch.

The names are held equal to what the libraries offer by a test, since asking them takes seconds.
"""

import inspect
from collections.abc import Callable, Iterable
from typing import Final

from typer.models import OptionInfo

CRITERIA: Final = (
    "sirfp", "sirfp-clique", "sirfp-unweighted", "sirfp-paper", "sirfp-v2", "random", "l1", "l2", "slimming", "fpgm",
    "taylor", "taylor-weight", "group-norm", "group-fisher", "eic", "multi-task", "gmp", "pq-index", "lamp",
    "relevance", "obspa",
)  # fmt: skip
SMP: Final = (
    "Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "DeepLabV3", "DeepLabV3Plus", "PAN", "UPerNet",
    "Segformer", "DPT",
)  # fmt: skip
TORCHVISION: Final = (
    "deeplabv3_mobilenet_v3_large", "deeplabv3_resnet101", "deeplabv3_resnet50", "fcn_resnet101", "fcn_resnet50",
    "lraspp_mobilenet_v3_large",
)  # fmt: skip
DATA_SETS: Final = ("shapes", "camvid", "cityscapes", "ade20k", "voc", "voc-aug", "coco-stuff", "folder", "python:")
KINDS: Final = ("smp:", "torchvision:", "hf:", "python:")


def models(incomplete: str) -> Iterable[str]:
    """Return the kinds of network, or the names of the kind that was begun."""
    if ":" not in incomplete:
        return KINDS
    names = {"smp": SMP, "torchvision": TORCHVISION}.get(incomplete.partition(":")[0], ())
    return [f"{incomplete.partition(':')[0]}:{name}" for name in names]


def criteria(_: str) -> Iterable[str]:
    """Return the criteria."""
    return CRITERIA


def data_sets(_: str) -> Iterable[str]:
    """Return the data sets."""
    return DATA_SETS


NAMED: Final[dict[str, Callable[[str], Iterable[str]]]] = {
    "--model": models,
    "--criterion": criteria,
    "--data": data_sets,
}


def offer(command: Callable[..., None]) -> None:
    """Let the options of a command offer their words: those that the help lists, `fp32|bf16`, and known names."""
    for name, parameter in inspect.signature(command).parameters.items():
        for info in getattr(parameter.annotation, "__metadata__", ()):
            if not isinstance(info, OptionInfo) or info.autocompletion is not None:
                continue
            option = next(iter(info.param_decls or ()), "--" + name.replace("_", "-"))
            words = listed(info.metavar)
            if option in NAMED or words:  # any other keeps the shell's own: files
                info.autocompletion = _begun(NAMED.get(option) or _always(words))


def listed(metavar: str | None) -> tuple[str, ...]:
    """Return the words of "fp32|bf16|fp16"; nothing where one of them stands for something else, such as NAME."""
    words = tuple((metavar or "").split("|"))
    return words if len(words) > 1 and all(word == word.lower() and ":" not in word for word in words) else ()


def _always(words: tuple[str, ...]) -> Callable[[str], Iterable[str]]:
    return lambda _: words


def _begun(words: Callable[[str], Iterable[str]]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [word for word in words(incomplete) if word.startswith(incomplete)]

    return complete
