"""Which run directory a command reads, and which it writes."""

from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from prunekit_cli.options.common import OptionError
from prunekit_cli.showing import output
from prunekit_runtime.near import near_path

if TYPE_CHECKING:
    from prunekit.run import RunDirectory


def source_run(run: Path | None, *, kinds: tuple[str, ...] = (), called: str = "run") -> "RunDirectory":
    """Open the named run, or the newest finished one of `kinds`, which are `called` so, and say which that is."""
    from prunekit.run import newest_run, open_run

    if run is not None:
        return open_run(run)
    newest = newest_run(kinds=kinds)
    output.say(f"Taking the newest {called}, {newest.path}; name another one to change that.")
    latest = newest_run()
    if latest.path != newest.path:
        output.say(f"{latest.path} is newer, but no {called}. To take that: name it.")
    return newest


@contextmanager
def target_run(out: Path | None, kind: str) -> Generator["RunDirectory"]:
    """Make the next run under runs/, or the folder `out`, and hold its lock; a block that writes nothing leaves none.

    The lock is there from the first instant, for otherwise two commands could take one empty folder for theirs.

    Raises:
        OptionError: `out` exists and holds something.
        RunError: another process is writing to it.
    """
    from prunekit.run import RunDirectory, new_run

    if out is not None:
        _refuse_full(out)
    made = out is None or not out.exists()
    run = new_run(kind) if out is None else RunDirectory(out)
    try:
        with run.locked():
            _refuse_full(run.path)
            yield run
    except BaseException:
        if made:
            with suppress(OSError):  # something was written, or it is gone already
                run.path.rmdir()
        raise


def _refuse_full(out: Path) -> None:
    from prunekit.run import RunDirectory

    if out.exists() and not (out.is_dir() and RunDirectory(out).is_empty()):
        raise OptionError(f"--out {out} is not empty. {_way_on(out)}; nothing is ever overwritten.")


def _way_on(out: Path) -> str:
    """Return what to do about a folder that is not empty: go on with a run that was interrupted in it, or another."""
    from prunekit.run import RunDirectory
    from prunekit.workflows.prune import is_pruning

    run = RunDirectory(out)
    if run.model_path.exists() or not (run.recipe_path.exists() or is_pruning(run)):
        return "Name a new folder"
    step = "prune" if is_pruning(run) else "train"
    return f"Go on with the run in it by: prunekit {step} --resume {out}\nOr name a new folder"


def recipe_near(model: Path) -> Path | None:
    """Return the recipe.toml of the run that a model lies in, however deep exports are put; None outside a run."""
    candidates = (folder / "recipe.toml" for folder in (model, model.parent, model.parent.parent))
    return next((path for path in candidates if path.is_file()), None)


def check_model(path: Path) -> None:
    """Refuse a model that is not there, or a run that is not finished, before anything is said or loaded.

    Raises:
        OptionError: there is no file or folder of that name.
        RunError: the folder is no run, or holds no finished model.
    """
    from prunekit.run import open_run

    if not path.exists():
        raise OptionError(f"{path} does not exist.{near_path(path)} Name a run, an ONNX file or an engine.")
    if path.is_dir() and not (path / "model.json").exists():
        from prunekit.modelfile import read_card

        read_card(open_run(path))  # which says how to go on with it
