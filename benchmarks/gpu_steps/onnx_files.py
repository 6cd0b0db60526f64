"""The networks of a table as ONNX files, in float32 and in fp16; written once a start."""

import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

from gpu_steps.networks import AGAIN, DENSE, family
from gpu_steps.step import GpuRefusedError

EXPORT_NEEDS = ("pydantic", "tomli_w", "onnx", "onnxscript")
"""What prunekit's exporter imports."""
FP16_NEEDS = ("onnx_graphsurgeon",)
_AGREE = 0.05  # of the largest logit, fp16 against float32; a wrong file is off by far more


@functools.lru_cache(maxsize=1)
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()  # removed when the process ends


@functools.lru_cache(maxsize=2)
def onnx_files(subject_name: str, device: str, precision: str, height: int, width: int) -> Mapping[str, Path]:
    """Return a file for each member of a family, for one image; "dense again" is the file of the dense network."""
    folder = Path(_folder().name)
    found: dict[str, Path] = {}
    for name, member in family(subject_name, device).members.items():
        if name != AGAIN:
            stem = "".join(letter if letter.isalnum() else "-" for letter in f"{subject_name}-{name}")
            found[name] = _written(member, folder / stem, precision, height, width)
    return {**found, AGAIN: found[DENSE]}


def _written(member: torch.nn.Module, stem: Path, precision: str, height: int, width: int) -> Path:
    from prunekit_export.graph import export_onnx

    path = stem.with_name(f"{stem.name}.fp32.onnx")
    if not path.exists():
        export_onnx(member, path, height=height, width=width, dynamic=False)
    if precision != "fp16":
        return path
    import onnx

    from prunekit_export.precision import HalfPass

    half = stem.with_name(f"{stem.name}.fp16.onnx")
    half.write_bytes(HalfPass()(onnx.load_model(str(path))).model.SerializeToString())
    return half


def check_logits(logits_1Khw: torch.Tensor, member: torch.nn.Module, images_13HW: torch.Tensor, where: str) -> None:
    """Refuse what does not compute what torch does.

    Raises:
        GpuRefusedError: the logits are further from torch's than fp16 is.
    """
    with torch.inference_mode():
        wanted_1Khw = member(images_13HW).float().cpu()
    apart = float((logits_1Khw.float().cpu() - wanted_1Khw).abs().max() / wanted_1Khw.abs().max())
    if not apart < _AGREE:
        raise GpuRefusedError(f"The logits of {where} are {apart:.1e} of the largest apart from torch's.")
