"""The text that names a network: "smp:Unet?encoder=resnet18&decoder_channels=[64,32,16,16,8]"."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, cast, get_args

from prunekit.errors import ModelUsageError
from prunekit_runtime.near import nearest

Kind = Literal["smp", "torchvision", "python", "hf"]
Scalar = str | int | float | bool | None
Argument = Scalar | list[Any]

MAX_SPEC_CHARACTERS = 4096  # a model file of unknown origin carries a spec; no honest one comes near
EXAMPLES = (
    "smp:Unet?encoder=resnet18, torchvision:lraspp_mobilenet_v3_large, hf:FOLDER or "
    "python:prunekit.models.street:street_net?width=32"
)
_PYTHON_LITERALS = {"True": "true", "False": "false", "None": "null"}
_SPEC = re.compile(r"(?P<kind>smp|torchvision|python|hf):(?P<name>[^?\s]+)(\?(?P<arguments>.*))?", re.DOTALL)
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class ModelSpec:
    """A parsed spec; `args` maps keyword to JSON scalar or list."""

    kind: Kind
    name: str
    args: Mapping[str, Argument]


def parse_spec(spec: str) -> ModelSpec:
    """Parse "kind:name?key=value&key=value".

    A value is JSON (a number, true, false, null, a list, a quoted string) or else taken as text.

    Raises:
        ModelError: the text does not have that form, a key comes twice, or a value is a mapping or a Python literal.
    """
    match = _SPEC.fullmatch(spec) if len(spec) <= MAX_SPEC_CHARACTERS else None
    if match is None:
        shown = spec if len(spec) <= 100 else spec[:100] + "..."
        raise ModelUsageError(
            f"A network is named kind:name?key=value&key=value, got {shown!r}.{_near_kind(spec)} Write {EXAMPLES}."
        )
    args: dict[str, Argument] = {}
    for part in (match["arguments"] or "").split("&") if match["arguments"] else []:
        key, value = _parse_argument(part, spec)
        if key in args:
            raise ModelUsageError(f"The network {spec!r} sets {key} twice. Keep one.")
        args[key] = value
    return ModelSpec(cast(Kind, match["kind"]), match["name"], MappingProxyType(args))


def _near_kind(spec: str) -> str:
    kind, colon, rest = spec[:100].partition(":")
    near = nearest(kind, get_args(Kind)) if colon else None
    return f" Did you mean {near}:{rest}?" if near is not None and near != kind else ""


def _parse_argument(part: str, spec: str) -> tuple[str, Argument]:
    key, equals, text = part.partition("=")
    if not equals or not _KEY.fullmatch(key) or not text:
        raise ModelUsageError(f"The network {spec!r} has an argument {part!r}. Write it key=value.")
    if text in _PYTHON_LITERALS:
        raise ModelUsageError(
            f"The network {spec!r} sets {key} to {text}. Values are JSON: write {_PYTHON_LITERALS[text]}."
        )
    return key, _parse_value(key, text, spec)


def _parse_value(key: str, text: str, spec: str) -> Argument:
    try:
        value: Any = json.loads(text, parse_constant=_refuse_constant)
    except (json.JSONDecodeError, RecursionError, _NotFiniteError):
        if text[0] in '[{"' or text.lstrip("+-") in {"NaN", "Infinity"}:
            raise ModelUsageError(f"The network {spec!r} sets {key} to {text!r}, which is no JSON value.") from None
        return text
    if isinstance(value, dict):
        raise ModelUsageError(f"The network {spec!r} sets {key} to a mapping. Only scalars and lists can be arguments.")
    return cast(Argument, value)


class _NotFiniteError(ValueError):
    """A NaN or an infinity, which json reads though JSON has none."""


def _refuse_constant(text: str) -> None:
    raise _NotFiniteError(text)
