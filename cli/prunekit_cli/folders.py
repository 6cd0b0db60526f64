"""Which run directory a command reads, and which it writes."""

import itertools
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from prunekit_cli import output
from prunekit_cli.options import OptionError
from prunekit_runtime.errors import PrunekitError

if TYPE_CHECKING:
    from prunekit.run import RunDirectory


def source_run(run: Path | None, *, kinds: tuple[str, ...] = ()) -> "RunDirectory":
    """Open the named run, or the newest finished one of `kinds`, and say which that is."""
    from prunekit.run import newest_run, open_run

    if run is not None:
        return open_run(run)
    newest = newest_run(kinds=kinds)
    output.say(f"Taking the newest run, {newest.path}; name another one to change that.")
    return newest


@contextmanager
def target_run(out: Path | None, kind: str) -> Generator["RunDirectory"]:
    """Make the next run under runs/, or the folder `out`; a block that fails before writing leaves no folder behind.

    Raises:
        OptionError: `out` exists and holds something.
    """
    from prunekit.run import RunDirectory, new_run

    run = new_run(kind) if out is None else RunDirectory(empty_folder(out))
    with kept_if_written(run.path):
        yield run


@contextmanager
def kept_if_written(folder: Path) -> Generator[None]:
    """Remove `folder` again if the block fails before any work is in it.

    A recipe alone is no work where the request was wrong; after Ctrl-C it is what a resumed run goes on from.
    """
    try:
        yield
    except BaseException as error:
        written = {entry.name for entry in folder.iterdir()}
        if written == {"recipe.toml"} and isinstance(error, PrunekitError):
            (folder / "recipe.toml").unlink()
            written.clear()
        if not written:
            folder.rmdir()
        raise


def next_folder(path: Path) -> Path:
    """Make `path`, or the first of path-2, path-3, ... that is not there yet."""
    for number in itertools.count(1):
        folder = path if number == 1 else path.with_name(f"{path.name}-{number}")
        with suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise AssertionError("itertools.count ended")


def empty_folder(path: Path) -> Path:
    """Make the folder `path`.

    Raises:
        OptionError: it exists and holds something, or is a file.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise OptionError(f"--out {path} is not empty. Name a new folder; nothing is ever overwritten.")
    path.mkdir(parents=True, exist_ok=True)
    return path


def recipe_near(model: Path) -> Path | None:
    """Return the recipe.toml of the run that a model lies in, however deep exports are put; None outside a run."""
    candidates = (folder / "recipe.toml" for folder in (model, model.parent, model.parent.parent))
    return next((path for path in candidates if path.is_file()), None)
