"""A bundle's model, opened as it was asked for: what `run` and `serve` begin with."""

import argparse
import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from prunekit_runtime.building import BACKENDS, find_built
from prunekit_runtime.bundle import Bundle, ModelEntry, open_bundle
from prunekit_runtime.commands.numbers import positive
from prunekit_runtime.errors import BundleUsageError, RunnerUsageError
from prunekit_runtime.running.opening import open_runner
from prunekit_runtime.running.picturing import PictureModel
from prunekit_runtime.running.runner import show_shape


@dataclass(frozen=True)
class Opened:
    """A bundle, and one of its models, ready to run."""

    bundle: Bundle
    entry: ModelEntry
    path: Path
    """Of the engine or the ONNX file."""
    model: PictureModel


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add what says which model of which bundle runs, and on what."""
    parser.add_argument("--bundle", type=Path, default=Path(), metavar="DIR", help="the bundle (default: this folder)")
    parser.add_argument("--model", metavar="NAME", help="model, or its precision (default: the only one, else fp32)")
    parser.add_argument(
        "--backend", choices=BACKENDS, default="tensorrt", help="ort runs the ONNX file on the CPU (default: tensorrt)"
    )
    parser.add_argument("--threads", type=positive, help="CPU threads of ONNX Runtime (default: its own choice)")


@contextlib.contextmanager
def opened(options: argparse.Namespace) -> Generator[Opened, None, None]:
    """Open the bundle that was asked for, and its model; both are let go of at the end.

    Raises:
        PrunekitError: the bundle is damaged, holds no such model, has no engine for this device yet, or the model
            cannot be run here.
    """
    if options.threads is not None and options.backend != "ort":
        raise RunnerUsageError("--threads is for ONNX Runtime, and TensorRT runs on the GPU. Leave it out.")
    bundle = open_bundle(options.bundle)
    entry = bundle.model(options.model)
    if entry.input.shape[0] not in (None, 1):
        raise RunnerUsageError(
            f"{entry.name} takes {show_shape(entry.input.shape)}, and pictures come one by one. "
            "Export it with --dynamic, or for one image, and write the bundle again."
        )
    path = find_built(bundle, entry, options.backend)
    provider = "cpu" if options.backend == "ort" else None
    with open_runner(path, provider=provider, threads=options.threads, graph=entry.graph) as runner:
        yield Opened(bundle, entry, path, PictureModel(runner, bundle.contract))


def results_folder(bundle: Bundle, asked: "Path | None", usual: str) -> Path:
    """Return where results go: what was asked for, else a folder in the bundle's reports/.

    Raises:
        BundleUsageError: it lies among the bundle's own files, which would make the bundle another one.
    """
    if asked is None:
        return bundle.reports_dir / usual
    folder, home = asked.resolve(), bundle.folder.resolve()
    if home in (folder, *folder.parents) and bundle.reports_dir.resolve() not in (folder, *folder.parents):
        raise BundleUsageError(
            f"{asked} lies among the bundle's own files, and a bundle with others in it does not open. "
            f"Leave out --out, which takes {bundle.reports_dir / usual}, or name a folder outside."
        )
    return asked
