"""The weights of an early epoch, kept to rewind a pruned network to (Frankle et al. 2020, arXiv 1903.01611)."""

from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from prunekit.errors import RunError, RunUsageError
from prunekit.modelfile import load_tensors_, plain_tensors
from prunekit.run import RunDirectory
from prunekit.tensorfile import read_tensors, size_bytes, write_tensors
from prunekit.validation import first_sentence

REWIND: Final = "rewind.safetensors"
_REMEDY: Final = "Copy it again, or train the run again."


class _Snapshot(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    epoch: int = Field(ge=1)


def rewind_path(run: RunDirectory) -> Path:
    """Return where a run keeps the weights to rewind to."""
    return run.path / REWIND


def save_rewind(run: RunDirectory, network: nn.Module, epoch: int) -> None:
    """Keep the weights after `epoch` epochs; a kill at any instant leaves the old file or the new one."""
    metadata = {"prunekit": _Snapshot(epoch=epoch).model_dump_json()}
    write_tensors(rewind_path(run), plain_tensors(network), metadata)


def check_rewind(run: RunDirectory) -> None:
    """Raise where a run kept no weights to rewind to.

    Raises:
        RunError: it kept none.
    """
    if not rewind_path(run).is_file():
        raise RunUsageError(
            f"{run.path} holds no weights to rewind to. Train it with --set train.rewind_epoch=N, N the epoch to keep."
        )


def load_rewind_(network: nn.Module, run: RunDirectory) -> int:
    """Put the weights that `run` kept into `network`, built as the run's network was before it was trained.

    Returns:
        the number of epochs they were trained for

    Raises:
        RunError: the run kept none, or the file is damaged or of another network.
    """
    check_rewind(run)
    path = rewind_path(run)
    tensors, metadata = read_tensors(path, _REMEDY, expected_bytes=size_bytes(network.state_dict().values()))
    try:
        snapshot = _Snapshot.model_validate_json(metadata.get("prunekit", ""))
    except ValidationError as error:
        raise RunError(f"{path} is damaged: {first_sentence(error, _Snapshot)}. {_REMEDY}") from None
    load_tensors_(network, tensors, path)
    return snapshot.epoch
