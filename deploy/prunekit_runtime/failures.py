"""What fails outside of our code and is no bug, in a sentence: the system refuses a file, or there is no memory."""

import errno
import os

from prunekit_runtime.errors import UsageError

FAILED = 1
"""Exit code of a command that was right, and something failed: damaged data, no memory, a full disk, a proof."""
WRONG_USE = 2
"""Exit code of a command that has to be changed: a value, a name, a path, options that do not go together."""

_SPACE = "Free some space, or write to another disk, and repeat: what was written before is intact."
_ACCESS = "Name another place, or ask for access to it."
_REMEDIES = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: _SPACE,
    errno.EACCES: _ACCESS,
    errno.EPERM: _ACCESS,
    errno.EROFS: "Name a place that can be written to.",
    errno.ENOENT: "Check the path.",
    errno.EISDIR: "Name a file.",
    errno.ENOTDIR: "Check the path: a part of it is a file.",
    errno.EEXIST: "Name another place.",
    errno.ELOOP: "Check the links in the path.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.EMFILE: "Raise the limit on open files: ulimit -n 4096.",
    errno.ENOMEM: "Close other programs.",
}
_WRONG_PATH = (errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG)
_WORKER = "DataLoader worker"  # torch's words for a process that loads data and was ended
_NO_MEMORY = ("can't allocate memory", "out of memory", "bad_alloc", "bad allocation")


def sentence_of(error: BaseException) -> str | None:
    """Return the sentence for a user: what, what the system said, what to do; None for an error of another kind."""
    if isinstance(error, OSError):
        return _of_system(error)
    if is_out_of_memory(error):
        return f"The memory of this machine does not suffice: {_last_line(error)}. Take smaller images or batches."
    if isinstance(error, RuntimeError) and _WORKER in str(error):
        return f"A process that loads data was ended: {_last_line(error)}. Lower train.workers, or free memory."
    return None


def exit_code_of(error: BaseException) -> int:
    """Return what a command ends with after an error that a sentence tells: 2 for wrong use, 1 for a failure."""
    wrong_path = isinstance(error, OSError) and error.errno in _WRONG_PATH
    return WRONG_USE if wrong_path or isinstance(error, UsageError) else FAILED


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an allocation failed: Python's and numpy's MemoryError, or what torch raises instead."""
    torch_said = isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _NO_MEMORY)
    return isinstance(error, MemoryError) or torch_said


def _last_line(error: BaseException) -> str:
    """Return what an error says; of one that came from another process, what it said there."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].rstrip(".")


def _of_system(error: OSError) -> str:
    reason = error.strerror or _last_line(error)
    remedy = _REMEDIES.get(error.errno or 0, "")
    if error.filename is None:
        return f"The system refuses: {reason}. {remedy}".rstrip()
    name = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else str(error.filename)
    return f"{name}: {reason}. {remedy}".rstrip()
