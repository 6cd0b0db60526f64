"""The zoo: networks of segmentation_models_pytorch, torchvision, transformers and any factory, behind one contract."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import nn

from prunekit.errors import ModelError, ModelUsageError, PrunekitError
from prunekit.models.ccs import with_ccs
from prunekit.models.hf import build_hf, named_by_settings
from prunekit.models.segmenter import Segmenter
from prunekit.models.spec import Argument, Kind, ModelSpec
from prunekit.models.spec import parse_spec as parse_spec
from prunekit.models.trust import TORCHVISION_ARGUMENTS, check_foreign
from prunekit_runtime.near import did_you_mean

Head = Literal["plain", "ccs"]
_OWN_WEIGHTS = "weights"
"""The argument of a Python factory that names a file to start from: given when a network is first built, else None."""
_SET_ELSEWHERE = {
    "classes": "the data set",
    "num_classes": "the data set",
    "in_channels": "the Segmenter contract (RGB)",
    "encoder_weights": "--pretrained",
    "weights": "--pretrained",
    "weights_backbone": "--pretrained",
    "num_labels": "the data set",
}


def build(
    spec: str,
    *,
    num_classes: int,
    head: Head = "plain",
    pretrained: bool = False,
    trust_code: bool = True,
    restored: bool = False,
) -> Segmenter:
    """Build a network and check that it fulfils the Segmenter contract.

    Args:
        spec: as `parse_spec` reads it.
        num_classes: K, the background counted.
        head: "ccs" replaces the network's final classifier by a CCSHead.
        pretrained: ask the library for ImageNet weights of the encoder (a download the first time).
        trust_code: False, for a spec that was read from a file, refuses what would run code or fetch files that
            prunekit does not bring (`prunekit.models.trust`).
        restored: the weights are put back afterwards, from a saved run. Then none are read: `pretrained` is taken as
            False, and a Python factory whose spec says `weights=FILE` is called with `weights=None`.

    Raises:
        ModelError: the spec cannot be followed, the weights cannot be had, or the network breaks the contract.
        UntrustedCodeError: a file names what it must not.
    """
    parsed = parse_spec(spec)
    _refuse_reserved(parsed, spec)
    if not trust_code:
        check_foreign(parsed, spec)
    if restored:
        parsed, pretrained = _without_weights(parsed), False
    if parsed.kind == "hf":
        parsed = parse_spec(named_by_settings(spec))
    network = _BUILDERS[parsed.kind](parsed, num_classes, pretrained)
    segmenter = Segmenter(network, num_classes, _stride(network))
    probe(segmenter, spec)
    if head == "ccs":
        segmenter.network = with_ccs(network, num_classes)
        probe(segmenter, spec)
    return segmenter


def _refuse_reserved(spec: ModelSpec, text: str) -> None:
    for key in spec.args:
        if key in _SET_ELSEWHERE and not (spec.kind == "python" and key == _OWN_WEIGHTS):
            raise ModelUsageError(
                f"The network {text!r} sets {key}, which {_SET_ELSEWHERE[key]} decides. Leave it out."
            )


def _without_weights(spec: ModelSpec) -> ModelSpec:
    if spec.kind != "python" or _OWN_WEIGHTS not in spec.args:
        return spec
    return replace(spec, args={**spec.args, _OWN_WEIGHTS: None})


def _build_smp(spec: ModelSpec, num_classes: int, pretrained: bool) -> nn.Module:
    import segmentation_models_pytorch as smp

    architectures = {cls.__name__: cls for cls in smp.MODEL_ARCHITECTURES_MAPPING.values()}
    if spec.name not in architectures:
        near = did_you_mean(spec.name, architectures, "smp:")
        raise ModelUsageError(f"smp has no network {spec.name!r}. It has {', '.join(sorted(architectures))}.{near}")
    args = dict(spec.args)
    if "encoder" in args and "encoder_name" in args:
        raise ModelUsageError("The network sets encoder and encoder_name, which are the same. Keep one.")
    if "encoder" in args:
        args["encoder_name"] = args.pop("encoder")
    # timm's encoders ("tu-") bring the name of their weights in their own name and take a flag only.
    weights = True if str(args.get("encoder_name", "")).startswith("tu-") else "imagenet"
    factory = architectures[spec.name]
    _refuse_unknown_smp(factory, spec, args)
    _refuse_unknown_encoder(args.get("encoder_name"))
    return _call(
        factory, spec, args, pretrained, {"classes": num_classes, "encoder_weights": weights if pretrained else None}
    )


def _refuse_unknown_smp(factory: type, spec: ModelSpec, args: Mapping[str, Argument]) -> None:
    """Smp hands unknown keywords to the encoder, and every encoder but timm's ("tu-") drops them silently."""
    known = [p.name for p in inspect.signature(factory.__init__).parameters.values() if p.kind is not p.VAR_KEYWORD]
    known = sorted({"encoder", *known} - {"self", "aux_params", *_SET_ELSEWHERE})
    unknown = [key for key in args if key not in known]
    if unknown and not str(args.get("encoder_name", "")).startswith("tu-"):
        near = did_you_mean(unknown[0], known)
        raise ModelUsageError(f"smp:{spec.name} does not take {', '.join(unknown)}. It takes {', '.join(known)}.{near}")


