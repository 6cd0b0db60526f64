"""What pydantic refuses, in our words: which setting, what it takes, what it got.

No phrase of pydantic's reaches a user: a sentence is made of the kind of the error and of the field's own annotation,
and only what our validators say is passed on.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ValidationError

from prunekit.tomltext import shown
from prunekit_runtime.near import did_you_mean, nearest
from prunekit_runtime.text import printable_name

Loc = tuple[int | str, ...]
Namer = Callable[[Loc], str]

_PART: Final = 100  # characters of a key that a message shows
_LISTED: Final = 12  # keys that are listed where none is near
_KINDS: Final = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "string": "a text",
    "tuple": "a list",
    "list": "a list",
    "literal": "one of a few words",
}
_BOUNDS: Final = {"greater_than_equal": "ge", "less_than_equal": "le", "greater_than": "gt", "less_than": "lt"}


def dotted(loc: Loc) -> str:
    """Return the place of an error as a recipe has it, "train.epochs"; of a place in a list the number from 0."""
    return ".".join(printable_name(str(part)[:_PART]) for part in loc)


def sentences(error: ValidationError, model: type | None = None, *, named: Namer = dotted, most: int = 10) -> list[str]:
    """Return one sentence for each thing that is wrong, and one that counts those above `most`.

    Args:
        error: what was raised.
        model: the pydantic model, or the dataclass, that was to be made; it says what each field takes.
        named: returns what a user knows a field by, such as its option.
        most: how many sentences there are at most.
    """
    rows = error.errors(include_url=False)
    told = [_sentence(row, model, named) for row in rows[:most]]
    return told + ([f"And {len(rows) - most} more."] if len(rows) > most else [])


def first_sentence(error: ValidationError, model: type | None = None) -> str:
    """Return what is wrong first, for a file that is damaged anyway, without a full stop."""
    return sentences(error, model, most=1)[0].removesuffix(".")


def refusal(row: Mapping[str, Any], annotation: object = None, rules: Iterable[object] = ()) -> str:
    """Return "takes a whole number from 1 to 9, got 'x'" for one row of pydantic's errors."""
    takes = None if annotation is None else _allowed(annotation, tuple(rules))
    return f"takes {takes or _by_kind(row)}, got {shown(row['input'])}"


def _sentence(row: Mapping[str, Any], model: type | None, named: Namer) -> str:
    loc, kind = row["loc"], row["type"]
    if kind == "missing" and loc and isinstance(loc[-1], int):  # a list that is too short
        row, loc, kind = {**row, "type": "list_type"}, loc[:-1], "list_type"
    where = named(loc) if loc else ""
    if kind == "json_invalid":
        return "It is no JSON."
    if kind in ("value_error", "assertion_error"):
        return _ours(row, where)
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return _unknown(where, str(loc[-1])[:_PART], _resolved(model, loc[:-1])[0])
    annotation, rules = _resolved(model, loc)
    if kind in ("missing", "missing_argument"):
        takes = None if annotation is None else _allowed(annotation, rules)
        return f"{where} is missing{f'; it takes {takes}' if takes else ''}."
    return f"{where or 'It'} {refusal(row, annotation, rules)}.{_near(row['input'], annotation)}"


def _ours(row: Mapping[str, Any], where: str) -> str:
    """Return what one of our own validators said, with the value where it is a single one."""
    said = str(row.get("ctx", {}).get("error", "")) or "it cannot be followed"
    got = "" if isinstance(row["input"], Mapping | BaseModel) or not where else f", got {shown(row['input'])}"
    return f"{where}: {said}{got}." if where else f"{said[:1].upper()}{said[1:]}."


def _unknown(where: str, key: str, owner: object) -> str:
    known = list(_fields(owner))
    near = nearest(key, known)
    if near is not None:
        return f"{where}: there is no such setting.{did_you_mean(key, known)}"
    listed = ", ".join(known[:_LISTED]) + (f" and {len(known) - _LISTED} more" if len(known) > _LISTED else "")
    return f"{where}: there is no such setting{f'; there are {listed}' if known else ''}."


def _near(value: object, annotation: object) -> str:
    choices = _choices(annotation)
    return did_you_mean(value, choices) if isinstance(value, str) and choices else ""


def _by_kind(row: Mapping[str, Any]) -> str:
    """Return what is due where the field is not known, by pydantic's name of the error."""
    kind, context = str(row["type"]), row.get("ctx", {})
    if kind in _BOUNDS:
        name = _BOUNDS[kind]
        return f"a number {_range({name: context[name]})}"
    front = kind.split("_")[0]
    return _KINDS.get(front, "a table of values" if front in ("dict", "model", "dataclass") else "another value")


