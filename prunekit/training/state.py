"""The checkpoint: one safetensors file that holds all a resumed training needs, written whole at the end of an epoch.

Tensors are named "network/...", "optimiser/..." and "selector/..."; small numbers lie as JSON in the file's metadata.
Random numbers are not in it: they are functions of the seed and the place in the run.
"""

import hashlib
import json
from typing import Any, Final, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn, optim

from prunekit.data_paths import PATHS
from prunekit.errors import RunError
from prunekit.modelfile import load_tensors_, plain_tensors
from prunekit.recipe import Recipe
from prunekit.run import RunDirectory
from prunekit.tensorfile import first_line, read_tensors, size_bytes, write_tensors
from prunekit.training.optimisers import load_optimiser_tensors, optimiser_tensors
from prunekit.training.selection import Selector

_REMEDY: Final = "Delete it to train this run from the start."
# Settings that change how fast or where a run goes, not where it ends.
FREE_SETTINGS: Final = ("device", "threads", "workers", "cache", "eval_every", "checkpoint_every")
# A data set may move, and knowing what its labels are like changes nothing about them.
FREE_DATA_SETTINGS: Final = (
    *PATHS, *(f"{name}_from_run" for name in PATHS), "allow_absent_classes", "allow_mostly_ignored",
)  # fmt: skip


class Counts(BaseModel):
    """How far a training has come, and what it cost so far."""

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    recipe: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Hash of the settings that decide the weights."""
    extras: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    """Hash of the teacher and the regulariser; empty where there is neither."""
    epochs_done: int = Field(default=0, ge=0)
    images_seen: int = Field(default=0, ge=0)
    images_kept: int = Field(default=0, ge=0)
    train_wall_s: float = Field(default=0.0, ge=0)
    """Wall time of the training steps of all epochs, selection and data included, evaluation not."""
    scaler: dict[str, Any] = {}
    """State of the gradient scaler (fp16)."""

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
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def save_state(
    run: RunDirectory, network: nn.Module, optimiser: optim.Optimizer, selector: Selector, counts: Counts
) -> None:
    """Replace `state.safetensors`; a kill at any instant leaves the old file or the new one."""
    tensors = {f"network/{name}": value for name, value in plain_tensors(network).items()}
    tensors |= {f"optimiser/{name}": _plain(value) for name, value in optimiser_tensors(network, optimiser).items()}
    tensors |= {f"selector/{name}": _plain(value) for name, value in selector.state().items()}
    write_tensors(run.state_path, tensors, {"prunekit": counts.model_dump_json()})


def load_state(
    run: RunDirectory, network: nn.Module, optimiser: optim.Optimizer, selector: Selector, expected: Counts
) -> Counts:
    """Put a checkpoint back into a network that was built the same way, its optimiser and its selector.

    Raises:
        RunError: the file is damaged, or belongs to other settings, extras or another network.
    """
    # Both optimisers keep at most two moments of each parameter, and a step.
    expected_bytes = 4 * size_bytes(network.state_dict().values()) + size_bytes(selector.state().values())
    counts, tensors = _read(run, expected_bytes)
    if counts.recipe != expected.recipe:
        raise RunError(
            f"{run.state_path} was written under other settings than this recipe's. "
            "Resume with the run's own recipe.toml, or train in a new run."
        )
    if counts.extras != expected.extras:
        raise RunError(
            f"{run.state_path} was written with another teacher or regulariser. Resume with those of the run, "
            "or train in a new run."
        )
    load_tensors_(network, _part(tensors, "network/"), run.state_path)
    try:
        load_optimiser_tensors(network, optimiser, _part(tensors, "optimiser/"))
        selector.load_state(_part(tensors, "selector/"))
    except (KeyError, RuntimeError) as error:
        raise RunError(f"{run.state_path} does not fit this training: {error}. Train in a new run.") from error
    return counts


def _read(run: RunDirectory, expected_bytes: int) -> tuple[Counts, dict[str, Tensor]]:
    tensors, metadata = read_tensors(run.state_path, _REMEDY, expected_bytes=expected_bytes)
    try:
        return Counts.model_validate_json(metadata.get("prunekit", "")), tensors
    except ValidationError as error:
        raise RunError(f"{run.state_path} is damaged: {first_line(error)}. {_REMEDY}") from None


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _plain(value: Tensor) -> Tensor:
    return value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
