"""What lies between a picture and its labels besides the network: numpy beside a file of logits, or a file of labels.

    python benchmarks/postprocess.py

prints the table of docs/results/postprocess.md: one process, one thread, both ways in turns, CPU time. The network is one convolution of 1x1, so that
its own time is small; the file of logits runs alone as well, and its time is taken off both.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from prunekit_export.graph import PicturePass, save_onnx
from prunekit_runtime.preprocessing import ByteArray, Preprocessing, resize_bilinear
from prunekit_runtime.running.picturing import PictureModel, open_picture_model

CLASSES = 19
MIB = 2**20


@dataclass(frozen=True)
class Case:
    """Pictures of one size, and the size that the network sees before padding."""

    picture: tuple[int, int]
    network: tuple[int, int]

    @property
    def contract(self) -> Preprocessing:
        """The contract, padding to 32 px."""
        return Preprocessing(*self.network, pad_multiple=32)


CASES = (
    Case((1080, 1920), (512, 1024)),
    Case((1080, 1920), (1080, 1920)),
    Case((1024, 2048), (1024, 2048)),
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--shrink", type=int, default=1, help="divides all sides, to try the script")
    args = parser.parse_args()
    print("# Pictures to labels: in numpy, or in the graph\n")
    print(
        f"`python benchmarks/postprocess.py`: {CLASSES} classes, one thread, {args.rounds} rounds in turns, CPU time "
        f"[ms] of a frame without\nthe network's own, median and quartiles; {_cpu()}, {os.cpu_count()} CPUs, Python "
        f"{platform.python_version()}, numpy {np.__version__},\nONNX Runtime {onnxruntime.__version__}. Bytes are what is "
        "copied to and from a GPU that runs the file.\n"
    )
    print(
        "| picture | network | in numpy: prepare | labels | in the graph: all | in + out, logits | in + out, labels |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for case in CASES:
        print(_row(_shrunk(case, args.shrink), args.rounds), flush=True)


def _row(case: Case, rounds: int) -> str:
    picture_HW3 = _picture(*case.picture)
    with tempfile.TemporaryDirectory() as folder, Models(Path(folder), case) as (apart, inside):
        inputs_13hw, pictures_1HW3 = apart.prepare(picture_HW3), inside.prepare(picture_HW3)
        logits_1Khw, labels_1HW = apart.compute(inputs_13hw), inside.compute(pictures_1HW3)
        times_ms = _in_turns(
            {
                "prepare": lambda: apart.prepare(picture_HW3),
                "network": lambda: apart.compute(inputs_13hw),
                "labels": lambda: apart.labels(logits_1Khw, *case.picture),
                "graph": lambda: inside.compute(pictures_1HW3),
            },
            rounds,
        )
    network_ms = statistics.median(times_ms["network"])
    around_ms = [value_ms - network_ms for value_ms in times_ms["graph"]]
    copied = (inputs_13hw.nbytes, logits_1Khw.nbytes), (pictures_1HW3.nbytes, labels_1HW.nbytes)
    sizes = (f"{height}x{width}" for height, width in (case.picture, case.network))
    shown = (_spread(times_ms["prepare"]), _spread(times_ms["labels"]), _spread(around_ms))
    return "| " + " | ".join((*sizes, *shown, *(f"{i / MIB:.1f} + {o / MIB:.1f} MiB" for i, o in copied))) + " |"


def _in_turns(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the CPU time of each [ms], after two rounds to warm up."""
    times_ms: dict[str, list[float]] = {name: [] for name in runs}
    for place in range(rounds + 2):
        for name, run in runs.items():
            started_s = time.process_time()
            run()
            if place >= 2:
                times_ms[name].append((time.process_time() - started_s) * 1e3)
    return times_ms


class Models:
    """Both files of a case, opened on one thread."""

    def __init__(self, folder: Path, case: Case) -> None:
        _write_network(folder / "model.onnx", case.contract.network_size(*case.network))
        model = PicturePass(case.contract, case.picture)(onnx.load_model(folder / "model.onnx")).model
        save_onnx(model, folder / "model.labels.onnx")
        paths = folder / "model.onnx", folder / "model.labels.onnx"
        self._opened = tuple(open_picture_model(path, case.contract, threads=1) for path in paths)

    def __enter__(self) -> tuple[PictureModel, ...]:
        return self._opened

    def __exit__(self, *_: object) -> None:
        for model in self._opened:
            model.close()


def _write_network(path: Path, size: tuple[int, int]) -> None:
    weights = np.random.default_rng(0).normal(0, 1, (CLASSES, 3, 1, 1)).astype(np.float32)
    value, kind = helper.make_tensor_value_info, TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Conv", ["images", "weights"], ["logits"])],
        "network",
        [value("images", kind, [1, 3, *size])],
        [value("logits", kind, [1, CLASSES, *size])],
        [numpy_helper.from_array(weights, "weights")],
    )
    save_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


def _picture(height: int, width: int) -> ByteArray:
    coarse: npt.NDArray[np.float32] = np.random.default_rng(0).uniform(0, 255, (3, 34, 60)).astype(np.float32)
    return np.ascontiguousarray(resize_bilinear(coarse, height, width).astype(np.uint8).transpose(1, 2, 0))


def _shrunk(case: Case, by: int) -> Case:
    (rows, columns), (height, width) = case.picture, case.network
    return Case((rows // by, columns // by), (height // by, width // by))


def _spread(values_ms: list[float]) -> str:
    low_ms, middle_ms, high_ms = statistics.quantiles(values_ms, n=4)
    return f"{middle_ms:.0f} ({low_ms:.0f}..{high_ms:.0f})"


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
