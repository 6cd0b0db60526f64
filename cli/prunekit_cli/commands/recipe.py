"""`prunekit recipe`: every setting of a training run with its default and its meaning."""

from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from prunekit_cli.showing import output

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

EXAMPLES = ("prunekit recipe > mine.toml", "prunekit train --recipe mine.toml")


def command() -> None:
    """Print the default recipe as TOML, with a comment on each setting. Edit it and pass it to prunekit train."""
    from prunekit.recipe import Recipe

    sections = [_section(name, getattr(Recipe(), name)) for name in Recipe.model_fields]
    output.result("\n\n".join(sections))


def _section(name: str, section: "BaseModel") -> str:
    doc = (type(section).__doc__ or "").strip().splitlines()[0]
    lines = [f"# {doc}", f"[{name}]"]
    for key, field in type(section).model_fields.items():
        meaning = _meaning(field)
        assignment = _assignment(key, getattr(section, key))
        lines.append(f"{assignment:32}# {meaning}" if meaning else assignment)
    return "\n".join(lines)


def _assignment(key: str, value: Any) -> str:
    import tomli_w

    if isinstance(value, tuple):  # which tomli_w would write on several lines
        return f"{key} = {list(value)} "
    return tomli_w.dumps({key: value}).strip() + " "


def _meaning(field: "FieldInfo") -> str:
    """Return the description, then what the value may be."""
    notes = [field.description] if field.description else []
    if get_origin(field.annotation) is Literal:
        notes.append(" | ".join(str(choice) for choice in get_args(field.annotation)))
    notes.extend(_bounds(field))
    return "; ".join(notes)


def _bounds(field: "FieldInfo") -> list[str]:
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    return [
        f"{sign} {getattr(rule, name)}"
        for rule in field.metadata
        for name, sign in signs.items()
        if hasattr(rule, name)
    ]
