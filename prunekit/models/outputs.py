"""What segmentation networks return, brought to one form: main logits and named auxiliary logits.

B batch, K classes, h w the size the network chose.
"""

from collections.abc import Mapping, Sequence
from typing import cast

from torch import Tensor

from prunekit.errors import ModelError

MAIN_KEYS = ("out", "logits")


def adapt(raw: object, num_classes: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Return (logits_BKhw, auxiliary logits by name) of what a network returned.

    Accepted are a tensor, a tuple or list whose first entry is the main one, a mapping with the key "out" or "logits",
    and an object with the attribute `logits` (Hugging Face).

    Raises:
        ModelError: anything else came, or a tensor does not hold `num_classes` channels.
    """
    main, aux = _split(raw)
    logits_BKhw = _checked(main, "its main output", num_classes)
    return logits_BKhw, {name: _checked(value, f"its output {name!r}", num_classes) for name, value in aux.items()}


def main_output(raw: object) -> Tensor | None:
    """Return the main logits of what a network returned, unchecked; None where there are none."""
    try:
        main, _ = _split(raw)
    except ModelError:
        return None
    return main if isinstance(main, Tensor) else None


def _split(raw: object) -> tuple[object, dict[str, object]]:
    if isinstance(raw, Tensor):
        return raw, {}
    if isinstance(getattr(raw, "logits", None), Tensor):
        return cast(object, getattr(raw, "logits")), {}  # noqa: B009  the object's type is not ours to know
    if isinstance(raw, Mapping):
        return _split_mapping({str(key): value for key, value in cast(Mapping[object, object], raw).items()})
    if isinstance(raw, Sequence) and not isinstance(raw, str | bytes) and len(cast(Sequence[object], raw)) > 0:
        first, *rest = cast(Sequence[object], raw)
        return first, {f"aux{index}": value for index, value in enumerate(rest, start=1)}
    raise ModelError(f"The network returned {_describe(raw)}. {_ACCEPTED}")


def _split_mapping(raw: dict[str, object]) -> tuple[object, dict[str, object]]:
    for key in MAIN_KEYS:
        if key in raw:
            return raw[key], {name: value for name, value in raw.items() if name != key}
    raise ModelError(f"The network returned a mapping with the keys {', '.join(raw) or '(none)'}. {_ACCEPTED}")


def _checked(value: object, what: str, num_classes: int) -> Tensor:
    if isinstance(value, Tensor) and value.ndim == 4 and value.shape[1] == num_classes:
        return value
    wanted = f"a tensor (batch, {num_classes} classes, height, width)"
    raise ModelError(f"The network's logits must be {wanted}; {what} is {_describe(value)}. {_ACCEPTED}")


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return f"of type {type(value).__name__}"


_ACCEPTED = (
    "Return the logits, a tuple that begins with them, a dict with 'out' (and 'aux'), or an object with .logits; "
    "every other entry must be auxiliary logits of the same classes."
)
