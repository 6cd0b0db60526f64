"""Which way does a network's code go? The calls that a forward pass makes, compared with those of the dense network.

A graph is traced at one width. Code that asks for the width (`if x.shape[1] > 8`, `x / x.shape[1]`, `group_norm(x, 4)`)
runs at another one too, and computes something else: no shape shows it, the calls do.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

_ARITHMETIC = (
    "add radd iadd sub rsub isub mul rmul imul div rdiv truediv rtruediv itruediv true_divide floordiv rfloordiv "
    "floor_divide pow rpow ipow mod remainder fmod clamp clip eq ne lt le gt ge full new_full full_like fill "
    "masked_fill where addcmul addcdiv lerp"
)
_NUMBER_TAKING = frozenset(_ARITHMETIC.split())
"""Functions whose plain whole numbers are values; those of all others are sizes, which a cut may change."""


class Step(NamedTuple):
    """One call of a torch function: its name and the numbers that must not follow a width."""

    name: str
    numbers: tuple[float, ...]


class OtherPathError(Exception):
    """A cut network called something else than the dense one did."""


class Recorder(TorchFunctionMode):
    """Collects the calls made inside, reads of attributes left out."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Step] = []

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        step = _step(func, args, kwargs or {})
        if step is not None:
            self.steps.append(step)
        return func(*args, **(kwargs or {}))


class Follower(TorchFunctionMode):
    """Lets a cut network run as long as it makes the expected calls.

    Raises:
        OtherPathError: at the first call that differs, so that the traceback ends at its line.
    """

    def __init__(self, expected: Sequence[Step]) -> None:
        super().__init__()
        self._expected, self._done, self._lost = expected, 0, False

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        step = _step(func, args, kwargs or {})
        if step is not None and not self._lost:  # what cleans up after the error makes calls too
            self._compare(step)
        return func(*args, **(kwargs or {}))

    def finish(self) -> None:
        """Check that nothing is left out at the end.

        Raises:
            OtherPathError: the dense network made more calls.
        """
        if self._done != len(self._expected):
            raise OtherPathError("its size chooses the path through the network's code")

    def _compare(self, step: Step) -> None:
        due = self._expected[self._done] if self._done < len(self._expected) else None
        self._done += 1
        if step == due:
            return
        self._lost = True
        if due is None or due.name != step.name:
            raise OtherPathError("its size chooses the path through the network's code")
        if step.name == "group_norm":
            raise OtherPathError("its number of groups is written in the network's code")
        raise OtherPathError("a number in the network's code follows its size")


def _step(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Step | None:
    name = str(getattr(func, "__name__", func)).strip("_")
    if name in ("get", "set"):
        return None  # x.shape, x.device
    if name == "group_norm":
        return Step(name, (_channels_per_group(*args, **kwargs),))
    fractions = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, float)]
    plain = [*args, *kwargs.values()] if name in _NUMBER_TAKING else []
    return Step(name, (*fractions, *(leaf for leaf in plain if isinstance(leaf, int))))


def _channels_per_group(x: Tensor, num_groups: int, *_: object, **__: object) -> int:
    return x.shape[1] // num_groups
