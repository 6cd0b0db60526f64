"""Run directories: numbered folders under runs/, each file written atomically."""

import contextlib
import itertools
import json
import re
import shlex
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from prunekit.data_paths import anchored, located, overriding
from prunekit.errors import ConfigError, PrunekitError, RunError, RunUsageError
from prunekit.locking import HeldError, holding
from prunekit.recipe import Recipe, dump_recipe, read_recipe
from prunekit.storing import MAX_JSON_BYTES, TEMPORARY
from prunekit.storing import read_json as read_json
from prunekit.storing import replacing as replacing
from prunekit.storing import write_atomically as write_atomically
from prunekit.storing import write_json as write_json
from prunekit.validation import first_sentence
from prunekit_runtime.jsonfile import parse_json, read_bounded
from prunekit_runtime.near import near_path

RUNS = Path("runs")
MOST_NAMED = 12
"""Runs that a message names."""
LOCK = ".lock"
PRUNE = "prune.json"
IMPORT = "import.json"
_NAMED = 4  # names of files that an error shows
_LOOKED_AT = 1000
_NUMBERED = re.compile(r"(\d{4,})-([a-z0-9][a-z0-9.-]*)")


@dataclass(frozen=True)
class RunDirectory:
    """One run: its folder and the names of what lies in it."""

    path: Path

    @property
    def recipe_path(self) -> Path:
        """`recipe.toml`: every setting."""
        return self.path / "recipe.toml"

    @property
    def weights_path(self) -> Path:
        """`model.safetensors`: the weights."""
        return self.path / "model.safetensors"

    @property
    def model_path(self) -> Path:
        """`model.json`: what the weights belong to."""
        return self.path / "model.json"

    @property
    def state_path(self) -> Path:
        """`state.safetensors`: what a resumed training needs."""
        return self.path / "state.safetensors"

    @property
    def metrics_path(self) -> Path:
        """`metrics.jsonl`: one JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def labels_path(self) -> Path:
        """`labels.json`: pixels by class of the training and validation split."""
        return self.path / "labels.json"

    def recipe(self, overrides: dict[str, Any] | None = None) -> Recipe:
        """Read the recipe back; data that moved along with the run is found again, and `overrides` win.

        Raises:
            RunError: the run's recipe is missing or damaged.
            ConfigError: `overrides` cannot be followed.
        """
        try:
            recipe = read_recipe(self.recipe_path, overriding(overrides or {}))
        except ConfigError as error:
            raise _whose(error, self.recipe_path, overrides) from None
        return located(recipe, self.path)

    def write_recipe(self, recipe: Recipe) -> None:
        """Write `recipe.toml`, paths of data absolute and as seen from here."""
        write_atomically(self.recipe_path, dump_recipe(anchored(recipe, self.path)).encode())

    def write_metrics(self, rows: list[dict[str, Any]]) -> None:
        """Replace `metrics.jsonl` by `rows`."""
        write_atomically(self.metrics_path, "".join(json.dumps(row) + "\n" for row in rows).encode())

    def metrics(self) -> list[dict[str, Any]]:
        """Read `metrics.jsonl`; an absent file is an empty list.

        Raises:
            RunError: a row is damaged, or one is missing.
        """
        path = self.metrics_path
        if not path.exists():
            return []
        try:
            lines = read_bounded(path, MAX_JSON_BYTES).decode("utf-8").split("\n")
            rows = [_checked_row(parse_json(line)) for line in lines if line.strip()]
        except ValueError as error:
            raise RunError(f"{path} is damaged: {error}. Correct the line, or delete the run.") from None
        if [row["epoch"] for row in rows] != list(range(1, len(rows) + 1)):
            raise RunError(f"{path} is damaged: its rows are not the epochs 1, 2, 3, ... Repair it, or delete the run.")
        return rows

    def part(self, name: str) -> "RunDirectory":
        """Return a run that lies in this one, such as `stage-01/`.

        Raises:
            RunError: a link has that name, and what is written there would land elsewhere.
        """
        path = self.path / name
        if path.is_symlink():
            raise RunError(f"{path} is a link, so files would be written elsewhere. Remove the link.")
        return RunDirectory(path)

    @contextlib.contextmanager
    def locked(self, *, held: bool = False) -> Generator[None]:
        """Keep other processes from writing to this run; a kill releases the lock. Clears what a kill left behind.

        The folder is made if it is not there, and taken away again if nothing was written to it.

        Args:
            held: the caller holds the lock already, so there is nothing to do.

        Raises:
            RunError: another process holds the run, or the lock's name is taken by a link.
        """
        if held:
            yield
            return
        made = not self.path.exists()
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            with holding(self.path / LOCK):
                self.clear_leftovers()
                yield
        except HeldError:
            raise _busy(self) from None
        finally:
            if made:
                with contextlib.suppress(OSError):  # somebody's work is in it
                    self.path.rmdir()

    def clear_leftovers(self) -> None:
        """Remove the unfinished files of a process that was killed."""
        for leftover in self.path.glob(f"{TEMPORARY}*"):
            if leftover.is_symlink() or not leftover.is_dir():
                leftover.unlink()

    def is_empty(self) -> bool:
        """Tell whether nothing is in the folder but what a process that was killed leaves behind."""
        return all(entry.name == LOCK or entry.name.startswith(TEMPORARY) for entry in self.path.iterdir())


def _whose(error: ConfigError, path: Path, overrides: dict[str, Any] | None) -> PrunekitError:
    """Return the error of overrides as it is, and one of a run's own recipe as that of a damaged run."""
    if overrides:
        with contextlib.suppress(ConfigError):
            read_recipe(path)
            return error
    return RunError(str(error))


