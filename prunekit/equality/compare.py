"""Two networks on the same inputs: equal in the precision they have, or else in float64, where rounding shows."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from prunekit.equality.mode import set_mode
from prunekit.equality.wide import Wide
from prunekit.random_state import drawing_from

TOLERANCE = 1e-4
"""Largest relative difference of equal networks in float32 (docs/architecture.md, Contracts)."""

TOLERANCE_FLOAT64 = 1e-10

Pair = Callable[[bool], tuple[nn.Module, nn.Module]]
"""Makes the reference and the other network anew; given True, in float64 from the start."""

Run = Callable[..., list[Tensor]]
"""`outputs`, in one mode."""

_TINY = 1e-12  # keeps outputs that are all zero comparable
_SEED = 0


@dataclass(frozen=True)
class Comparison:
    """How far two networks are apart, relative to the largest value of the same output."""

    error: float
    """In the precision that they have."""
    tolerance: float
    refined: float | None = None
    """In float64; None where it was not needed, or `unproved` says why it could not be had."""
    unproved: str | None = None
    """Why nothing can be said, a clause; None where something can."""
    drawn: bool = False
    """Whether that is because of random numbers."""

    @property
    def equal(self) -> bool:
        """Whether the two differ by rounding only."""
        return self.error <= self.tolerance or (self.refined is not None and self.refined <= TOLERANCE_FLOAT64)

    @property
    def decisive(self) -> float:
        """The error that `equal` rests on."""
        if self.error <= self.tolerance or self.refined is None:
            return self.error
        return self.refined if self.equal else max(self.error, self.refined)

    def why(self) -> str:
        """Return a sentence about two networks that are not equal."""
        if self.unproved is not None:
            return self.unproved
        return (
            f"They differ by {self.error:.1e} of the largest output, more than {self.tolerance:.0e}, and by "
            f"{self.refined:.1e} in float64: this is not rounding."
        )


def compare(pair: Pair, inputs: tuple[Any, ...], tolerance: float = TOLERANCE, *, training: bool = False) -> Comparison:
    """Compare two networks, both under the same random numbers.

    Args:
        pair: makes the two.
        inputs: positional arguments of both.
        tolerance: of the relative error, in the precision that they have.
        training: compare them in training mode, dropout aside, instead of evaluation mode.
    """
    run = functools.partial(outputs, training=training)
    reference, other = pair(False)
    wanted = run(reference, inputs)
    if not wanted:
        return Comparison(math.inf, tolerance, unproved="The network returns no tensor: nothing can be proved.")
    try:
        got = run(other, inputs)
    except Exception as error:  # the user's code, at sizes that it may not have been written for
        return Comparison(math.inf, tolerance, unproved=f"Only one of them runs. The other: {_line(error)}.")
    if [one.shape for one in wanted] != [one.shape for one in got]:
        return Comparison(math.inf, tolerance, unproved=f"One returns {_shapes(got)} where {_shapes(wanted)} is due.")
    if not all(_is_finite(leaf) for leaf in [*wanted, *got]):
        return Comparison(math.inf, tolerance, unproved="On the example they give values that are not finite.")
    error = _difference(wanted, got)
    if error <= tolerance:
        return Comparison(error, tolerance)
    return _decided(pair, run, inputs, wanted, Comparison(error, tolerance))


def _decided(pair: Pair, run: Run, inputs: tuple[Any, ...], wanted: list[Tensor], found: Comparison) -> Comparison:
    error, tolerance = found.error, found.tolerance
    refined, obstacle = _refined(pair, run, inputs)
    if refined is not None and refined <= TOLERANCE_FLOAT64:
        return Comparison(error, tolerance, refined)
    if _difference(wanted, run(pair(False)[0], inputs, seed=_SEED + 1)) > tolerance:
        says = "The network draws random numbers in evaluation mode, along its channels: nothing can be proved."
        return Comparison(error, tolerance, unproved=says, drawn=True)
    if obstacle is None:
        return Comparison(error, tolerance, refined)
    says = (
        f"They differ by {error:.1e} of the largest output, more than {tolerance:.0e}. Whether that is rounding is not "
        f"known, since the network's code does not run in float64: {obstacle}."
    )
    return Comparison(error, tolerance, unproved=says)


def outputs(module: nn.Module, inputs: tuple[Any, ...], seed: int = _SEED, *, training: bool = False) -> list[Tensor]:
    """Return the tensors that a network gives under one seed; generators and inputs stay. Nothing is dropped out."""
    own = pytree.tree_map_only(Tensor, torch.clone, inputs)  # a network may write to what it is given
    with torch.no_grad(), drawing_from(seed):
        returned = set_mode(module, training=training)(*own)
    return [leaf for leaf in pytree.tree_leaves(returned) if isinstance(leaf, Tensor)]


@torch.no_grad()
def relative_error(wanted: Tensor, got: Tensor) -> float:
    """Return max |wanted - got| / max |wanted|; infinite if a number is not finite. Of labels: whether any differs."""
    if not wanted.numel():
        return 0.0
    if not (wanted.is_floating_point() or wanted.is_complex()):
        return float(not torch.equal(wanted, got))
    wide = torch.complex128 if wanted.is_complex() else torch.float64
    wanted, got = wanted.to(wide), got.to(wide)
    if not (_is_finite(wanted) and _is_finite(got)):
        return math.inf
    return float((wanted - got).abs().max() / wanted.abs().max().clamp(min=_TINY))


def _difference(wanted: list[Tensor], got: list[Tensor]) -> float:
    return max(relative_error(a, b) for a, b in zip(wanted, got, strict=True))


def _is_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def _shapes(tensors: list[Tensor]) -> str:
    return ", ".join(str(tuple(tensor.shape)) for tensor in tensors)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}".rstrip(".")


def _refined(pair: Pair, run: Run, inputs: tuple[Any, ...]) -> tuple[float | None, str | None]:
    """Return the error in float64, or why it cannot be had."""
    doubled = pytree.tree_map_only(Tensor, lambda x: x.double() if x.is_floating_point() else x, inputs)
    try:
        reference, other = pair(True)
        with Wide():
            return _difference(run(reference, doubled), run(other, doubled)), None
    except Exception as error:  # the user's code, in a precision that it was not written for
        return None, _line(error)
