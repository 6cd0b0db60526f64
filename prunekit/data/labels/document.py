"""A class list as it is written: what its TOML may hold, and what text and tables are turned into."""

from typing import Annotated, Any, Final, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field

from prunekit.data.dataset import IGNORE_INDEX
from prunekit.data.labels.colours import written_colour

MaskKind = Literal["auto", "index", "colour"]
MAX_NUMBER: Final = (1 << 16) - 1  # in a mask of 16 bits a pixel
_MANY: Final = 4096  # numbers of one class, or to ignore; above what any data set has

_Channel = Annotated[int, Field(ge=0, le=255)]
_Colour = Annotated[list[_Channel], Field(min_length=3, max_length=3), BeforeValidator(written_colour)]
_Number = Annotated[int, Field(ge=0, le=MAX_NUMBER)]


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _british(value: Any) -> Any:
    return "colour" if value == "color" else value


_Numbers = Annotated[list[_Number], Field(max_length=_MANY), BeforeValidator(_listed)]


class Entry(BaseModel):
    """One class."""

    model_config = ConfigDict(extra="forbid", strict=True)
    name: str
    colour: _Colour | None = Field(None, validation_alias=AliasChoices("colour", "color"))
    id: Annotated[_Numbers, Field(min_length=1)] | None = None


class Document(BaseModel):
    """A class list."""

    model_config = ConfigDict(extra="forbid", strict=True)
    ignore_index: _Numbers = [IGNORE_INDEX]
    ignore_colour: _Colour | None = Field(None, validation_alias=AliasChoices("ignore_colour", "ignore_color"))
    masks: Annotated[MaskKind, BeforeValidator(_british)] = "auto"
    label_map: dict[str, str | int] = Field(default={}, max_length=_MANY)
    classes: list[Entry] = Field(min_length=1)
