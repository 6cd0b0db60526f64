"""What exports without an error and is wrong, or is refused later with a riddle: refused here, with the way out."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from prunekit_export.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

AXES = {0: "batch", 2: "height", 3: "width"}


def check_exportable(program: torch.export.ExportedProgram, *, dynamic: bool) -> None:
    """Refuse operators that do not survive the way to an engine.

    Works on the traced ATen graph, so a functional call is seen as well as a module.

    Raises:
        ExportError: an antialiased resize (TensorRT's parser has none), or with `dynamic` height and width an
            adaptive pool to more than 1 x 1 that is not written as products (the exporter writes the traced size's
            windows, wrong at any other).
    """
    for node in _calls(program):
        operator = str(node.target).removeprefix("aten.").partition(".")[0]
        where = _where(node)
        if operator.startswith("_upsample") and operator.endswith("_aa"):
            raise ExportError(f"{where} resizes with antialias=True, which TensorRT cannot parse. Use antialias=False.")
        if dynamic and "adaptive" in operator and "pool2d" in operator and _cells(node) != 1:
            raise ExportError(
                f"{where} pools to {list(node.args[1])}, which is right at one image size only. "
                "Export with a fixed size (--static), pool to 1 x 1, or take averages (adaptive_avg_pool2d)."
            )


@dataclass(frozen=True)
class SizeCondition:
    """What the traced path takes for granted of the size, and a size (h, w) at which it does not hold."""

    text: str
    fails_at: tuple[int, int]
    stride: int
    """Where the condition asks for a multiple of this; 0 for a condition of another kind."""


class SizeConditions:
    """What a program traced with open sizes takes for granted of height and width without saying so.

    torch.export follows one branch of Python that asks for the size and drops the question; what it assumed is left in
    the shape environment of the trace.
    """

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        images = next((node.meta["val"] for node in program.graph.nodes if _is_images(node)), None)
        dims = () if images is None else images.shape
        open_dims = [(axis, *_symbol(dims[axis])) for axis in AXES if dims and hasattr(dims[axis], "node")]
        self.axes: dict[Any, tuple[int, int]] = {symbol: (axis, unit) for axis, symbol, unit in open_dims}
        guards = dims[open_dims[0][0]].node.shape_env.guards if open_dims else ()
        self.expressions: list[Any] = list(dict.fromkeys(guard.expr for guard in guards))

    def broken(self, height: int, width: int) -> list[SizeCondition]:
        """Return the conditions that fail at some size from half to twice (height, width)."""
        found = (self._first(expression, height, width) for expression in self.expressions)
        return [condition for condition in found if condition is not None]

    def edges(self, height: int, width: int) -> tuple[tuple[int, int], ...]:
        """Return sizes below half of (height, width) at which conditions fail, for each the largest of some tried.

        Mostly they are the least sizes of kernels, which the network itself does not take; where it does take one, the
        file has to agree there.
        """
        shrunk = [(height * eighths // 16, width * eighths // 16) for eighths in range(7, 0, -1)]
        sizes = [size for size in (*shrunk, (2, 2), (1, 1)) if min(size) >= 1]
        failing = (next((size for size in sizes if self._fails(e, size)), None) for e in self.expressions)
        return tuple(sorted({size for size in failing if size is not None}, reverse=True))

    def _first(self, expression: Any, height: int, width: int) -> SizeCondition | None:
        for size in (*_excluded(expression, self.axes), *_sizes(height, width)):
            within = height // 2 <= size[0] <= 2 * height and width // 2 <= size[1] <= 2 * width
            if within and self._fails(expression, size):
                names = {symbol: AXES[axis] for symbol, (axis, _) in self.axes.items()}
                return SizeCondition(_text(expression, names), size, _stride(expression))
        return None

    def _fails(self, expression: Any, size: tuple[int, int]) -> bool:
        # Two images: torch.export leaves out one, which parity tries. Sizes off the stride are padded to it.
        dims = {0: 2, 2: size[0], 3: size[1]}
        values = {symbol: -(-dims[axis] // unit) for symbol, (axis, unit) in self.axes.items()}
        return bool(expression.xreplace(values) == False)  # noqa: E712  sympy's own False


def refuse_conditions(conditions: list[SizeCondition], height: int, width: int) -> None:
    """Refuse a program that takes a size for granted.

    Raises:
        ExportError: there are conditions.
    """
    if not conditions:
        return
    first = conditions[0]
    stride = math.lcm(*(condition.stride or 1 for condition in conditions))
    multiple = f"stride = {stride} if it takes multiples of it" if stride > 1 else "stride if it takes multiples alone"
    raise ExportError(
        f"The network's own Python depends on the image's size: {first.text} holds at {height} x {width}, where it was "
        f"traced, and not at {first.fails_at[0]} x {first.fails_at[1]}, where the file would be wrong. "
        f"Export with a fixed size (--static), or give the network the attribute {multiple}."
    )


def _is_images(node: Any) -> bool:
    shape = getattr(node.meta.get("val"), "shape", ())
    return node.op == "placeholder" and len(shape) == 4 and any(hasattr(dim, "node") for dim in shape)


def _symbol(dim: Any) -> tuple[Any, int]:
    """Return the symbol of an open dim and how many pixels it counts."""
    factor, symbol = dim.node.expr.as_coeff_Mul()
    return symbol, int(factor)


def _sizes(height: int, width: int) -> Iterator[tuple[int, int]]:
    heights, widths = ((side, side + 1, side - 1, side // 2 + 3, side * 3 // 4, 2 * side) for side in (height, width))
    yield from itertools.product(heights, widths)


def _excluded(expression: Any, axes: dict[Any, tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the one size that `size != constant` leaves out, square."""
    import sympy

    if not isinstance(expression, sympy.Ne):
        return
    left, right = cast("tuple[Any, Any]", expression.args)
    if left in axes and right.is_Integer:
        yield int(right) * axes[left][1], int(right) * axes[left][1]


def _stride(expression: Any) -> int:
    """Return k where the expression asks whether a side is a multiple of k, or how far from one, else 0."""
    import sympy
    from torch.utils._sympy.functions import Mod, PythonMod

    if not isinstance(expression, sympy.Eq | sympy.Ne) or not isinstance(expression.lhs, Mod | PythonMod):
        return 0
    counted, modulus = cast("tuple[Any, Any]", expression.lhs.args)
    return int(modulus) if counted.as_coeff_Mul()[1].is_Symbol and modulus.is_Integer else 0


def _text(expression: Any, names: dict[Any, str]) -> str:
    import sympy

    named = expression.xreplace({symbol: sympy.Symbol(name) for symbol, name in names.items()})
    if isinstance(named, sympy.Eq | sympy.Ne):
        text = f"{named.lhs} {'==' if isinstance(named, sympy.Eq) else '!='} {named.rhs}"
    else:
        text = str(named)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _calls(program: torch.export.ExportedProgram) -> Iterator[Any]:
    return (node for node in program.graph.nodes if node.op == "call_function")


def _cells(node: Any) -> int:
    sizes: list[int] = node.args[1]
    return math.prod(sizes)


def _where(node: Any) -> str:
    # nn_module_stack maps a key to (path in the module, class); the innermost comes last.
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = stack[-1][0] if stack else ""
    return f"Module {path}" if path else f"Operator {node.name}"