def _refuse_unknown_encoder(name: object) -> None:
    """Smp answers with a list of all encoders, and timm with an error of its own."""
    from segmentation_models_pytorch.encoders import encoders

    known = list(encoders)
    if isinstance(name, str) and name not in encoders and not name.startswith("tu-"):
        raise ModelUsageError(
            f"smp has no encoder {name!r}.{did_you_mean(name, known)} It has {', '.join(known[:8])} and "
            f"{len(known) - 8} more, and timm's as tu-NAME."
        )


def _build_torchvision(spec: ModelSpec, num_classes: int, pretrained: bool) -> nn.Module:
    from torchvision import models

    names = models.list_models(module=models.segmentation)
    if spec.name not in names:
        near = did_you_mean(spec.name, names, "torchvision:")
        raise ModelUsageError(
            f"torchvision has no segmentation network {spec.name!r}. It has {', '.join(names)}.{near}"
        )
    unknown = [key for key in spec.args if key not in TORCHVISION_ARGUMENTS]
    if unknown:  # torchvision drops them silently
        known = ", ".join(sorted(TORCHVISION_ARGUMENTS))
        near = did_you_mean(unknown[0], TORCHVISION_ARGUMENTS)
        raise ModelUsageError(f"torchvision:{spec.name} does not take {', '.join(unknown)}. It takes {known}.{near}")
    fixed = {"weights": None, "weights_backbone": "DEFAULT" if pretrained else None, "num_classes": num_classes}
    return _call(models.get_model_builder(spec.name), spec, spec.args, pretrained, fixed)


def _build_python(spec: ModelSpec, num_classes: int, pretrained: bool) -> nn.Module:
    if pretrained:
        raise ModelUsageError(
            f"The factory {spec.name} brings its own weights; only smp: and torchvision: offer pretrained ones. "
            "Use --no-pretrained, or pass it a file to load: ?weights=FILE."
        )
    module_name, colon, attribute = spec.name.partition(":")
    if not colon or not attribute.isidentifier():
        raise ModelUsageError(f"A Python factory is named python:package.module:factory, got python:{spec.name}.")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ModelUsageError(
            f"{module_name} cannot be imported ({error}). Install it, or set PYTHONPATH to its folder."
        ) from error
    factory = getattr(module, attribute, None)
    # Only what the module itself defines: an import inside it is not an offer.
    if not callable(factory) or getattr(factory, "__module__", None) != module_name:
        raise ModelUsageError(
            f"{module_name} defines no factory {attribute!r}: a function or class that returns the network."
            + did_you_mean(attribute, [name for name, value in vars(module).items() if callable(value)])
        )
    return _call(factory, spec, spec.args, False, {"num_classes": num_classes})


