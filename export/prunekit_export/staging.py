"""Files of an export take their final name when all of them are proved.

Until then they lie in a hidden folder inside the export's own, locked by the process that writes. What a killed export
leaves there is never taken for one, and the next export into the same folder clears it.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunekit_export.errors import ExportError, ExportUsageError
from prunekit_runtime.spelling import spelled

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

UNPROVED = ".unproved"
TRTEXEC = "trtexec.txt"
_MODEL_SUFFIXES = (".json", ".plan", ".onnx")  # moved in this order: a model never lies there without its description


@dataclass(frozen=True)
class Stage:
    """The export's folder, and the hidden one in it that is written to."""

    out_dir: Path
    folder: Path

    def publish(self) -> None:
        """Give every file its final name, `model.onnx` last; a kill on the way leaves the hidden folder as the mark."""
        for path in sorted(self.folder.iterdir(), key=_publishing_order):
            path.replace(self.out_dir / path.name)


@contextmanager
def staged(out_dir: Path) -> Generator[Stage]:
    """Make `out_dir`, lock it, and yield its stage; what was not published is removed, and a folder without files too.

    Raises:
        ExportError: the folder holds something, is a file, or another export writes to it.
    """
    existed = out_dir.exists() and not _is_left_over(out_dir)
    handle = _locked(out_dir)
    stage = Stage(out_dir, out_dir / UNPROVED)
    try:
        _clear_(stage)
        yield stage
    finally:
        shutil.rmtree(stage.folder)
        if not existed and not any(out_dir.iterdir()):
            out_dir.rmdir()
        os.close(handle)


def free_folder(path: Path) -> Path:
    """Return `path`, or the first of path-2, path-3, ... that an export can be written to; makes nothing.

    Links are passed over: a run that somebody else made could have its export written anywhere.
    """
    names = itertools.chain([path], (path.with_name(f"{path.name}-{number}") for number in itertools.count(2)))
    own = (folder for folder in names if not folder.is_symlink())
    return next(folder for folder in own if not folder.exists() or _is_empty(folder) or _is_left_over(folder))


def refuse_unproved(model: Path) -> None:
    """Refuse a model file of an export that is not finished.

    Raises:
        ExportError: it lies in a hidden folder of an export, or beside one.
    """
    if UNPROVED in model.absolute().parts or (model.parent / UNPROVED).exists():
        folder = str(model.absolute().parent).partition(f"/{UNPROVED}")[0]
        raise ExportUsageError(
            f"{model} belongs to an export that is not finished: nothing says that it computes what the network does. "
            f"Wait for it, or export again: prunekit export --out {folder}"
        )


def _publishing_order(path: Path) -> tuple[bool, int, str]:
    suffix = path.suffix if path.suffix in _MODEL_SUFFIXES else _MODEL_SUFFIXES[0]
    return path.name == "model.onnx", _MODEL_SUFFIXES.index(suffix), path.name


def _locked(out_dir: Path) -> int:
    """Return the handle that holds the lock of the hidden folder, which is made."""
    _refuse_content(out_dir)
    (out_dir / UNPROVED).mkdir(parents=True, exist_ok=True)
    handle = _try_lock(out_dir / UNPROVED)
    if handle is None:
        raise ExportUsageError(
            f"Another export writes to {out_dir}. Wait for it, or name another folder: "
            f"{spelled('--out DIR', 'out_dir=')}"
        )
    try:
        _refuse_content(out_dir)
    except ExportError:
        os.close(handle)
        raise
    return handle


def _try_lock(folder: Path) -> int | None:
    """Return a handle with the lock of `folder`; None where another process holds it or has just removed it."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(handle), folder.stat()):
            return handle
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(handle)
    return None


def _refuse_content(out_dir: Path) -> None:
    if out_dir.exists() and not (_is_empty(out_dir) or _holds_stage(out_dir)):
        raise ExportUsageError(
            f"{out_dir} is not empty, and nothing is ever overwritten. "
            f"Name a new folder: {spelled('--out DIR', 'out_dir=')}"
        )


def _clear_(stage: Stage) -> None:
    """Remove what a killed export left: what is in the hidden folder, and what it had begun to publish."""
    for path in stage.folder.iterdir():
        path.unlink()
    for path in stage.out_dir.iterdir():
        if path.is_file() and (path.suffix in _MODEL_SUFFIXES or path.name == TRTEXEC):
            path.unlink()


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _holds_stage(folder: Path) -> bool:
    hidden = folder / UNPROVED
    return hidden.is_dir() and not hidden.is_symlink()


def _is_left_over(folder: Path) -> bool:
    """Say whether a killed export left `folder`, so that it can be used again."""
    if not _holds_stage(folder):
        return False
    handle = _try_lock(folder / UNPROVED)
    if handle is None:
        return False
    os.close(handle)
    return True
