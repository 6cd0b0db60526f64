"""`built/` of a bundle: one engine, key and layer report for each model, written whole, by one process at a time."""

import contextlib
import fcntl
import os
import re
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from prunekit_runtime.errors import BuildError
from prunekit_runtime.pictures.writing import TEMPORARY

LOCK = ".lock"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MAX_CACHE_BYTES = 1 << 28


@dataclass(frozen=True)
class BuiltFolder:
    """Where each file lies."""

    path: Path

    def plan(self, entry: str) -> Path:
        """The engine."""
        return self._named(entry, ".plan")

    def record(self, entry: str, backend: str) -> Path:
        """Its key, and how it was made."""
        return self._named(entry, f".{backend}.json")

    def layers(self, entry: str) -> Path:
        """What it computes in, layer by layer."""
        return self._named(entry, ".layers.json")

    def timings(self, mark: str) -> Path:
        """Timing cache of the machine with this mark."""
        return self.path / f"timing-{mark[:16]}.cache"

    @contextlib.contextmanager
    def locked(self) -> Generator[None, None, None]:
        """Make the folder, keep other builds out, and clear what a killed one left behind.

        Raises:
            BuildError: another build runs, or a link has a name that is written to.
        """
        if self.path.is_symlink():
            raise BuildError(f"{self.path} is a link, so files would be written elsewhere. Remove the link.")
        self.path.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BuildError(f"Another build is writing to {self.path}. Wait for it.") from None
            for leftover in self.path.glob(f"{TEMPORARY}*"):
                leftover.unlink(missing_ok=True)
            yield
        finally:
            os.close(handle)

    def _named(self, entry: str, suffix: str) -> Path:
        if not _NAME.fullmatch(entry):
            raise BuildError(f"The model's name {entry!r} is no name for a file. Write the bundle again.")
        return self.path / f"{entry}{suffix}"
