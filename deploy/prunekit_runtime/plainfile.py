"""Files of unknown origin: opened without following a link or waiting for a pipe, and hashed."""

import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import BinaryIO

_CHUNK = 1 << 20


def open_plain(path: Path) -> BinaryIO:
    """Open a file for reading, not following a link, and not waiting for one that is a pipe.

    Raises:
        OSError: it cannot be opened, is a link or no file.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return os.fdopen(handle, "rb")


def sha256_of(path: Path) -> tuple[str, int]:
    """Return the hash and the size of a file [bytes], not following a link.

    Raises:
        OSError: it cannot be read, or is a link.
    """
    digest, size = hashlib.sha256(), 0
    with open_plain(path) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size
