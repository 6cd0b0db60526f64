"""The second way to ONNX: torch's older exporter, by TorchScript, for what torch.export cannot trace.

It follows one run of the network, so that a decision in Python that depends on pixel values is fixed as it falls for
one drawn image. It warns of such places, and the warning is handed on.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from prunekit_export.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx
    import torch

OLDER_ROUTE = "TorchScript"


class RouteError(ExportError):
    """A way to ONNX that a network cannot take, with no word on whether another can."""


def by_torchscript(
    network: torch.nn.Module, shape: tuple[int, int, int, int], opset: int, names: tuple[str, str]
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Return the network as ONNX of a fixed size, and where the file may depend on the image that it was traced with.

    Args:
        network: on the CPU, float32, in eval mode.
        shape: of the images (N, 3, h, w).
        opset: of the file.
        names: of its input and output.

    Raises:
        RouteError: the network does not run, or has an operator that this exporter does not know.
    """
    import onnx
    import torch

    images_N3hw = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with (
        tempfile.TemporaryDirectory() as folder,
        warnings.catch_warnings(record=True) as caught,
        torch.no_grad(),
    ):
        path = Path(folder) / "traced.onnx"
        warnings.simplefilter("always")
        try:
            torch.onnx.export(
                network,
                (images_N3hw,),
                path,
                dynamo=False,
                opset_version=opset,
                input_names=[names[0]],
                output_names=[names[1]],
            )
        except Exception as error:  # errors of the network, the tracer and the exporter share no base class
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise RouteError(first[:300].rstrip(".")) from error
        return onnx.load_model(path), _fixed(caught)


def _fixed(caught: Sequence[warnings.WarningMessage]) -> tuple[str, ...]:
    """Return the tracer's warnings that something of the image was fixed, without the paths of this machine."""
    import torch

    kinds = torch.jit.TracerWarning  # pyright: ignore[reportPrivateImportUsage]  has no other public name
    texts = [str(entry.message).partition(". ")[0] for entry in caught if issubclass(entry.category, kinds)]
    return tuple(dict.fromkeys(texts))