def _build_hf(spec: ModelSpec, num_classes: int, pretrained: bool) -> nn.Module:
    if pretrained:
        raise ModelUsageError(f"hf:{spec.name} has no weights of its own. Name their file: --weights FILE.")
    return _call(build_hf(spec, num_classes), spec, spec.args, False, {})


_BUILDERS: Mapping[Kind, Callable[[ModelSpec, int, bool], nn.Module]] = {
    "smp": _build_smp,
    "torchvision": _build_torchvision,
    "python": _build_python,
    "hf": _build_hf,
}


def _call(
    factory: Callable[..., Any],
    spec: ModelSpec,
    args: Mapping[str, Argument],
    pretrained: bool,
    fixed: Mapping[str, object],
) -> nn.Module:
    try:
        network = factory(**args, **fixed)
    except PrunekitError:
        raise
    except (TypeError, ValueError, KeyError, AssertionError, NotImplementedError, AttributeError) as error:
        raise ModelUsageError(f"{spec.kind}:{spec.name} does not take these arguments: {_text(error)}") from error
    except Exception as error:
        if isinstance(error, OSError) and spec.kind == "python":
            raise _unreadable(spec, error) from error
        if not pretrained:
            raise ModelError(f"{spec.kind}:{spec.name} cannot be built: {_text(error)}") from error
        raise ModelUsageError(
            f"The pretrained weights of {spec.kind}:{spec.name} cannot be downloaded ({_text(error)}). "
            "Connect to the internet once, or start from random weights: --no-pretrained."
        ) from error
    if not isinstance(network, nn.Module):
        raise ModelUsageError(f"{spec.kind}:{spec.name} returned {type(network).__name__}, not a torch.nn.Module.")
    return network


def _unreadable(spec: ModelSpec, error: OSError) -> ModelError:
    """Return the error of a factory that reads a file which is not there."""
    return ModelError(
        f"The factory {spec.name} reads a file that cannot be read: {_text(error)}. Put it back; or let the factory "
        "take its name by the argument weights (?weights=FILE), which is None where the weights come from a saved run."
    )


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


def _stride(network: nn.Module) -> int:
    """The multiple that input sizes must be: smp's output stride, a factory's attribute `stride`, or 1."""
    encoder = getattr(network, "encoder", None)
    for value in (getattr(network, "stride", None), getattr(encoder, "output_stride", None)):
        if isinstance(value, int):
            return value
    return 1


@torch.no_grad()
def probe(segmenter: Segmenter, name: str) -> None:
    """Run two sizes, one of them odd, in evaluation mode; modes are put back.

    Raises:
        ModelError: the network fails, or its logits are not (batch, num_classes, height, width).
    """
    modes = {module: module.training for module in segmenter.modules()}
    device = next((parameter.device for parameter in segmenter.parameters()), torch.device("cpu"))
    segmenter.eval()
    try:
        # 128: the smallest images that every architecture of smp takes (PAN pools three times at stride 16).
        for height, width in ((128, 160), (131, 157)):
            _probe_size(segmenter, name, torch.zeros(1, 3, height, width, device=device))
    finally:
        for module, training in modes.items():
            module.training = training


def _probe_size(segmenter: Segmenter, name: str, images_B3HW: torch.Tensor) -> None:
    size = f"{images_B3HW.shape[2]}x{images_B3HW.shape[3]}"
    try:
        logits_BKHW = segmenter(images_B3HW)
    except ModelError as error:
        raise ModelError(f"{name}: {error}") from error
    except Exception as error:
        raise ModelUsageError(
            f"The network {name!r} fails on an image of {size}: {_text(error)}. If it needs sizes that are multiples "
            f"of a number, give it an attribute `stride` with that number (now {segmenter.stride})."
        ) from error
    wanted = (1, segmenter.num_classes, *images_B3HW.shape[2:])
    if tuple(logits_BKHW.shape) != wanted:
        raise ModelUsageError(
            f"The network {name!r} returns logits of shape {tuple(logits_BKHW.shape)} instead of {wanted}."
        )
