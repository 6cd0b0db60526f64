"""`prunekit bundle` without the command line: a run in, one folder out that a device opens, builds and checks."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from prunekit.progress import told
from prunekit_export.bundling import golden
from prunekit_export.bundling.assembling import (
    MANIFEST,
    build_host,
    copy_runtime,
    model_entry,
    notice,
    seal,
    usual_profile,
    write_json,
)
from prunekit_export.errors import ExportUsageError
from prunekit_export.workflow import ExportConfig, Precision, export_model
from prunekit_runtime.bundle import open_bundle
from prunekit_runtime.spelling import spelled

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from prunekit.data.dataset import SegmentationDataset
    from prunekit.modelfile import LoadedModel
    from prunekit.progress import Progress
    from prunekit.run import RunDirectory
    from prunekit_export.bundling.golden import GoldenPicture
    from prunekit_export.request import PictureSize
    from prunekit_runtime.bundle import GoldenEntry, ModelEntry
    from prunekit_runtime.preprocessing import Preprocessing

Graph = Literal["labels", "logits"]
MIN_GOLDEN, MAX_GOLDEN = 4, 64
_WRITING = ".writing-"
_FILES = {"fp32": "model", "fp16": "model.fp16", "int8": "model.int8"}


@dataclass(frozen=True, kw_only=True)
class BundleConfig:
    """What goes into a bundle."""

    precisions: tuple[Precision, ...] = ("fp32", "fp16")
    """One model each."""
    graph: Graph = "labels"
    """From pictures to labels with all inside, or from prepared images to logits."""
    picture_size: PictureSize = None
    """Of the pictures that a graph to labels takes; None is the golden pictures' if they share one, else any."""
    fold: Literal["exact", "static", "none"] = "exact"
    golden: int = MIN_GOLDEN
    """Validation images to check a device with; where the data has fewer, all of them."""
    overwrite: bool = False
    """Replace a bundle that is there."""

    def __post_init__(self) -> None:
        if not self.precisions or len(set(self.precisions)) != len(self.precisions):
            raise ExportUsageError(f"A bundle holds a model for each precision, each once; got {self.precisions}.")
        unknown = next((name for name in self.precisions if name not in _FILES), None)
        if unknown is not None:
            raise ExportUsageError(
                f"{spelled('--precision', 'precisions')} takes {', '.join(_FILES)}; got {unknown!r}."
            )
        if self.graph not in ("labels", "logits"):
            raise ExportUsageError(f"{spelled('--graph', 'graph')} takes labels, logits; got {self.graph!r}.")
        if not MIN_GOLDEN <= self.golden <= MAX_GOLDEN:
            raise ExportUsageError(
                f"{spelled('--golden', 'golden')} takes {MIN_GOLDEN} to {MAX_GOLDEN} pictures; got {self.golden}."
            )


@dataclass(frozen=True)
class BundleSummary:
    """What was written."""

    path: Path
    models: tuple[ModelEntry, ...]
    golden: int
    classes_shown: int
    """By the true labels of the golden pictures."""
    files: int
    size_bytes: int


def write_bundle(
    source: RunDirectory,
    out_dir: Path,
    config: BundleConfig,
    *,
    root: str | None = None,
    trust_code: bool = False,
    on_stage: Callable[[str], None] | None = None,
    on_progress: Progress | None = None,
) -> BundleSummary:
    """Export a run and gather all that a device needs; the folder takes its name when it is whole.

    Args:
        source: a finished run with its data at hand.
        out_dir: the bundle.
        config: what goes into it.
        root: folder of the data set, where it is no longer where the run says.
        trust_code: run the python: factory of a run that others made.
        on_stage: told what is being done.
        on_progress: told how far each step is that has parts.

    Raises:
        PrunekitError: the run cannot be exported, has no validation images here, or the folder is taken.
    """
    tell = on_stage or (lambda _: None)
    _refuse_taken(out_dir, overwrite=config.overwrite)
    with told(on_progress), _writing(out_dir) as folder:
        tell("loading the run and its validation images")
        loaded, dataset = _opened(source, root, trust_code)
        job = _Job(source, config, folder, loaded.contract, root, trust_code, tell)
        pictures = job.pictures(loaded, dataset)
        models = job.models(pictures)
        entries = job.golden(pictures, loaded.card.palette)
        job.describe(loaded, pictures, source.recipe().data.name)
        manifest = seal(folder, source.path.resolve().name, _lineage(source.path), models, entries)
        tell("opening the bundle as a device does")
        open_bundle(folder)
        _publish(folder, out_dir)
    shown = {int(label) for picture in pictures for label in set(picture.truth_HW.flat)} - {golden.IGNORED}
    size_bytes = sum(entry.size_bytes for entry in manifest.files.values())
    return BundleSummary(out_dir, tuple(models), len(entries), len(shown), len(manifest.files) + 1, size_bytes)


