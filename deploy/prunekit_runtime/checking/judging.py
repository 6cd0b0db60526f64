"""Run golden pictures through a model of a bundle, and judge what comes out."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import numpy as np

from prunekit_runtime.bundle import Bundle, ModelEntry
from prunekit_runtime.checking.counting import Tally
from prunekit_runtime.checking.gates import Gates, Measured, failures, usual_gates
from prunekit_runtime.checking.golden import Golden, read_golden
from prunekit_runtime.errors import BundleUsageError
from prunekit_runtime.preprocessing import FloatArray
from prunekit_runtime.running.opening import open_runner
from prunekit_runtime.running.picturing import PictureModel, stacked

_LEAST = -1e30  # in the place of what is no number, so that the labels can be counted; the report says so


@dataclasses.dataclass(frozen=True)
class Report:
    """What a model was checked with, what came out, and which gates it misses."""

    entry: str
    precision: str
    graph: str
    path: str
    ran_on: str
    pictures: int
    measured: Measured
    gates: Gates
    failures: "tuple[str, ...]"

    @property
    def passed(self) -> bool:
        """Whether every gate was reached."""
        return not self.failures

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {**dataclasses.asdict(self), "passed": self.passed}


def check(
    bundle: Bundle,
    entry: ModelEntry,
    path: Path,
    *,
    arithmetic: Optional[str] = None,
    gates: Optional[Gates] = None,
    threads: Optional[int] = None,
    on_picture: Callable[[int, int], None] = lambda _done, _all: None,
) -> Report:
    """Check what is to be run of a model.

    Args:
        bundle: opened, with golden pictures.
        entry: the model.
        path: what runs: an engine, or the ONNX file.
        arithmetic: "tf32" where float32 layers round to 10 bits; else the entry's precision.
        gates: the limits; None takes the usual ones of the entry's precision.
        threads: CPU threads of ONNX Runtime.
        on_picture: told (pictures done, pictures).

    Raises:
        BundleUsageError: the bundle has no golden pictures.
        PrunekitError: a golden picture cannot be read, or the model cannot be run.
    """
    if not bundle.golden:
        raise BundleUsageError("The bundle holds no golden pictures to check with. Write the bundle again.")
    limits, tally = gates or usual_gates(entry.precision), Tally()
    errors: list[Optional[float]] = []
    finite = True
    with open_runner(path, threads=threads, graph=entry.graph) as runner:
        model = PictureModel(runner, bundle.contract)
        for number, golden_entry in enumerate(bundle.golden):
            golden = read_golden(bundle, golden_entry)
            output_1 = _computed(model, golden)
            if model.graph == "logits":
                errors.append(_logit_error(golden, output_1))
                finite = finite and bool(np.isfinite(output_1).all())
                output_1 = np.nan_to_num(output_1, nan=_LEAST, posinf=-_LEAST, neginf=_LEAST)
            tally.add(golden, model.labels(output_1, *golden.image_HW3.shape[:2]))
            on_picture(number + 1, len(bundle.golden))
        name = runner.name
    known = [error for error in errors if error is not None]
    worst = None if not known else float(np.max(known))  # nan stays nan, which no gate lets through
    miou, expected_miou = tally.miou()
    measured = Measured(
        agreement=tally.agreement,
        edge_agreement=tally.edge_agreement,
        class_iou=tally.class_iou(bundle.classes.names),
        miou=miou,
        expected_miou=expected_miou,
        logit_error=worst if worst is None or math.isfinite(worst) else None,
        finite=finite,
    )
    missed = tuple(failures(measured, limits, arithmetic or entry.precision))
    return Report(
        entry.name, entry.precision, entry.graph, str(path), name, len(bundle.golden), measured, limits, missed
    )


def _computed(model: PictureModel, golden: Golden) -> Any:
    """Return the output of one picture; a model of a fixed number of images takes it that often."""
    return model.compute(stacked([model.prepare(golden.image_HW3)], model.input_shape[0]))[:1]


def _logit_error(golden: Golden, logits_1Khw: FloatArray) -> Optional[float]:
    return None if golden.logits is None else golden.logits.error_of(logits_1Khw[0])
