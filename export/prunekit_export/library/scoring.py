"""`prunekit.evaluate`: mIoU of a network, a run, an ONNX file or an engine on a loader of the caller's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunekit_runtime.spelling import in_python

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor, nn

    from prunekit.data.dataset import ClassMap
    from prunekit.workflows.library.progress import Progress
    from prunekit.workflows.library.scores import Scores
    from prunekit_runtime.running.runner import Runner


@in_python()
def evaluate(
    model: nn.Module | str | os.PathLike[str],
    batches: Iterable[Any],
    classes: int | Sequence[str] | ClassMap | None = None,
    *,
    ignore_index: int = 255,
    device: str = "auto",
    threads: int = 0,
    trust_code: bool = False,
    progress: bool | Progress = False,
) -> Scores:
    """Score a model on labelled images: mIoU, the IoU of each class, pixel accuracy.

    Logits are brought to the labels' size before a class is chosen, so images may be smaller or larger than labels.

    Args:
        model: any network images_B3hw -> logits, on its device; or the path of a run, an ONNX file or an engine.
        batches: of (images_B3hw, labels_BHW), images prepared as for training; a DataLoader, a list, any iterable.
        classes: how many, or their names in order; None takes what the model says.
        ignore_index: label of the pixels that do not count.
        device: of a path: "auto", "cpu" or "cuda"; an ONNX file takes the CPU with "auto", an engine has its GPU.
        threads: CPU threads of an ONNX file; 0 leaves the choice to the library.
        trust_code: allow a run that somebody else made to run its own Python factory.
        progress: True writes a line to the standard error stream; or a function of (step, done, total).

    Returns:
        the scores; `print` tells them in short.

    Raises:
        PrunekitError: the model cannot be run, a batch does not hold images and labels, or they do not fit the classes.
    """
    from torch import nn

    from prunekit.training.device import resolve_device
    from prunekit.workflows.library.loading import LoadedSegmenter, load
    from prunekit.workflows.library.progress import told_by
    from prunekit.workflows.library.running import running
    from prunekit.workflows.library.scores import check_classes, score

    check_classes(classes)
    tell = told_by(progress)
    if not isinstance(model, nn.Module):
        path = Path(model)
        if not path.is_dir():
            return _of_file(path, batches, classes, ignore_index, device, threads, tell)
        model = load(path, trust_code=trust_code).to(resolve_device(device))
    own = model if isinstance(model, LoadedSegmenter) else None
    known, contract = (None, None) if own is None else (own.classes, own.contract)
    with running(model) as run:
        return score(run, batches, classes, known, contract, ignore_index, tell)


def _of_file(
    path: Path,
    batches: Iterable[Any],
    classes: int | Sequence[str] | ClassMap | None,
    ignore_index: int,
    device: str,
    threads: int,
    tell: Progress,
) -> Scores:
    """Score an ONNX file or an engine; its names and preprocessing lie beside it."""
    from prunekit.data.dataset import ClassMap
    from prunekit.workflows.library.scores import in_chunks, score
    from prunekit_export.running import contract_of_runner, open_runner
    from prunekit_runtime.classes import classes_beside

    with open_runner(path, provider=None if device == "auto" else device, threads=threads) as runner:
        beside, contract = classes_beside(path), contract_of_runner(runner, path)
        known = None if beside is None else ClassMap(beside.names, beside.palette)
        fixed, run = runner.input_shape[0], _run_of(runner)
        return score(in_chunks(run, fixed) if fixed else run, batches, classes, known, contract, ignore_index, tell)


def _run_of(runner: Runner) -> Callable[[Tensor], Tensor]:
    import numpy as np
    import torch

    def run(images_B3hw: Tensor) -> Tensor:
        images = np.ascontiguousarray(images_B3hw.detach().cpu().numpy(), dtype=np.float32)
        return torch.from_numpy(runner.run(images))

    return run
