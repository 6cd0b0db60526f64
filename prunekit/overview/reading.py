"""One run, as its small files describe it. Whatever they hold, reading them is bounded and ends in a description."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG
from typing import Any, Final, Literal

from prunekit.errors import PrunekitError
from prunekit.locking import holder_of
from prunekit.overview.header import epochs_done, parameters, read_header
from prunekit.recipe import Recipe
from prunekit.run import IMPORT, LOCK, PRUNE, RunDirectory, read_json, resume_command

Kind = Literal["train", "import", "prune", "demo"]
State = Literal["finished", "running", "interrupted", "damaged"]
MAX_FILES: Final = 20_000  # of a run that are counted for its size
_DEMO: Final = ("train", "prune")


@dataclass
class Overview:
    """A run; what its files do not say is None."""

    path: Path
    kind: Kind
    state: State = "interrupted"
    why: str = ""
    """What is wrong with one that is damaged."""
    model: str | None = None
    data: str | None = None
    miou: float | None = None
    macs: int | None = None
    """Of one image; known of what was pruned."""
    params: int | None = None
    parent: str | None = None
    """The run that was pruned, or the file of weights that it began with."""
    epochs_done: int | None = None
    """Of the training, or of the fine-tuning after the stage at hand, that a checkpoint holds."""
    epochs: int | None = None
    stages_done: int | None = None
    stages: int | None = None
    loss: float | None = None
    """Of the last epoch."""
    process: int | None = None
    """Which writes to it now; 0 where its number is not known."""
    size_bytes: int = 0
    written_s: float = 0.0
    """When a file was last written, in seconds since 1970."""
    go_on: str | None = None
    """The command that goes on with it."""
    parts: list["Overview"] = field(default_factory=list["Overview"])
    """Runs inside, of a demo."""


def kind_of(path: Path) -> Kind | None:
    """Return what wrote a folder; None for one that is no run."""
    if (path / PRUNE).exists():
        return "prune"
    if (path / IMPORT).exists():
        return "import"
    if (path / "recipe.toml").exists():
        return "train"
    return "demo" if any((path / part / "recipe.toml").exists() for part in _DEMO) else None


def overview(path: Path) -> Overview | None:
    """Describe a run; None where the folder is none.

    Files of anyone are read within bounds, and what is wrong with them is part of the description.
    """
    kind = kind_of(path)
    if kind is None:
        return None
    found = Overview(path, kind)
    _measure(found)
    if kind == "demo":
        _describe_demo(found)
        return found
    found.process = holder_of(path / LOCK)
    run, reasons = RunDirectory(path), list[str]()
    for describe in (_recipe, _prune, _import, _trained, _weights):
        try:
            describe(found, run)
        except (PrunekitError, OSError, ValueError) as error:
            reasons.append(str(error))
    _judge(found, run, reasons)
    return found


def _judge(found: Overview, run: RunDirectory, reasons: list[str]) -> None:
    whole = run.model_path.is_file() and run.weights_path.is_file()
    if found.process is not None:
        found.state = "running"
    elif reasons:
        found.state, found.why = "damaged", reasons[0]
    elif whole and (found.kind != "prune" or found.state == "finished"):
        found.state = "finished"
    elif found.kind == "import":
        found.state, found.why = "damaged", "its weights are missing. Import the network again."
    else:
        found.state, found.go_on = "interrupted", resume_command(run)
    if found.go_on is not None and (found.model or "").startswith("python:"):
        trusted = (found.model or "").startswith("python:prunekit.models.street:street_net")
        found.go_on += "" if trusted else " --trust-code"


def _recipe(found: Overview, run: RunDirectory) -> None:
    if not run.recipe_path.exists():
        return
    recipe = run.recipe()
    found.model, found.data, found.epochs = recipe.model.name, _data(recipe), recipe.train.epochs
    found.parent = Path(recipe.model.weights).name or None


def _data(recipe: Recipe) -> str:
    return f"{recipe.data.name} {Path(recipe.data.root).name}".strip()


def _prune(found: Overview, run: RunDirectory) -> None:
    if found.kind != "prune":
        return
    values = read_json(run.path / PRUNE)
    stages, planned = _list(values.get("stages")), _list(values.get("planned"))
    found.stages, found.stages_done = len(planned), sum(stage.get("tuned") is True for stage in stages)
    found.macs, found.params = _count(values.get("macs_after")), _count(values.get("params_after"))
    found.miou = _share(values.get("miou_after")) or _share(values.get("miou_pruned"))
    source = values.get("source")
    found.parent = Path(source[:4096]).name if isinstance(source, str) else None
    if values.get("finished") is True:
        found.state = "finished"
    elif stages and found.stages_done < len(stages):
        _progress(found, _stage_run(run, len(stages), len(planned)))
    else:
        found.epochs = None


def _stage_run(run: RunDirectory, number: int, planned: int) -> RunDirectory:
    return run if number >= planned else RunDirectory(run.path / f"stage-{number:02d}")


def _import(found: Overview, run: RunDirectory) -> None:
    if found.kind != "import":
        return
    values, found.epochs = read_json(run.path / IMPORT), None
    scores = values.get("scores")
    found.miou = _share(scores.get("miou")) if isinstance(scores, dict) else None


def _trained(found: Overview, run: RunDirectory) -> None:
    if found.kind == "train":
        _progress(found, run)


def _progress(found: Overview, run: RunDirectory) -> None:
    """Read what a training, or a stage's fine-tuning, has done so far."""
    if run.recipe_path.exists():
        found.epochs = run.recipe().train.epochs
    rows = run.metrics()
    if rows:
        found.loss = _number(rows[-1].get("loss"))
    scored = [row for row in rows if row.get("miou") is not None]
    if scored and found.kind == "train":
        found.miou = _share(scored[-1].get("miou"))
    found.epochs_done = 0
    if run.state_path.exists():
        try:
            found.epochs_done = epochs_done(read_header(run.state_path))
        except ValueError as error:
            raise ValueError(f"{run.state_path} is damaged: {error}. Delete it to train this run again.") from None


