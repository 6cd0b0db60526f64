"""The arguments of an op by the names of its schema, whichever way and overload it was called."""

from collections.abc import Mapping, Sequence
from typing import Any


def bound(target: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return every argument by its name, defaults included."""
    schema = target._schema.arguments
    named = {argument.name: argument.default_value for argument in schema if argument.has_default_value()}
    named |= {argument.name: value for argument, value in zip(schema, args, strict=False)}
    return named | dict(kwargs)


def in_order(target: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments with those in their places that were given by name."""
    schema = getattr(target, "_schema", None)
    rest = dict(kwargs)
    placed = list(args)
    arguments = [] if schema is None else [argument for argument in schema.arguments if not argument.kwarg_only]
    for argument in arguments[len(placed) :]:
        if not rest.keys() & {later.name for later in arguments}:
            break
        placed.append(rest.pop(argument.name, argument.default_value))
    return tuple(placed), rest


def writes(target: Any) -> bool:
    """Tell whether an op changes its first argument in place."""
    schema = getattr(target, "_schema", None)
    if schema is None or not schema.arguments:
        return False
    alias = schema.arguments[0].alias_info
    return alias is not None and alias.is_write


def makes_view(value: object) -> bool:
    """Tell whether a node of the graph is a view of its first argument."""
    returns = getattr(getattr(getattr(value, "target", None), "_schema", None), "returns", None)
    alias = returns[0].alias_info if returns else None
    return alias is not None and not alias.is_write
