"""Small things done for real with each package: that it is installed does not say that it works."""

from __future__ import annotations

import importlib
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_TIMEOUT_S = 20


def _torch() -> str:
    import torch

    images_13hw = torch.ones(1, 3, 8, 8)
    found = torch.nn.functional.conv2d(images_13hw, torch.ones(2, 3, 3, 3)).sum()
    if float(found) != 2 * 36 * 27:
        raise RuntimeError(f"a convolution gives {float(found):g}, and it is {2 * 36 * 27}")
    cuda = torch.version.cuda
    built = f"built for CUDA {cuda}" if cuda else "built for CPUs"
    if not torch.cuda.is_available():
        return f"{torch.__version__}, {built}; no GPU is usable"
    on_gpu = float(torch.nn.functional.conv2d(images_13hw.cuda(), torch.ones(2, 3, 3, 3).cuda()).sum())
    if on_gpu != float(found):
        raise RuntimeError(f"a convolution gives {on_gpu:g} on the GPU, and it is {float(found):g}")
    return f"{torch.__version__}, {built}; computes on {torch.cuda.get_device_name(0)}"


def _torchvision() -> str:
    import torch
    import torchvision

    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]])
    kept = torchvision.ops.nms(boxes, torch.tensor([0.5, 0.9]), 0.5)  # the operator that a wrong pair does not have
    if kept.tolist() != [1]:
        raise RuntimeError(f"its operator nms gives {kept.tolist()}")
    return str(torchvision.__version__)


def _onnx() -> str:
    import onnx

    onnx.checker.check_model(_identity(), full_check=True)
    return str(onnx.__version__)


def _onnxruntime() -> str:
    import numpy as np

    from prunekit_runtime.running.ort import require_onnxruntime

    runtime = require_onnxruntime()
    session: Any = runtime.InferenceSession(_identity().SerializeToString(), providers=["CPUExecutionProvider"])
    got = session.run(None, {"x": np.full((1, 2), 3.0, np.float32)})[0]
    if not (got == 3).all():
        raise RuntimeError("a copy of numbers gives others")
    others = [name.removesuffix("ExecutionProvider") for name in runtime.get_available_providers()]
    return f"{runtime.__version__}; built with {', '.join(others)}"


def _identity() -> Any:
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _imported(name: str) -> Callable[[], str]:
    def trial() -> str:
        module: Any = importlib.import_module(name)
        return str(getattr(module, "__version__", "installed"))

    return trial


def _program(name: str, *arguments: str) -> Callable[[], str]:
    def trial() -> str:
        found = shutil.which(name)
        if found is None:
            raise ModuleNotFoundError(f"{name} is not in PATH")
        # A program that asks gets the end of a file, and one that hangs is ended.
        options: dict[str, Any] = {"text": True, "timeout": _TIMEOUT_S, "stdin": subprocess.DEVNULL}
        done = subprocess.run([found, *arguments], capture_output=True, check=False, **options)
        said = (done.stdout or done.stderr).strip().splitlines()
        return said[0] if said else found

    return trial


TRIALS: dict[str, tuple[str | None, Callable[[], str], str]] = {
    "torch": ("torch", _torch, "pip install torch torchvision"),
    "torchvision": (
        "torchvision",
        _torchvision,
        "install the pair anew: pip install --force-reinstall torch torchvision",
    ),
    "segmentation-models-pytorch": (
        "segmentation-models-pytorch",
        _imported("segmentation_models_pytorch"),
        "pip install segmentation-models-pytorch",
    ),
    "onnx": ("onnx", _onnx, "pip install onnx"),
    "onnxscript": ("onnxscript", _imported("onnxscript"), "pip install onnxscript"),
    "onnx-graphsurgeon": ("onnx-graphsurgeon", _imported("onnx_graphsurgeon"), "pip install onnx-graphsurgeon"),
    "ONNX Runtime": (None, _onnxruntime, "pip install 'prunekit[ort]', or 'prunekit[ort-gpu]' for a GPU; never both"),
    "matplotlib": ("matplotlib", _imported("matplotlib"), "pip install matplotlib"),
    "transformers": ("transformers", _imported("transformers"), "pip install 'prunekit[hf]'"),
    "OpenCV": (None, _imported("cv2"), "pip install 'prunekit[video]'"),
    "ssh": (None, _program("ssh", "-V"), "install OpenSSH: apt install openssh-client"),
    "rsync": (None, _program("rsync", "--version"), "apt install rsync; without it files go by tar"),
}
"""By subject: the distribution whose version pyproject.toml bounds, what is tried, and what to do where it fails."""
