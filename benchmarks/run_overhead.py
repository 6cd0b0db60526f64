"""What `run` adds to the bare inference call, and how near a folder comes to the slowest of its stages.

    python benchmarks/run_overhead.py

prints docs/results/run_overhead.md: pictures of 512x1024 from a folder of PNG files to masks and overlays. Two models, both
from uint8 pictures to labels: a network in ONNX Runtime on one CPU thread, which shares the machine with the threads that
read and write; and a stand-in for a GPU, which waits and leaves the CPU alone. Bare call and folder are measured in turns.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import onnx
import onnxruntime

from prunekit.models.zoo import build
from prunekit_export.graph import PicturePass, export_onnx
from prunekit_runtime.classes import numbered
from prunekit_runtime.pictures.png_writer import encode_picture
from prunekit_runtime.predicting.drawing import Style
from prunekit_runtime.predicting.items import picture_items
from prunekit_runtime.predicting.job import Tally, write_pictures
from prunekit_runtime.predicting.labelling import Labelled
from prunekit_runtime.predicting.sources import Source
from prunekit_runtime.predicting.stopwatch import Stopwatch
from prunekit_runtime.preprocessing import ByteArray, Preprocessing
from prunekit_runtime.running.opening import open_runner
from prunekit_runtime.running.picturing import PictureModel
from prunekit_runtime.streaming import Model, Pipeline

HEIGHT, WIDTH = 512, 1024
CLASSES = 19


class Waiting:
    """Takes as long as a GPU would, and no CPU; labels are blocks of 64 px."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        rows, columns = np.arange(HEIGHT)[:, None] // 64, np.arange(WIDTH) // 64
        self._labels_1HW = ((rows + columns) % CLASSES).astype(np.uint8)[None]
        self.name = f"stand-in for a GPU that takes {1000 * seconds:.0f} ms"

    def prepare(self, picture_HW3: ByteArray, /) -> Any:
        """Return the picture as a batch."""
        return picture_HW3[None]

    def compute(self, _: Any, /) -> Any:
        """Wait."""
        time.sleep(self._seconds)
        return self._labels_1HW

    def labels(self, outputs: Any, _height: int, _width: int, /) -> ByteArray:
        """Return the labels."""
        return outputs[0]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--workers", type=int, default=2, help="threads that read, and as many that write")
    parser.add_argument("--network", default="torchvision:lraspp_mobilenet_v3_large", help="of prunekit's zoo")
    parser.add_argument("--wait-ms", type=float, default=100.0, help="of the stand-in")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pictures = write_folder(Path(folder) / "pictures", options.pictures)
        path = export(Path(folder) / "labels.onnx", options.network)
        head(options)
        with open_runner(path, provider="cpu", threads=1, graph="labels") as runner:
            network = PictureModel(runner, Preprocessing(HEIGHT, WIDTH))
            for kinds in (("mask",), ("mask", "overlay")):
                for model in (network, Waiting(options.wait_ms / 1000)):
                    measure(model, kinds, pictures, Path(folder) / "out", options)
    print(f"\nLoad average of the machine at the end, this included: {os.getloadavg()[1]:.1f}.")


def head(options: argparse.Namespace) -> None:
    """Print what was run, and on what."""
    cores = len(os.sched_getaffinity(0))
    print("# What `run` adds to the bare inference call\n")
    print(
        f"`python benchmarks/run_overhead.py {' '.join(sys.argv[1:])}`".replace(" `", "`")
        + f": {options.pictures} PNG pictures of {HEIGHT}x{WIDTH}, the network {options.network}, {options.workers} threads that "
        f"read and {options.workers} that write, the fastest of {options.rounds} rounds in turns. "
        f"{cores} CPU cores, ONNX Runtime {onnxruntime.__version__}, numpy {np.__version__}. Not run on a GPU or a Jetson."
    )


