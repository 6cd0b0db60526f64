"""Help in panels: the options that most need first, under what they are for, and the rare ones last."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from typer.core import TyperCommand

Panels = Mapping[str, Sequence[str]]
"""Title of each panel -> names of its parameters, in the order in which they are shown."""

ADVANCED: Final = "Advanced"
"""Where every option goes that no panel names."""
LONG: Final = 18
"""Characters of a list of choices from which on it may be broken, between choices and not within one."""


def in_panels(panels: Panels) -> type[TyperCommand]:
    """Return the class of a command whose help is divided so; without panels all options stay in one."""
    titles = {name: title for title, names in panels.items() for name in names}
    places = {name: place for place, name in enumerate(titles)}

    class Panelled(TyperCommand):
        def get_params(self, ctx: Any) -> list[Any]:
            params: list[Any] = super().get_params(ctx)
            for param in params:
                if getattr(param, "is_flag", False):
                    param.metavar = ""  # "--json <bool>" reads as if a value followed
                elif len(param.metavar or "") > LONG:
                    param.metavar = " | ".join(word.strip() for word in param.metavar.split("|"))
                if panels and param.param_type_name == "option":
                    param.rich_help_panel = titles.get(param.name, ADVANCED)
            return sorted(params, key=lambda param: places.get(param.name, len(places)))

    return Panelled
