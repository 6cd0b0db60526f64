"""A pruning plan as JSON: what its file may hold."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, ValidationError

from prunekit.errors import PruneError
from prunekit.validation import first_sentence

FORMAT = 1


class SliceFile(BaseModel):
    """One slice."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    parameter: str
    dim: NonNegativeInt
    width: PositiveInt
    keep: tuple[NonNegativeInt, ...]


class PlanFile(BaseModel):
    """A whole plan."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int
    slices: tuple[SliceFile, ...]
    groups: dict[str, PositiveInt]


def validated(values: Mapping[str, Any]) -> PlanFile:
    """Check a plan as it was read.

    Raises:
        PruneError: a key is unknown, a value of the wrong kind, positions are not sorted and inside the width, or a
            dimension is cut twice.
    """
    try:
        file = PlanFile.model_validate(values)
    except ValidationError as error:
        raise PruneError(f"The pruning plan is damaged: {first_sentence(error, PlanFile)}. Prune again.") from None
    if file.format != FORMAT:
        raise PruneError(f"The pruning plan has format {file.format}; this prunekit reads format {FORMAT}.")
    for row in file.slices:
        _check(row)
    if len({(row.parameter, row.dim) for row in file.slices}) != len(file.slices):
        raise PruneError("The pruning plan cuts one dimension of a parameter twice. Prune again.")
    return file


def _check(row: SliceFile) -> None:
    ordered = all(low < high for low, high in zip(row.keep, row.keep[1:], strict=False))
    if not row.keep or not ordered or row.keep[-1] >= row.width:
        raise PruneError(
            f"The pruning plan keeps positions of {row.parameter} dimension {row.dim} that are not a sorted, "
            f"non-empty part of 0..{row.width - 1}. Prune again."
        )