@dataclass(frozen=True)
class _Job:
    """What the steps share."""

    source: RunDirectory
    config: BundleConfig
    folder: Path
    contract: Preprocessing
    root: str | None
    trust_code: bool
    tell: Callable[[str], None]

    def pictures(self, loaded: LoadedModel, dataset: SegmentationDataset) -> list[GoldenPicture]:
        """Choose golden pictures and look at them with the run's own network, as it was trained."""
        if len(dataset) < self.config.golden:
            self.tell(f"taking all {len(dataset)} validation images as golden pictures, there are no more")
        places = golden.choose(dataset, self.config.golden)
        return list(golden.look(loaded.segmenter.eval(), self.contract, dataset, places))

    def models(self, pictures: Sequence[GoldenPicture]) -> list[ModelEntry]:
        """Export, and take the files of the asked precisions and graph."""
        sizes = {picture.image_HW3.shape[:2] for picture in pictures}
        usual = next(iter(sizes)) if len(sizes) == 1 else (self.contract.height, self.contract.width)
        shared: PictureSize = (int(usual[0]), int(usual[1])) if len(sizes) == 1 else "any"
        labels = self.config.graph == "labels"
        lower: list[Precision] = [precision for precision in self.config.precisions if precision != "fp32"]
        (self.folder / "models").mkdir()
        for precision in lower or ["fp32"]:  # an export writes the float32 file and one other
            config = ExportConfig(
                precision=precision,
                fold=self.config.fold,
                end2end=labels,
                picture_size=(self.config.picture_size or shared) if labels else None,
            )
            self._export(config, precision, labels)
        entries: list[ModelEntry] = []
        for precision in self.config.precisions:
            entry = model_entry(self.folder / "models" / f"{precision}.onnx", self.folder, precision)
            entries.append(dataclasses.replace(entry, profile=usual_profile(entry, *map(int, usual))))
        return entries

    def _export(self, config: ExportConfig, precision: Precision, labels: bool) -> None:
        """Export, and take the files that the bundle wants."""
        out = self.folder / "export"
        export_model(self.source, config, out, root=self.root, trust_code=self.trust_code, on_stage=self.tell)
        for name in {"fp32", precision} & set(self.config.precisions):
            (out / f"{_FILES[name]}{'.labels' if labels else ''}.onnx").replace(self.folder / "models" / f"{name}.onnx")
        for name in ("preprocessing.json", "classes.json"):
            (out / name).replace(self.folder / name)
        (out / "parity.json").replace(self.folder / f"parity.{precision}.json")
        shutil.rmtree(out)

    def golden(self, pictures: Sequence[GoldenPicture], palette: Sequence[tuple[int, int, int]]) -> list[GoldenEntry]:
        """Write the golden pictures."""
        self.tell("writing golden pictures")
        return [golden.write_golden(self.folder, number, picture, palette) for number, picture in enumerate(pictures)]

    def describe(self, loaded: LoadedModel, pictures: Sequence[GoldenPicture], data: str) -> None:
        """Write what was measured where, the notice and the runtime."""
        parity: dict[str, Any] = {}
        for path in sorted(self.folder.glob("parity.*.json")):
            parity[path.name.split(".")[1]] = json.loads(path.read_text())
            path.unlink()
        values = {"build_host": build_host(), "parity": parity, "golden_miou": _miou(pictures, loaded)}
        write_json(self.folder / "measured.json", values)
        (self.folder / "NOTICE.txt").write_text(notice(self.source.path.name, data), encoding="utf-8")
        copy_runtime(self.folder)


def _miou(pictures: Sequence[GoldenPicture], loaded: LoadedModel) -> float | None:
    """Return the mIoU of the network's labels over all golden pictures; None where no pixel counts."""
    import torch

    from prunekit.metrics import ConfusionMatrix

    matrix = ConfusionMatrix(len(loaded.card.class_names), golden.IGNORED)
    for picture in pictures:
        matrix.update(torch.from_numpy(picture.truth_HW.astype("int64")), torch.from_numpy(picture.labels_HW))
    return matrix.to_json()["miou"]


def _opened(source: RunDirectory, root: str | None, trust_code: bool) -> tuple[LoadedModel, SegmentationDataset]:
    from prunekit.data.registry import open_dataset
    from prunekit.data_paths import root_override
    from prunekit.modelfile import load_model
    from prunekit.workflows.importing import only_classes

    recipe = source.recipe(root_override(root))
    if only_classes(recipe):
        raise ExportUsageError(
            f"{source.path} was imported with class names alone, and a bundle needs validation images to check a "
            "device with. Import it again with --data and --root."
        )
    return load_model(source, trust_code=trust_code), open_dataset(recipe.data, "val", trust_code=trust_code)


def _lineage(path: Path) -> list[str]:
    """Return the runs that a run comes from, the first one first, as far as their files are here."""
    from prunekit.overview.reading import overview

    found: list[str] = []
    place: Path | None = path
    while place is not None and str(place) not in found and len(found) < 16:
        found.append(str(place))
        described = overview(place) if place.is_dir() else None
        place = Path(described.parent) if described is not None and described.parent else None
    return [Path(name).name for name in reversed(found)]


def _refuse_taken(out_dir: Path, *, overwrite: bool) -> None:
    if out_dir.is_symlink() or (out_dir.exists() and not out_dir.is_dir()):
        raise ExportUsageError(f"{out_dir} is no folder. Name another one: {spelled('--out DIR', 'out_dir=')}")
    if not out_dir.exists() or not any(out_dir.iterdir()):
        return
    if not (out_dir / MANIFEST).is_file():
        raise ExportUsageError(
            f"{out_dir} is not empty, and holds no bundle. Name a new folder: {spelled('--out DIR', 'out_dir=')}"
        )
    if not overwrite:
        raise ExportUsageError(
            f"{out_dir} holds a bundle. Add {spelled('--overwrite', 'overwrite=True')} to replace it, or name another "
            f"folder: {spelled('--out DIR', 'out_dir=')}"
        )


@contextlib.contextmanager
def _writing(out_dir: Path) -> Generator[Path]:
    """Yield a hidden folder beside the bundle's, and remove what is left of it."""
    parent = out_dir.resolve().parent
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=_WRITING, dir=parent))
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _publish(folder: Path, out_dir: Path) -> None:
    """Give the folder its name; what was there goes when the new one is whole."""
    if not out_dir.exists():
        folder.replace(out_dir)
        return
    old = Path(tempfile.mkdtemp(prefix=_WRITING, dir=out_dir.resolve().parent))
    out_dir.replace(old / "old")
    folder.replace(out_dir)
    shutil.rmtree(old, ignore_errors=True)