def _weights(found: Overview, run: RunDirectory) -> None:
    if not run.model_path.exists():
        return
    card = read_json(run.model_path)
    factory = card.get("factory")
    if found.model is None and isinstance(factory, str):
        found.model = factory[:4096]
    try:
        header = read_header(run.weights_path)
    except ValueError as error:
        raise ValueError(f"{run.weights_path} is damaged: {error}. Repeat the step that wrote it.") from None
    if found.params is None:
        found.params = parameters(header)


def _describe_demo(found: Overview) -> None:
    found.parts = [part for name in _DEMO if (part := overview(found.path / name)) is not None]
    found.process = holder_of(found.path / LOCK)
    last = found.parts[-1]
    found.state, found.why = last.state, last.why
    if found.process is not None:
        found.state = "running"
    elif last.kind != "prune":
        found.state = "interrupted"
    found.model, found.data, found.miou, found.macs, found.params = (
        last.model, last.data, last.miou, last.macs, last.params,
    )  # fmt: skip


def _measure(found: Overview) -> None:
    """Sum up the sizes of a run's files, and find when one was last written; links are not followed."""
    for number, entry in enumerate(_files(found.path)):
        if number == MAX_FILES:
            return
        with suppress(OSError):
            status = entry.lstat()
            if S_ISREG(status.st_mode):
                found.size_bytes += status.st_size
                found.written_s = max(found.written_s, status.st_mtime)


def _files(folder: Path) -> Iterator[Path]:
    for root, _, names in os.walk(folder):
        for name in names:
            yield Path(root, name)


def _list(value: Any) -> list[Mapping[str, Any]]:
    rows = value if isinstance(value, list) else []
    return [row if isinstance(row, dict) else {} for row in rows]


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _share(value: Any) -> float | None:
    number = _number(value)
    return number if number is not None and 0 <= number <= 1 else None
