"""Step torch-latency: dense against cut networks in torch, by number type, memory layout and CUDA graphs."""

import contextlib
import copy
import itertools
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gpu_steps.networks import Family, family, subjects
from gpu_steps.step import Bench, GpuRefusedError, Job, Row, Step
from gpu_steps.tables import latency_table
from gpu_steps.timing import DRY, FULL, Call, compare, stopwatch_of

PRECISIONS = ("fp32", "tf32", "fp16", "autocast")
_AGREE = 0.05  # of the largest output: a replayed graph computes what the network does


@dataclass(frozen=True)
class Mode:
    """How the networks are run."""

    precision: str
    """fp32; tf32: float32 that multiplies 10 bits of mantissa; fp16: weights and images; autocast: to fp16, by torch."""
    channels_last: bool
    graph: bool
    """One CUDA graph is replayed in place of the launches."""
    batch: int = 1

    def __str__(self) -> str:
        layout = "channels last" if self.channels_last else "channels first"
        return f"{self.precision}, {layout}, {'CUDA graph' if self.graph else 'eager'}, batch {self.batch}"


MODES = (
    *(Mode(*values) for values in itertools.product(PRECISIONS, (True, False), (True, False))),
    *(Mode(precision, True, True, batch=8) for precision in ("fp16", "tf32")),
)
DRY_MODES = (Mode("fp32", False, False), Mode("fp16", True, True), Mode("autocast", True, False))


def jobs(bench: Bench) -> Sequence[Job]:
    """Return a job a network and mode."""
    modes = DRY_MODES if bench.dry_run else MODES
    return [
        Job(f"{name} | {mode}", lambda n=name, m=mode: _measured(bench, n, m), subject.needs)
        for (name, subject), mode in itertools.product(subjects(bench).items(), modes)
    ]


def _measured(bench: Bench, name: str, mode: Mode) -> dict[str, Any]:
    subject, found = subjects(bench)[name], family(name, bench.device)
    images = torch.randn(mode.batch, 3, subject.height, subject.width, device=bench.device)
    with _number_format(mode.precision), torch.inference_mode():
        calls = {member: call_of(network, images, mode) for member, network in found.members.items()}
        times = compare(calls, stopwatch_of(bench.device), DRY if bench.dry_run else FULL, bench.device)
    return {
        **times,
        **facts(found),
        "network": name,
        "mode": str(mode),
        "height": subject.height,
        "width": subject.width,
    }


def facts(found: Family) -> dict[str, Any]:
    """Return what a row says of its networks."""
    return {"spec": found.spec, "macs_ratio": {name: found.ratio(name) for name in found.members}}


@contextlib.contextmanager
def _number_format(precision: str) -> Generator[None]:
    """Allow TF32 for "tf32" alone, and let cuDNN search for its fastest kernels."""
    cudnn: Any = torch.backends.cudnn
    matmul: Any = torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark
    cudnn.allow_tf32 = matmul.allow_tf32 = precision == "tf32"
    cudnn.benchmark = True
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark = before


def call_of(network: nn.Module, images_B3HW: Tensor, mode: Mode) -> Call:
    """Return a call that runs a copy of the network as the mode says."""
    layout = torch.channels_last if mode.channels_last else torch.contiguous_format
    copied = copy.deepcopy(network).to(memory_format=layout)
    images_B3HW = images_B3HW.to(memory_format=layout)
    if mode.precision == "fp16":
        copied, images_B3HW = copied.half(), images_B3HW.half()
    device = images_B3HW.device.type

    def run() -> Tensor:
        # Without the cache: weights are used once a call, and a graph may not keep what it holds.
        with torch.autocast(device, torch.float16, enabled=mode.precision == "autocast", cache_enabled=False):
            return copied(images_B3HW)

    _check(run(), mode)
    return graphed(run) if mode.graph and device == "cuda" else run


def _check(logits: Tensor, mode: Mode) -> None:
    wanted = (torch.float16,) if mode.precision == "fp16" else (torch.float16, torch.float32)
    if logits.dtype not in wanted:
        raise GpuRefusedError(f"The network gives {logits.dtype} in {mode.precision}. It is not measured.")
    if not torch.isfinite(logits).all():
        raise GpuRefusedError(f"The logits in {mode.precision} are not finite. It is not measured.")


def graphed(run: Callable[[], Tensor]) -> Call:
    """Capture a call as a CUDA graph, and return its replay.

    Raises:
        GpuRefusedError: the replay gives something else.
    """
    expected = run().clone()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # what is searched and allocated once must not be captured
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = run()
    logits.zero_()  # what is read below was written by the replay
    graph.replay()
    torch.cuda.synchronize()
    apart = float((logits.float() - expected.float()).abs().max() / expected.float().abs().max())
    if not apart < _AGREE:
        raise GpuRefusedError(f"The CUDA graph's logits are {apart:.1e} of the largest apart from the eager ones.")
    return graph.replay


def _table(rows: Mapping[str, Row]) -> list[str]:
    how = (
        "Time between CUDA events round calls in a row, without copies from and to the host. tf32 is float32 whose products "
        "have 10 bits of mantissa; fp32 has it switched off. fp16: `network.half()`; autocast: torch chooses operator by "
        "operator. Batch norms are not folded, in none of the networks; cuDNN searches for its kernels."
    )
    return [how, "", *latency_table(rows)]


STEP = Step("torch-latency", "Latency in torch, dense against cut", (), (), jobs, _table)
