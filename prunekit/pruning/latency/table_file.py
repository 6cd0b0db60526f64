"""A latency table as JSON: what its file may hold."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prunekit.errors import PruneError
from prunekit.validation import first_sentence

FORMAT = 1
_Milliseconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Channels = Annotated[int, Field(ge=1)]


class _MachineFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    device: str
    runtime: str
    threads: int = Field(ge=0)
    precision: str


class _LayerFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    channels_in_I: list[_Channels]
    channels_out_O: list[_Channels]
    ms_IO: list[list[_Milliseconds]]
    ragged: float = Field(gt=0, allow_inf_nan=False)


class TableFile(BaseModel):
    """A whole table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int
    machine: _MachineFile
    input_shape: list[_Channels]
    layers: dict[str, _LayerFile]
    rest_ms: _Milliseconds
    block: _Channels
    granule: _Channels


def validated(values: Mapping[str, Any]) -> TableFile:
    """Check a table as it was read.

    Raises:
        PruneError: a key is unknown, a value of the wrong kind or out of range, or the format another.
    """
    if values.get("format") != FORMAT:
        raise PruneError(
            f"The latency table has format {values.get('format')}; this prunekit reads format {FORMAT}. Measure again."
        )
    try:
        return TableFile.model_validate(values, strict=True)
    except ValidationError as error:
        raise PruneError(f"The latency table is damaged: {first_sentence(error, TableFile)}. Measure again.") from None


def as_lists(value: Any) -> Any:
    """Replace tuples by lists, as JSON does."""
    if isinstance(value, dict):
        return {key: as_lists(entry) for key, entry in value.items()}
    return [as_lists(entry) for entry in value] if isinstance(value, tuple) else value
