"""The runs of a folder."""

from itertools import islice
from pathlib import Path
from typing import Final

from prunekit.errors import RunUsageError
from prunekit.overview.reading import Overview, overview
from prunekit.run import RUNS
from prunekit_runtime.near import near_path

MAX_RUNS: Final = 10_000  # entries of a folder that are looked at


def list_runs(folder: Path | None = None) -> list[Overview]:
    """Describe the runs in a folder, or the run that it is, by name.

    Args:
        folder: None is runs/, which need not be there.

    Raises:
        RunUsageError: the folder does not exist, or is a file.
        OSError: it cannot be read.
    """
    if folder is None and not RUNS.exists():
        return []
    folder = folder or RUNS
    if not folder.exists():
        raise RunUsageError(f"The folder {folder} does not exist.{near_path(folder)} Name one that holds runs.")
    if not folder.is_dir():
        raise RunUsageError(f"{folder} is a file. Name a folder that holds runs.")
    own = overview(folder)
    if own is not None:
        return [own]
    entries = sorted(islice(folder.iterdir(), MAX_RUNS))
    return [found for entry in entries if entry.is_dir() and (found := overview(entry)) is not None]
