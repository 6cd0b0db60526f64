"""The checkpoint: one safetensors file that holds all a resumed training needs, written whole at the end of an epoch.

Tensors are named "network/...", "optimiser/..." and "selector/..."; small numbers lie as JSON in the file's metadata.
Random numbers are not in it: they are functions of the seed and the place in the run.
"""

import hashlib
import json
from typing import Annotated, Final, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor, nn, optim

from prunekit.data_paths import PATHS
from prunekit.errors import RunError, RunUsageError
from prunekit.modelfile import load_tensors_, plain_tensors
from prunekit.recipe import Recipe
from prunekit.run import RunDirectory
from prunekit.tensorfile import read_tensors, size_bytes, write_tensors
from prunekit.training.optimisers import load_optimiser_tensors, optimiser_tensors
from prunekit.training.selection import Remembering
from prunekit.validation import first_sentence

_REMEDY: Final = "Delete it to train this run from the start."
# Settings that change how fast or where a run goes, not where it ends.
FREE_SETTINGS: Final = ("device", "threads", "workers", "cache", "eval_every", "checkpoint_every")
# A data set may move, and knowing what its labels are like changes nothing about them.
FREE_DATA_SETTINGS: Final = (
    *PATHS, *(f"{name}_from_run" for name in PATHS), "allow_absent_classes", "allow_mostly_ignored",
)  # fmt: skip
# Where the weights came from that a run began with; a checkpoint holds what became of them.
FREE_MODEL_SETTINGS: Final = ("weights", "weights_part", "allow_missing", "allow_unexpected")
# Newer than the first checkpoints: left out where they say what was fixed before, so that older runs go on.
_LOSS_SETTINGS: Final = ("ohem_threshold", "ohem_min_share", "focal_gamma", "dice_weight", "lovasz_weight")
_LATER_SETTINGS: Final = {
    "data": ("channels", "pixel_scale", "mean", "std"),
    "train": ("budget", "qat", "class_weights", *_LOSS_SETTINGS),
    "selection": ("pool",),
}


_Count = Annotated[int, Field(ge=0, le=2**53)]  # float64 holds it exactly
_Number = Annotated[int | float, Field(ge=0, le=2**53)]
_SCALER: Final = frozenset({"scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker"})


class Counts(BaseModel):
    """How far a training has come, and what it cost so far."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    format: Literal[1] = 1
    recipe: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Hash of the settings that decide the weights."""
    extras: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    """Hash of the teacher and the regulariser; empty where there is neither."""
    epochs_done: _Count = 0
    images_seen: _Count = 0
    images_kept: _Count = 0
    train_wall_s: float = Field(default=0.0, ge=0)
    """Wall time of the training steps of all epochs, selection and data included, evaluation not."""
    tensors: _Count | None = None
    """Number of tensors in the file; None in files of earlier versions."""
    scaler: dict[str, _Number] = {}
    """State of torch's gradient scaler, under its own names (fp16)."""

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.images_kept > self.images_seen:
            raise ValueError(f"{self.images_kept} of {self.images_seen} images were kept")
        if self.scaler and self.scaler.keys() != _SCALER:
            raise ValueError(f"the gradient scaler has {sorted(self.scaler)}")
        if any(value <= 0 for name, value in self.scaler.items() if name != "_growth_tracker"):
            raise ValueError("the gradient scaler has a scale or factor of 0")
        return self

    @property
    def pruned_fraction(self) -> float:
        """Share of the images drawn so far that got no backward pass."""
        return 1 - self.images_kept / self.images_seen if self.images_seen else 0.0


def fingerprint(recipe: Recipe) -> str:
    """Return a hash of the settings that decide the weights; where and how fast the run goes is left out."""
    settings = recipe.model_dump()
    for name in FREE_SETTINGS:
        del settings["train"][name]
    for name in FREE_DATA_SETTINGS:
        del settings["data"][name]
    for name in FREE_MODEL_SETTINGS:
        del settings["model"][name]
    for section, names in _LATER_SETTINGS.items():
        fields = type(getattr(recipe, section)).model_fields
        for name in names:
            if settings[section][name] == fields[name].default:
                del settings[section][name]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def save_state(
    run: RunDirectory, network: nn.Module, optimiser: optim.Optimizer, selector: Remembering, counts: Counts
) -> None:
    """Replace `state.safetensors`; a kill at any instant leaves the old file or the new one."""
    tensors = {f"network/{name}": value for name, value in plain_tensors(network).items()}
    tensors |= {f"optimiser/{name}": _plain(value) for name, value in optimiser_tensors(network, optimiser).items()}
    tensors |= {f"selector/{name}": _plain(value) for name, value in selector.state().items()}
    counted = counts.model_copy(update={"tensors": len(tensors)})
    write_tensors(run.state_path, tensors, {"prunekit": counted.model_dump_json()})


def load_state(
    run: RunDirectory, network: nn.Module, optimiser: optim.Optimizer, selector: Remembering, expected: Counts
) -> Counts:
    """Put a checkpoint back into a network that was built the same way, its optimiser and its selector.

    Raises:
        RunError: the file is damaged, or belongs to other settings, extras or another network.
    """
    # Both optimisers keep at most two moments of each parameter, and a step.
    expected_bytes = 4 * size_bytes(network.state_dict().values()) + size_bytes(selector.state().values())
    counts, tensors = _read(run, expected_bytes)
    if counts.recipe != expected.recipe:
        raise RunUsageError(
            f"{run.state_path} was written under other settings than this recipe's. "
            "Resume with the run's own recipe.toml, or train in a new run."
        )
    if counts.extras != expected.extras:
        raise RunError(
            f"{run.state_path} was written with another teacher or regulariser. Resume with those of the run, "
            "or train in a new run."
        )
    if counts.tensors not in (None, len(tensors)):
        raise RunError(f"{run.state_path} is damaged: {len(tensors)} of {counts.tensors} tensors. {_REMEDY}")
    load_tensors_(network, _part(tensors, "network/"), run.state_path)
    try:
        load_optimiser_tensors(network, optimiser, _part(tensors, "optimiser/"))
        _check_alike(selector.state(), _part(tensors, "selector/"))
        selector.load_state(_part(tensors, "selector/"))
    except ValueError as error:
        raise RunError(f"{run.state_path} does not fit this training: {error}. Train in a new run.") from None
    return counts


def _read(run: RunDirectory, expected_bytes: int) -> tuple[Counts, dict[str, Tensor]]:
    tensors, metadata = read_tensors(run.state_path, _REMEDY, expected_bytes=expected_bytes)
    try:
        return Counts.model_validate_json(metadata.get("prunekit", "")), tensors
    except ValidationError as error:
        raise RunError(f"{run.state_path} is damaged: {first_sentence(error, Counts)}. {_REMEDY}") from None


def _check_alike(own: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    """Refuse what is not of the names, shapes and types that are written, or not finite."""
    for name in sorted(own.keys() | found.keys()):
        if name not in own or name not in found:
            raise ValueError(f"{name} of the selection is {'missing' if name in own else 'unknown'}")
        value, wanted = found[name], own[name]
        if value.shape != wanted.shape or value.dtype != wanted.dtype or not bool(value.isfinite().all()):
            raise ValueError(f"{name} of the selection is {value.dtype} {tuple(value.shape)}, or not finite")


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _plain(value: Tensor) -> Tensor:
    return value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
