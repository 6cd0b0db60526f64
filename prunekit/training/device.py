"""Where and in which precision a training runs: asked for, checked, and never changed silently."""

import contextlib
from collections.abc import Generator
from typing import Final

import torch

from prunekit.errors import ConfigError
from prunekit.recipe import TrainConfig
from prunekit_runtime.spelling import option

AUTOCAST: Final = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(name: str) -> torch.device:
    """Return the device; "auto" is CUDA where there is one, else the CPU.

    Raises:
        ConfigError: CUDA is asked for and there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"Device cuda was asked for, but torch sees no CUDA device here. Write {option('device', 'cpu')}, or auto."
        )
    return torch.device(name)


def check_precision(device: torch.device, precision: str) -> None:
    """Refuse what a device cannot do in reasonable time.

    Raises:
        ConfigError: fp16 on a CPU, where torch emulates it about a hundred times slower than fp32.
    """
    if precision == "fp16" and device.type == "cpu":
        raise ConfigError("Precision fp16 needs CUDA; this training runs on the CPU. Write --precision bf16 or fp32.")


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the autocast region of a precision; "fp32" is a region that is switched off."""
    return torch.autocast(device.type, dtype=AUTOCAST.get(precision, torch.bfloat16), enabled=precision in AUTOCAST)


@contextlib.contextmanager
def cpu_threads(config: TrainConfig) -> Generator[None]:
    """Run the block with the recipe's number of CPU threads; 0 leaves torch's choice."""
    before = torch.get_num_threads()
    torch.set_num_threads(config.threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def device_name(device: torch.device) -> str:
    """Return what a person calls the device: "cpu (2 threads)", "cuda (NVIDIA H100 ...)"."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"cpu ({torch.get_num_threads()} threads)"
