"""Write files whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Generator
from pathlib import Path

TEMPORARY = ".writing-"


@contextlib.contextmanager
def replacing(path: Path) -> Generator[Path, None, None]:
    """Yield a temporary path beside `path`, with its suffix; it takes the name when the block ends well.

    The temporary name is short, so that a name as long as the file system allows can be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=TEMPORARY, suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        error.filename, error.filename2 = str(path), None  # the file that was asked for, not its first name
        raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a kill, sees the old content or the new, never a part."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)
