"""Measure one model file on this machine and check it against its golden file; the result is one JSON object."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np

from prunekit_runtime.errors import RunnerUsageError
from prunekit_runtime.measuring.golden import GoldenCheck
from prunekit_runtime.measuring.latency import measure, peak_memory_bytes, summarise
from prunekit_runtime.preprocessing import MAX_PIXELS, ByteArray, FloatArray, Preprocessing, resize_bilinear
from prunekit_runtime.running.device import describe_device
from prunekit_runtime.running.opening import open_runner
from prunekit_runtime.running.ort import OrtRunner, Provider
from prunekit_runtime.running.runner import Shape, check_finite, check_memory, show_shape
from prunekit_runtime.running.trt import TrtRunner

# fp16 moves logits by about 1e-3 of their range, which flips pixels on class borders only.
MIN_AGREEMENT = 0.99


@dataclasses.dataclass(frozen=True)
class BenchConfig:
    """What to measure and how. Sizes of 0 are taken from the model, the golden file or the contract, in this order."""

    model: Path
    contract: Preprocessing | None = None
    golden: GoldenCheck | None = None
    provider: Provider | None = None
    threads: int | None = None
    cuda_graph: bool = False
    batch: int = 0
    height: int = 0  # px
    width: int = 0  # px
    warmup_runs: int = 20
    runs: int = 200
    min_agreement: float = MIN_AGREEMENT


def bench(config: BenchConfig) -> dict[str, Any]:
    """Check the model against its golden file, measure it, and describe the machine.

    `latency` is the wall time of a call, copies to and from the GPU included; `compute` the GPU's own time of the same
    calls, for engines only.

    Raises:
        RunnerError: the model cannot be run here, the size of its input is not known, or its logits are not finite.
        GoldenError: the golden file belongs to another model.
    """
    with open_runner(
        config.model, provider=config.provider, threads=config.threads, cuda_graph=config.cuda_graph
    ) as runner:
        golden = config.golden.check(runner, config.contract) if config.golden else None
        images = _images(config, runner.input_shape)
        measured = _measured(runner, images, config)
        name = runner.name
    return {
        "model": str(config.model),
        "runner": name,
        "cuda_graph": config.cuda_graph,
        "input_shape": list(images.shape),
        **measured,
        "preprocessing": _preprocessing_latency(config, images.shape),
        "golden": golden.to_json() if golden else None,
        "golden_passed": golden.passed(config.min_agreement) if golden else None,
        "peak_memory_bytes": peak_memory_bytes(),
        "device": describe_device(),
    }


def make_golden(model: Path, contract: Preprocessing, *, height: int = 0, width: int = 0, seed: int = 0) -> GoldenCheck:
    """Prepare a synthetic picture, run the ONNX file on the CPU as written, and keep input and logits.

    The picture has the contract's size, or `height` x `width` [px].

    Raises:
        RunnerError: no size is known, or the model cannot be run.
    """
    picture_HW3 = synthetic_picture(*_picture_size(contract, height, width), seed=seed)
    images = contract.prepare(picture_HW3)
    with OrtRunner(model, "cpu", optimise=False) as runner:
        return GoldenCheck(images=images, logits=runner.run(images), picture=picture_HW3)


def synthetic_picture(height: int, width: int, *, seed: int) -> ByteArray:
    """Return smooth coloured patches with a little noise, uint8 (height, width, 3): no camera, but no flat field."""
    generator = np.random.default_rng(seed)
    coarse = generator.uniform(0, 255, (3, 5, 7)).astype(np.float32)
    noise = generator.normal(0, 6, (3, height, width))
    return np.clip(resize_bilinear(coarse, height, width) + noise, 0, 255).astype(np.uint8).transpose(1, 2, 0)


def _picture_size(contract: Preprocessing, height: int, width: int) -> tuple[int, int]:
    size = (height or contract.height, width or contract.width)
    if min(size) < 1 or size[0] * size[1] > MAX_PIXELS:
        raise RunnerUsageError(
            f"The size of a picture cannot be {size[0]} x {size[1]} px, at most {MAX_PIXELS} in all. "
            "Give both --height and --width."
        )
    return size


def _measured(runner: OrtRunner | TrtRunner, images: FloatArray, config: BenchConfig) -> dict[str, Any]:
    compute_ms: list[float] = []

    def run() -> None:
        runner.run(images)
        if isinstance(runner, TrtRunner):
            compute_ms.append(runner.last_compute_ms)

    check_finite(runner.run(images), runner.name)
    counts = {"batch": images.shape[0], "warmup_runs": config.warmup_runs}
    latency = measure(run, runs=config.runs, **counts)
    compute = summarise(compute_ms[config.warmup_runs :], **counts).to_json() if compute_ms else None
    return {"latency": latency.to_json(), "compute": compute}


def _preprocessing_latency(config: BenchConfig, input_shape: tuple[int, ...]) -> dict[str, Any] | None:
    contract = config.contract
    if contract is None:
        return None
    if config.golden is not None and config.golden.picture is not None:
        picture_HW3 = config.golden.picture
    else:
        picture_HW3 = synthetic_picture(contract.height or input_shape[2], contract.width or input_shape[3], seed=0)
    prepare = functools.partial(contract.prepare, picture_HW3)
    report = measure(prepare, batch=1, warmup_runs=config.warmup_runs, runs=config.runs)
    return {"picture_shape": list(picture_HW3.shape), **report.to_json()}


def _images(config: BenchConfig, shape: Shape) -> FloatArray:
    golden = config.golden
    asked = (config.batch, 3, config.height, config.width)
    if golden is not None and all(want in (0, size) for want, size in zip(asked, golden.images.shape, strict=False)):
        return golden.images
    wanted = tuple(first or second or third for first, second, third in zip(asked, shape, _known(config), strict=False))
    if min(wanted) < 1 or any(size not in (None, want) for size, want in zip(shape, wanted, strict=False)):
        raise RunnerUsageError(
            f"{config.model} takes {show_shape(shape)}, and the input to measure would be {show_shape(wanted)}. "
            "Give --batch, --height and --width, or a contract or golden file that names the size."
        )
    check_memory(wanted, "Input")
    return np.random.default_rng(0).standard_normal(wanted, dtype=np.float32)


def _known(config: BenchConfig) -> tuple[int, ...]:
    if config.golden is not None:
        return config.golden.images.shape
    contract = config.contract
    return (1, 3, *(contract.network_size(contract.height, contract.width) if contract else (0, 0)))
