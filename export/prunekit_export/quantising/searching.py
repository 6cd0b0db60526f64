"""Which layers must stay fp16 for the mIoU: the most sensitive ones, and as few of them as will do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunekit.progress import counted
from prunekit_export.errors import ExportError
from prunekit_runtime.spelling import spelled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from prunekit_export.quantising.judging import Judge, Judged
    from prunekit_export.quantising.layers import Layers

    Write = Callable[[Sequence[str]], Path]
    """Writes a file whose named layers are int8."""

_FEW = 8  # pictures, by which layers are ordered
_REASON = "the mIoU needs it"


@dataclass(frozen=True)
class Found:
    """The layers, what comes of them, and how many files were tried."""

    layers: Layers
    judged: Judged
    tried: int


def fewest_kept(layers: Layers, judge: Judge, write: Write, max_drop: float) -> Found:
    """Keep the fewest of the most sensitive layers in fp16 so that the mIoU drops by no more than `max_drop`.

    The sensitivity of a layer is the share of labels that change when it alone is int8, on a few pictures; how many
    are kept is found by bisection, each time with the mIoU on all pictures. Where the mIoU does not grow with every
    layer that is kept, fewer might do: the answer is one that was measured, and not always the smallest.

    Raises:
        ExportError: not even one layer can be int8.
    """
    judged = judge(write(layers.quantised))
    if judge.drop(judged) <= max_drop:
        return Found(layers, judged, 1)
    order = _by_sensitivity(layers.quantised, judge, write)
    too_few, enough, best = 0, len(order), None
    tried = 1 + len(order)
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        judged = judge(write([name for name in layers.quantised if name not in order[:middle]]))
        tried += 1
        if judge.drop(judged) <= max_drop:
            enough, best = middle, judged
        else:
            too_few = middle
    if best is None:
        raise ExportError(
            f"No layer can be int8 within {100 * max_drop:g} points of mIoU: with the least sensitive one alone it "
            f"drops by more. Export fp16, allow more ({spelled('--max-miou-drop', 'max_miou_drop')}), or calibrate in "
            f"another way ({spelled('--calibration', 'calibration')})."
        )
    return Found(layers.without(dict.fromkeys(order[:enough], _REASON)), best, tried)


def _by_sensitivity(names: Sequence[str], judge: Judge, write: Write) -> list[str]:
    """Return layers, the most sensitive one first; among equals in the order of the graph."""
    changed = {
        name: 1 - judge(write([name]), _FEW).agreement
        for name in counted(names, "Trying each layer in int8 alone", len(names))
    }
    return sorted(names, key=lambda name: -changed[name])
