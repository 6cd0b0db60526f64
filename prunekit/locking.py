"""A lock file: gone when nobody holds it, released by a kill, and never a way to a file elsewhere."""

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Generator
from pathlib import Path
from typing import Final

from prunekit.errors import RunError

# A process that was killed leaves its data-loading processes, which share its lock; torch's look every 5 s whether it
# still lives.
_ORPHANS_S: Final = 12.0
_POLL_S: Final = 0.1


class HeldError(Exception):
    """Another process, or another part of this one, holds the lock."""


@contextlib.contextmanager
def holding(path: Path) -> Generator[None]:
    """Hold `path` as a lock for the length of the block.

    Raises:
        HeldError: it is held already.
        RunError: `path` is a link or no plain file, so that writing to it could reach another one.
    """
    lock = _locked(path)
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held: whoever waits sees that it is gone, and makes a new one
        os.close(lock)


def holder_of(path: Path) -> int | None:
    """Return the process that holds `path` as its lock, 0 where its number is not known; None where nobody does."""
    try:
        lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        holder = _holder(lock) if stat.S_ISREG(os.fstat(lock).st_mode) else None
        return (holder or 0) if _lives(holder) and _is_held(lock) else None
    finally:
        os.close(lock)


def _is_held(lock: int) -> bool:
    """Tell whether somebody holds a lock; asked last, since whoever begins at this instant would find it taken."""
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


def _locked(path: Path) -> int:
    """Return the locked descriptor of the file that `path` names at that moment."""
    while True:
        lock = _opened(path)
        try:
            _wait_for_orphans(lock)
            if _still_names(path, lock):
                return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)  # its holder removed it between our opening and our locking


def _opened(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    if path.is_symlink():
        raise _not_plain(path)
    lock = os.open(path, flags, 0o644)
    found = os.fstat(lock)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(lock)
        raise _not_plain(path)
    return lock


def _not_plain(path: Path) -> RunError:
    return RunError(f"{path} is a link or no plain file, and could lead to a file elsewhere. Remove it.")


def _wait_for_orphans(lock: int) -> None:
    """Take the lock; wait for it only where the process that took it is dead.

    Raises:
        HeldError: its holder lives.
    """
    given_up_s = time.monotonic() + _ORPHANS_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if _lives(_holder(lock)) or time.monotonic() > given_up_s:
                raise HeldError from None
            time.sleep(_POLL_S)
        else:
            return


def _holder(lock: int) -> int | None:
    """Return the process that the file names; None if it names none, which it does at the instant of locking."""
    text = os.pread(lock, 16, 0)
    return int(text) if text.isdigit() and int(text) else None


def _lives(process: int | None) -> bool:
    if process is None:
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True  # somebody else's
    return True


def _still_names(path: Path, lock: int) -> bool:
    try:
        named = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    held = os.fstat(lock)
    return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)
