"""What a preprocessing contract says besides its numbers: the steps that are done in one way only, so far.

Every contract holds them, so that any program can repeat the steps from the file alone; docs/preprocessing.md explains
each. Contracts of earlier releases lack them and mean the same: a rule that is absent has the value below.
"""

from collections.abc import Mapping
from typing import Any, Final

from prunekit_runtime.errors import ContractError

RULES: Final[Mapping[str, Any]] = {
    "picture_channels": "rgb",
    "picture_dtype": "uint8",
    "picture_orientation": "exif",  # turned upright, as its EXIF data says
    "steps": ["channel_order", "resize", "normalize", "pad"],
    "resize_aspect": "stretch",  # to height x width, whatever the picture's proportions are
    "resize_antialias": False,
    "resize_align_corners": False,  # centres of pixels at half-integers
    "resize_edges": "repeat",
    "resize_rounding": "none",  # resized values stay float32
    "normalize": "(value * scale - mean) / std",
    "pad_rounding": "up",  # each side to the next multiple of pad_multiple
    "pad_side": "bottom-right",
    "pad_value": 0.0,  # in normalised values
    "logits_steps": ["crop", "resize", "argmax"],
    "logits_layout": "NKHW",
    "logits_crop": "padding",
    "logits_resize": "bilinear",  # to the picture's size, by the rules of resize
    "argmax_ties": "lowest",
}


def check_rules(values: Mapping[str, Any]) -> None:
    """Refuse a contract that asks for steps in another way than they are done.

    Raises:
        ContractError: a rule is there and is another one.
    """
    for name, rule in RULES.items():
        found = values.get(name, rule)
        if found != rule or isinstance(found, bool) != isinstance(rule, bool):  # False == 0 in Python
            raise ContractError(
                f"Preprocessing contract: {name} cannot be {repr(found)[:100]}. This release knows {rule!r}."
            )
