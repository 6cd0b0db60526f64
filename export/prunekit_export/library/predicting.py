"""`prunekit.predict`: what a model sees on pictures and videos of the caller's own, as files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prunekit_runtime.spelling import in_python

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from prunekit.workflows.library.progress import Progress
    from prunekit_runtime.predicting.job import PredictReport


@in_python()
def predict(
    model: str | os.PathLike[str],
    pictures: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out_dir: str | os.PathLike[str],
    *,
    kinds: Sequence[str] = ("mask", "overlay"),
    device: str = "auto",
    threads: int = 0,
    overwrite: bool = False,
    trust_code: bool = False,
    progress: bool | Progress = False,
) -> PredictReport:
    """Label pictures and videos at their own size and write the results, as `prunekit predict` does.

    Args:
        model: a run's folder, an ONNX file or an engine.
        pictures: a file, a folder or a pattern, or several of them.
        out_dir: made where it is not there; each kind has a folder in it.
        kinds: of "mask", "overlay", "contour" and "side-by-side".
        device: of a run: "auto", "cpu" or "cuda"; an ONNX file takes the CPU with "auto", an engine has its GPU.
        threads: CPU threads; 0 leaves the choice to the library.
        overwrite: replace results that are there.
        trust_code: allow a run that somebody else made to run its own Python factory.
        progress: True writes a line a step to the standard error stream; or a function of (step, done, total).

    Returns:
        what was labelled, how fast, and what could not be read.

    Raises:
        PrunekitError: the model cannot be run, there is no picture, or results are there already.
    """
    import os

    from prunekit.workflows.library.progress import told_by
    from prunekit_export import predicting

    named = [pictures] if isinstance(pictures, str | os.PathLike) else list(pictures)
    inputs = predicting.find_inputs([Path(name) for name in named], leave_out=Path(out_dir))
    config = predicting.PredictConfig(
        kinds=tuple(kinds), device=device, threads=threads, overwrite=overwrite, trust_code=trust_code
    )
    tell, total = told_by(progress), predicting.count_frames(inputs)
    return predicting.predict(
        Path(model), inputs, Path(out_dir), config, on_item=lambda tally: tell("Labelling", tally.done, total)
    )
