"""Semantic segmentation networks of transformers: by type and settings, or by the config.json of a folder.

Nothing is fetched and no code of a folder is run. A folder is read once: its config becomes part of the network's name,
`hf:segformer?depths=[2,2,2,2]&...`, which is what a run keeps, so that the folder may go.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, cast

from torch import nn

from prunekit.errors import ModelError, ModelUsageError
from prunekit.models.spec import MAX_SPEC_CHARACTERS, ModelSpec, parse_spec
from prunekit.models.trust import HF_ARGUMENTS, is_plain
from prunekit_runtime.jsonfile import parse_json, read_bounded
from prunekit_runtime.near import did_you_mean, near_path

CONFIG: Final = "config.json"
_WEIGHTS: Final = ("model.safetensors", "pytorch_model.bin")
_MAX_BYTES: Final = 1 << 20
_SAYS_NOTHING: Final = frozenset(
    {
        *("model_type", "architectures", "id2label", "label2id", "num_labels", "problem_type", "finetuning_task"),
        *("torch_dtype", "dtype", "transformers_version", "_name_or_path", "downsampling_rates", "return_dict"),
        *("output_attentions", "output_hidden_states", "use_return_dict", "use_cache", "semantic_loss_ignore_index"),
    }
)
"""Entries of a config that have no part in logits: the data set says what the classes are."""


def build_hf(spec: ModelSpec, num_classes: int) -> Callable[..., nn.Module]:
    """Return what makes the network of its settings.

    Raises:
        ModelError: transformers is not installed, or the name is no type of network that is known.
    """
    if spec.name not in HF_ARGUMENTS:
        raise ModelUsageError(f"hf:{spec.name} {_UNKNOWN}{did_you_mean(spec.name, HF_ARGUMENTS, 'hf:')}")
    unknown = sorted(spec.args.keys() - HF_ARGUMENTS[spec.name])
    if unknown:
        known = ", ".join(sorted(HF_ARGUMENTS[spec.name]))
        near = did_you_mean(unknown[0], HF_ARGUMENTS[spec.name])
        raise ModelUsageError(f"hf:{spec.name} does not take {', '.join(unknown)}. It takes {known}.{near}")
    try:
        from transformers import (  # pyright: ignore[reportMissingImports]  an extra
            AutoConfig,
            AutoModelForSemanticSegmentation,
        )
    except ImportError as error:
        raise ModelUsageError(
            f"hf:{spec.name} needs transformers, which is not installed ({error}). Install it: "
            "pip install 'prunekit[hf]'"
        ) from None

    def make(**settings: Any) -> nn.Module:
        config = AutoConfig.for_model(spec.name, num_labels=num_classes, **settings)
        return cast(nn.Module, AutoModelForSemanticSegmentation.from_config(config, trust_remote_code=False))

    return make


def named_by_settings(spec: str) -> str:
    """Return a network's name without its folder: "hf:FOLDER" with its settings, any other name as it is.

    Raises:
        ModelError: the folder holds no config that can be followed.
    """
    parsed = parse_spec(spec)
    if parsed.kind != "hf" or parsed.name in HF_ARGUMENTS:
        return spec
    path = _config_path(parsed)
    if path is None:
        near = near_path(Path(parsed.name)) or did_you_mean(parsed.name, HF_ARGUMENTS, "hf:")
        raise ModelUsageError(f"hf:{parsed.name} {_UNKNOWN}{near}")
    values = _read(path)
    kind = values.get("model_type")
    if not isinstance(kind, str) or kind not in HF_ARGUMENTS:
        known = ", ".join(sorted(HF_ARGUMENTS))
        raise ModelUsageError(
            f"{path} is of the type {str(kind)[:100]!r}; known are {known}. Return another one from a factory of "
            "yours: python:package.module:factory."
        )
    settings = {key: value for key, value in values.items() if key not in _SAYS_NOTHING} | dict(parsed.args)
    _check(settings, kind, path)
    arguments = "&".join(f"{key}={_text(value)}" for key, value in sorted(settings.items()))
    named = f"hf:{kind}?{arguments}" if arguments else f"hf:{kind}"
    if len(named) > MAX_SPEC_CHARACTERS:
        raise ModelError(f"{path} has {len(named)} characters of settings, at most {MAX_SPEC_CHARACTERS} are kept.")
    return named


def weights_in(spec: str) -> Path | None:
    """Return the file of weights in the folder that an "hf:FOLDER" names, if there is one."""
    parsed = parse_spec(spec)
    if parsed.kind != "hf" or parsed.name in HF_ARGUMENTS:
        return None
    return next((path for name in _WEIGHTS if (path := Path(parsed.name) / name).is_file()), None)


def saved_names(network: nn.Module) -> Mapping[str, str]:
    """Return the network's names by those in files, where transformers renames tensors on reading; else nothing.

    Its modules were renamed over the years, and files keep the first names.
    """
    if not type(network).__module__.startswith("transformers."):
        return {}
    try:
        from transformers.core_model_loading import (  # pyright: ignore[reportMissingImports]  an extra
            revert_weight_conversion,
        )
    except ImportError:  # before version 5 nothing was renamed
        return {}
    own = network.state_dict()
    names = {id(tensor): name for name, tensor in own.items()}
    saved = cast(Mapping[str, Any], revert_weight_conversion(network, dict(own)))
    found = {name: names[id(tensor)] for name, tensor in saved.items() if id(tensor) in names}
    return found if len(found) == len(own) else {}


def _config_path(spec: ModelSpec) -> Path | None:
    path = Path(spec.name)
    candidates = (path / CONFIG, path) if path.suffix == ".json" else (path / CONFIG,)
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        values = parse_json(read_bounded(path, _MAX_BYTES))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}. Is it the config of a transformers model?") from None
    if not isinstance(values, dict):
        raise ModelError(f"{path} holds no JSON object. Is it the config of a transformers model?")
    return cast(Mapping[str, Any], values)


def _check(settings: Mapping[str, Any], kind: str, path: Path) -> None:
    for key, value in settings.items():
        if key not in HF_ARGUMENTS[kind]:
            raise ModelUsageError(
                f"{path} sets {key[:100]}, which is not known for {kind}. Take it out if the network does without, or "
                "return the network from a factory of yours: python:package.module:factory."
            )
        if not is_plain(value):
            raise ModelError(f"{path} sets {key} to something other than a number, a name or a list of them.")


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


_UNKNOWN: Final = (
    f"is neither a folder with a {CONFIG} here nor one of the types {', '.join(sorted(HF_ARGUMENTS))}. Nothing is "
    "fetched: download the model first, for example with: hf download NAME --local-dir FOLDER"
)