def _busy(run: RunDirectory) -> RunError:
    return RunError(f"Another process is writing to {run.path}. Wait for it, or name another run.")


def new_run(kind: str, root: Path = RUNS) -> RunDirectory:
    """Create the next numbered folder, `runs/0003-prune`, safe against a second process doing the same."""
    root.mkdir(parents=True, exist_ok=True)
    number = max((number for number, _ in _numbered(root)), default=0) + 1
    while True:
        path = root / f"{number:04d}-{kind}"
        # Two kinds must not get one number, so the number itself is claimed first; a mkdir has one winner.
        claim = root / f".{number:04d}"
        with contextlib.suppress(FileExistsError):
            claim.mkdir()
            if not any(taken == number for taken, _ in _numbered(root)):
                claim.rename(path)
                return RunDirectory(path)
            claim.rmdir()
        number += 1


def open_run(path: Path) -> RunDirectory:
    """Open an existing run.

    Raises:
        RunUsageError: the folder does not exist or is no run.
    """
    if path.is_file():
        inside = path.parent if (path.parent / "recipe.toml").exists() else path.parent.parent
        run = f" Did you mean {inside}?" if (inside / "recipe.toml").exists() else ""
        raise RunUsageError(f"{path} is a file, and a run is a folder that prunekit train, import or prune wrote.{run}")
    if not path.is_dir():
        listed = RUNS / path  # `prunekit runs` lists names without their folder
        near = f" Did you mean {listed}?" if (listed / "recipe.toml").exists() else near_path(path)
        near = near or f" {_known(path.parent if path.parent != Path() else RUNS)}"
        raise RunUsageError(f"Run {path} does not exist.{near}")
    run = RunDirectory(path)
    if not run.recipe_path.exists():
        raise RunUsageError(
            f"{path} is not a run: {_contents(path)}, and no recipe.toml. {_looks_at(path) or _known(path.parent)}"
        )
    return run


def _looks_at(folder: Path) -> str | None:
    """Return the command for a data set's folder, for somebody who took it for a run."""
    if not any((folder / name).is_dir() for name in ("images", "train", "val")):
        return None
    return f"Is it a data set? Look at it with: prunekit data check --root {shlex.quote(str(folder))}"


def _contents(folder: Path) -> str:
    """Return what a folder holds, for somebody who took it for a run."""
    names = sorted(entry.name for entry in itertools.islice(folder.iterdir(), _LOOKED_AT))
    if not names:
        return "it is an empty folder"
    inside = next((name for name in names if (folder / name / "recipe.toml").exists()), None)
    rest = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    held = f"it holds {', '.join(names[:_NAMED])}{rest}"
    return held if inside is None else f"{held}, of which {inside} is one"


def resume_command(run: RunDirectory) -> str | None:
    """Return the command that goes on with a run that was interrupted; None where nothing was begun, or it cannot."""
    if (run.path / PRUNE).exists():
        return f"prunekit prune --resume {shlex.quote(str(run.path))}"
    if (run.path / IMPORT).exists() or not run.recipe_path.exists():
        return None
    return f"prunekit train --resume {shlex.quote(str(run.path))}"


def newest_run(root: Path = RUNS, *, kinds: tuple[str, ...] = ()) -> RunDirectory:
    """Return the run with the highest number that holds a model; `kinds` limits it to some steps.

    Raises:
        RunError: there is none.
    """
    for _, path in sorted(_numbered(root), reverse=True):
        run = RunDirectory(path)
        kind = path.name.split("-", 1)[1]
        if run.model_path.exists() and (not kinds or kind in kinds):
            return run
    kind = f"{' or '.join(kinds)} " if kinds else ""
    raise RunUsageError(f"No finished {kind}run under {root}/. {_begun(root)}")


def _begun(root: Path) -> str:
    """Return what to do where no run is finished: go on with the newest that was begun, or train."""
    for _, path in sorted(_numbered(root), reverse=True):
        run = RunDirectory(path)
        command = None if run.model_path.exists() else resume_command(run)
        if command is not None:
            return f"{path} was begun; go on with: {command}   How far it is: prunekit status {shlex.quote(str(path))}"
    return "Train one first: prunekit train; or name a run."


def _numbered(root: Path) -> list[tuple[int, Path]]:
    if not root.is_dir():
        return []
    matches = ((_NUMBERED.fullmatch(entry.name), entry) for entry in root.iterdir() if entry.is_dir())
    return [(int(match.group(1)), entry) for match, entry in matches if match]


def _known(root: Path) -> str:
    names = sorted(path.name for _, path in _numbered(root))
    shown = ", ".join(names[-MOST_NAMED:]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
    return f"Runs in {root}: {shown}." if names else "Train one first: prunekit train"


class _Row(BaseModel):
    """What is read back of a row of metrics; the rest is for people."""

    model_config = ConfigDict(strict=True)

    epoch: int
    loss: float
    miou: float | None = None
    pixel_accuracy: float | None = None
    iou: list[float | None] = []


def _checked_row(row: Any) -> dict[str, Any]:
    try:
        _Row.model_validate(row)
    except ValidationError as error:
        raise ValueError(f"a row's {first_sentence(error, _Row)}") from None
    return row
