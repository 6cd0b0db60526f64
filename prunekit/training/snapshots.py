"""The weights of an early epoch, kept to rewind a pruned network to (Frankle et al. 2020, arXiv 1903.01611)."""

from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from prunekit.errors import RunError
from prunekit.modelfile import load_tensors_, plain_tensors
from prunekit.run import RunDirectory, replacing

REWIND: Final = "rewind.safetensors"


class _Snapshot(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    epoch: int = Field(ge=1)


def rewind_path(run: RunDirectory) -> Path:
    """Return where a run keeps the weights to rewind to."""
    return run.path / REWIND


def save_rewind(run: RunDirectory, network: nn.Module, epoch: int) -> None:
    """Keep the weights after `epoch` epochs; a kill at any instant leaves the old file or the new one."""
    with replacing(rewind_path(run)) as temporary:
        save_file(plain_tensors(network), temporary, metadata={"prunekit": _Snapshot(epoch=epoch).model_dump_json()})


def check_rewind(run: RunDirectory) -> None:
    """Raise where a run kept no weights to rewind to.

    Raises:
        RunError: it kept none.
    """
    if not rewind_path(run).is_file():
        raise RunError(
            f"{run.path} kept no weights to rewind to. Train it with --set train.rewind_epoch=N, N the epoch to keep."
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
    epoch, tensors = _read(path)
    load_tensors_(network, tensors, path)
    return epoch


def _read(path: Path) -> tuple[int, dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            snapshot = _Snapshot.model_validate_json((file.metadata() or {}).get("prunekit", ""))
            return snapshot.epoch, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
    except (SafetensorError, ValidationError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(f"{path} is damaged: {reason}. Copy it again, or train the run anew.") from None
