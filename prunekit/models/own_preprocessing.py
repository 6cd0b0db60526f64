"""How a network's pretrained weights want their images, where the library that builds it says so.

Read from the library itself or from what it has stored on this machine; nothing is fetched.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from prunekit.errors import ModelError
from prunekit.models.spec import ModelSpec, parse_spec
from prunekit_runtime.jsonfile import parse_json, read_bounded

Triple = tuple[float, float, float]
PROCESSOR: Final = "preprocessor_config.json"
_MAX_BYTES: Final = 1 << 20
# Of weights that smp takes from pretrained-models.pytorch, whose settings these are; its others are of ImageNet's.
_HALVES: Final = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_DPN_STD: Final = 1 / (0.0167 * 255)
_DPN: Final = ((124 / 255, 117 / 255, 104 / 255), (_DPN_STD, _DPN_STD, _DPN_STD))
_PUBLISHED: Final[Mapping[str, tuple[Triple, Triple]]] = {
    **dict.fromkeys(("inceptionv4", "inceptionresnetv2", "xception"), _HALVES),
    **dict.fromkeys(("dpn68", "dpn68b", "dpn92", "dpn98", "dpn107", "dpn131"), _DPN),
}
_UNIT: Final = 1 / 255


@dataclass(frozen=True)
class OwnPreprocessing:
    """Settings of `recipe.DataConfig` that a library knows of a network, and who says so."""

    settings: Mapping[str, Any]
    source: str


def own_preprocessing(spec: str) -> OwnPreprocessing | None:
    """Return what the library knows of the network's images, or None.

    Raises:
        ModelError: the spec cannot be read, or its folder holds a preprocessing that prunekit does not have.
    """
    parsed = parse_spec(spec)
    readers = {"smp": _of_smp, "torchvision": _of_torchvision, "hf": _of_folder}
    reader = readers.get(parsed.kind)
    return None if reader is None else reader(parsed)


def _of_smp(spec: ModelSpec) -> OwnPreprocessing | None:
    encoder = str(spec.args.get("encoder", spec.args.get("encoder_name", "resnet34")))
    if encoder.startswith("tu-"):
        return _of_timm(encoder.removeprefix("tu-"))
    return _of_smp_config(encoder)


def _of_timm(name: str) -> OwnPreprocessing | None:
    import timm

    if not timm.models.is_model_pretrained(name):
        return None
    config = timm.models.get_pretrained_cfg(name)
    if config is None:
        return None
    return OwnPreprocessing({"mean": _triple(config.mean), "std": _triple(config.std)}, f"timm's {name}")


def _of_smp_config(encoder: str) -> OwnPreprocessing | None:
    """Read the encoder's config.json where the hub's cache has it; else what is known of it."""
    from huggingface_hub import try_to_load_from_cache
    from segmentation_models_pytorch.encoders import encoders

    known = encoders.get(encoder, {}).get("pretrained_settings", {}).get("imagenet")
    if known is None:
        return None
    found = try_to_load_from_cache(known["repo_id"], "config.json", revision=known["revision"])
    if isinstance(found, str):
        values = _object(Path(found))
        order = "bgr" if str(values.get("input_space", "RGB")).upper() == "BGR" else "rgb"
        unit = _UNIT if list(values.get("input_range", (0, 1)))[-1] == 1 else 1.0
        own = {"channels": order, "pixel_scale": unit, "mean": _triple(values["mean"]), "std": _triple(values["std"])}
        return OwnPreprocessing(own, f"smp's {encoder}")
    if encoder not in _PUBLISHED:
        return None
    mean, std = _PUBLISHED[encoder]
    return OwnPreprocessing({"mean": mean, "std": std}, f"smp's {encoder}")


def _of_torchvision(spec: ModelSpec) -> OwnPreprocessing | None:
    from torchvision import models

    if spec.name not in models.list_models(module=models.segmentation):
        return None
    transform = cast(Any, models.get_model_weights(spec.name)).DEFAULT.transforms()
    own = {"mean": _triple(transform.mean), "std": _triple(transform.std)}
    return OwnPreprocessing(own, f"torchvision's {spec.name}")


def _of_folder(spec: ModelSpec) -> OwnPreprocessing | None:
    """Read preprocessor_config.json of a folder that transformers wrote."""
    path = Path(spec.name) / PROCESSOR
    if not path.is_file():
        return None
    values = _object(path)
    own: dict[str, Any] = {
        "channels": "bgr" if values.get("do_flip_channel_order", False) else "rgb",
        "pixel_scale": values.get("rescale_factor", _UNIT) if values.get("do_rescale", True) else 1.0,
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
    }
    if values.get("do_normalize", "image_mean" in values):
        own |= {"mean": _triple(values["image_mean"]), "std": _triple(values["image_std"])}
    size = values.get("size")
    if isinstance(size, int):
        own |= {"height": size, "width": size}
    elif isinstance(size, Mapping) and {"height", "width"} <= size.keys():
        own |= {"height": size["height"], "width": size["width"]}
    return OwnPreprocessing(own, str(path))


def _object(path: Path) -> Mapping[str, Any]:
    try:
        values = parse_json(read_bounded(path, _MAX_BYTES))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}. Give --mean, --std, --channels and --scale.") from None
    if not isinstance(values, dict):
        raise ModelError(f"{path} holds no JSON object. Give --mean, --std, --channels and --scale.")
    return cast(Mapping[str, Any], values)


def _triple(values: Any) -> Triple:
    numbers = json.loads(json.dumps(values)) if not isinstance(values, float | int) else [values] * 3
    if not isinstance(numbers, list) or len(numbers) != 3:
        raise ModelError(f"The network's mean or standard deviation is {values!r}, not of three channels.")
    return cast(Triple, tuple(float(number) for number in numbers))
