"""Files that take their name when they are whole, and JSON of bounded size."""

import contextlib
import json
import os
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

from prunekit.errors import RunError
from prunekit_runtime.jsonfile import parse_json, read_bounded

MAX_JSON_BYTES = 1 << 25
TEMPORARY = ".writing-"
"""Begins the names of files that are not whole yet; a kill leaves them."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a kill, sees the old content or the new, never a part."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextlib.contextmanager
def replacing(path: Path) -> Generator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed to disk and takes the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f"{TEMPORARY}{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        error.filename, error.filename2 = str(path), None  # the file that was asked for, not its first name
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, values: Any) -> None:
    """Write plain values as readable JSON, atomically."""
    write_atomically(path, (json.dumps(values, indent=1) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of bounded size.

    Raises:
        RunError: the file is missing, over 32 MiB, or holds no JSON object.
    """
    if not path.is_file():
        raise RunError(f"{path} does not exist. Repeat the step that writes it.")
    try:
        values = parse_json(read_bounded(path, MAX_JSON_BYTES))
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}. Repeat the step that writes it.") from None
    if not isinstance(values, dict):
        raise RunError(f"{path} holds no JSON object. Repeat the step that writes it.")
    return values