def _resolved(model: object, loc: Loc) -> tuple[object, tuple[object, ...]]:
    """Return annotation and rules of the field at `loc`; None where the way there cannot be told."""
    current, rules = model, ()
    for part in loc:
        fields = _fields(current)
        if isinstance(part, str) and part in fields:
            current, rules = _bare(*fields[part])
        elif isinstance(part, int) and get_origin(current) in (tuple, list):
            current, rules = _bare(_item(current, part), ())
        elif get_origin(current) is dict:
            current, rules = _bare(get_args(current)[1], ())
        else:
            return None, ()
    return current, rules


def _fields(owner: object) -> Mapping[str, tuple[object, tuple[object, ...]]]:
    """Return annotation and rules by name of a model's or a dataclass's fields; nothing for anything else."""
    if isinstance(owner, type) and issubclass(owner, BaseModel):
        return {name: (field.annotation, tuple(field.metadata)) for name, field in owner.model_fields.items()}
    if isinstance(owner, type) and dataclasses.is_dataclass(owner):
        kinds = get_type_hints(owner, include_extras=True)
        return {field.name: (kinds[field.name], ()) for field in dataclasses.fields(owner)}
    return {}


def _item(annotation: object, place: int) -> object:
    parts = [part for part in get_args(annotation) if part is not Ellipsis]
    return parts[place] if place < len(parts) else parts[-1] if parts else None


def _bare(annotation: object, rules: tuple[object, ...]) -> tuple[object, tuple[object, ...]]:
    """Return an annotation without Annotated and without None, and the rules that stood with it."""
    if get_origin(annotation) is Annotated:
        base, *more = get_args(annotation)
        return _bare(base, (*rules, *(rule for part in more for rule in (part, *getattr(part, "metadata", ())))))
    if get_origin(annotation) in (Union, UnionType):
        return _bare(next(part for part in get_args(annotation) if part is not NoneType), rules)
    return annotation, rules


def _allowed(annotation: object, rules: tuple[object, ...]) -> str | None:
    """Return what a field takes: "a whole number from 1 to 9", "rgb or bgr"."""
    annotation, rules = _bare(annotation, rules)
    bounds = {name: value for rule in rules for name in ("ge", "gt", "le", "lt", "max_length", "pattern")
              if (value := getattr(rule, name, None)) is not None}  # fmt: skip
    choices = _choices(annotation)
    if choices:
        return _listed(choices)
    if annotation is bool:
        return _KINDS["bool"]
    if annotation is int or annotation is float:
        return f"{_KINDS['int' if annotation is int else 'float']} {_range(bounds)}".rstrip()
    if annotation is str:
        longest = f" of at most {bounds['max_length']} characters" if "max_length" in bounds else ""
        return f"a text{longest}{' of the form ' + str(bounds['pattern']) if 'pattern' in bounds else ''}"
    if get_origin(annotation) in (tuple, list):
        return _listing(annotation, bounds)
    return "a table of values" if _fields(annotation) or get_origin(annotation) is dict or annotation is dict else None


def _listing(annotation: object, bounds: Mapping[str, Any]) -> str:
    """Return "3 values, each a number above 0", "a list of at most 98 values, each a number"."""
    args = get_args(annotation)
    each = _allowed(args[0], ()) if args else None
    fixed = get_origin(annotation) is tuple and bool(args) and args[-1] is not Ellipsis
    most = f" of at most {bounds['max_length']} values" if "max_length" in bounds else ""
    return f"{f'{len(args)} values' if fixed else f'a list{most}'}{f', each {each}' if each else ''}"


def _choices(annotation: object) -> list[str]:
    return [str(choice) for choice in get_args(annotation)] if get_origin(annotation) is Literal else []


def _listed(choices: list[str]) -> str:
    return " or ".join(filter(None, (", ".join(choices[:-1]), choices[-1])))


def _range(bounds: Mapping[str, Any]) -> str:
    """Return "from 1 to 9", "above 0 and below 1", "of at least 0"."""
    low = {"ge": "from", "gt": "above"}
    high = {"le": "to" if "ge" in bounds else "up to", "lt": "below"}
    if not bounds.keys() & high.keys() and "ge" in bounds:
        return f"of at least {_number(bounds['ge'])}"
    words = [f"{word} {_number(bounds[name])}" for name, word in (low | high).items() if name in bounds]
    return (" " if "ge" in bounds and "le" in bounds else " and ").join(words)


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.12g}"