def measure(
    model: Model, kinds: tuple[str, ...], pictures: list[Source], out: Path, options: argparse.Namespace
) -> None:
    """Print one model's rows."""
    alone = stages(model, kinds, pictures, out, options)
    bare, whole = [], []
    inputs = model.prepare(picture_items(pictures[:1])[0].read())
    for _ in range(options.rounds):
        bare.append(timed(lambda: [model.compute(inputs) for _ in pictures]))
        whole.append(timed(lambda: run(model, kinds, pictures, out, options.workers)))
    bare_s, whole_s = (min(wall_s for wall_s, _ in each) / len(pictures) for each in (bare, whole))
    bare_cpu_s, whole_cpu_s = (min(cpu_s for _, cpu_s in each) / len(pictures) for each in (bare, whole))
    alone["network"] = max(alone["network"], 1 / bare_s)  # the same call, measured more often
    slowest = min(alone, key=lambda stage: alone[stage])
    print(f"\n## {' and '.join(kinds)}, {model.name}\n\n| | pictures a second | ms a picture |\n| --- | --- | --- |")
    for stage, rate in alone.items():
        print(f"| {stage}, alone | {rate:.1f} | {1000 / rate:.1f} |")
    print(f"| bare inference call | {1 / bare_s:.1f} | {1000 * bare_s:.1f} |")
    print(f"| the folder, all stages | {1 / whole_s:.1f} | {1000 * whole_s:.1f} |")
    pairs = [one[0] / other[0] - 1 for one, other in zip(whole, bare, strict=True)]
    print(
        f"\nOverhead over the bare call: {100 * (whole_s / bare_s - 1):.1f} % (median of the rounds: "
        f"{100 * statistics.median(pairs):.1f} %); CPU time of the thread that runs the model, which does not count what other "
        f"threads and programs take: {1000 * bare_cpu_s:.1f} ms bare, {1000 * whole_cpu_s:.1f} ms in the folder. "
        f"The folder runs at {100 / whole_s / alone[slowest]:.0f} % of its slowest stage, {slowest}."
    )


def stages(
    model: Model, kinds: tuple[str, ...], pictures: list[Source], out: Path, options: argparse.Namespace
) -> dict[str, float]:
    """Return the pictures a second of each stage alone, with its own threads."""
    items = picture_items(pictures)
    write = write_pictures(out, kinds, Style(numbered(CLASSES).palette))
    picture_HW3 = items[0].read()
    outputs = model.compute(model.prepare(picture_HW3))

    def written(number: int) -> None:
        labels_HW = model.labels(outputs, HEIGHT, WIDTH)
        write(Labelled(items[number], picture_HW3, labels_HW, CLASSES))

    rounds = max(3, options.rounds // 3)
    with ThreadPoolExecutor(options.workers) as threads:
        work = {
            "reading": lambda: list(threads.map(lambda item: model.prepare(item.read()), items)),
            "network": lambda: [model.compute(model.prepare(picture_HW3)) for _ in items],
            "writing": lambda: list(threads.map(written, range(len(items)))),
        }
        return {name: len(items) / min(seconds_of(once) for _ in range(rounds)) for name, once in work.items()}


def run(model: Model, kinds: tuple[str, ...], pictures: list[Source], out: Path, workers: int) -> None:
    """Do what the command does to a folder."""
    tally = Tally()
    write = write_pictures(out, kinds, Style(numbered(CLASSES).palette))
    Pipeline(model, CLASSES, workers, workers).run(picture_items(pictures), write, tally=tally, stopwatch=Stopwatch())
    assert tally.written == len(pictures), tally.failed


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return how long something takes, and the CPU time of this thread alone [s]."""
    began_s = time.thread_time()
    wall_s = seconds_of(work)
    return wall_s, time.thread_time() - began_s


def seconds_of(work: Callable[[], object]) -> float:
    """Return how long something takes."""
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s


def write_folder(folder: Path, count: int) -> list[Source]:
    """Write pictures that compress as photographs do: slow changes, edges, and noise of three bits."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    for number in range(count):
        smooth_HW3 = np.stack([rows // 4 + 20 * place + columns // (8 + place) for place in range(3)], axis=-1)
        for _ in range(12):
            top, left = draw.integers(0, HEIGHT - 64), draw.integers(0, WIDTH - 96)
            smooth_HW3[top : top + 64, left : left + 96] = draw.integers(0, 200, 3)
        noisy_HW3 = smooth_HW3 % 248 + draw.integers(0, 8, smooth_HW3.shape)
        (folder / f"{number:03d}.png").write_bytes(encode_picture(noisy_HW3.astype(np.uint8)))
    return [Source(path, PurePath(path.name)) for path in sorted(folder.iterdir())]


def export(path: Path, network: str) -> Path:
    """Write an untrained network from pictures to labels."""
    plain = path.with_name("logits.onnx")
    export_onnx(build(network, num_classes=CLASSES), plain, height=HEIGHT, width=WIDTH, dynamic=False)
    wrapped = PicturePass(Preprocessing(HEIGHT, WIDTH), picture=(HEIGHT, WIDTH))(onnx.load(plain))
    onnx.save(wrapped.model, path)
    return path


if __name__ == "__main__":
    main()
