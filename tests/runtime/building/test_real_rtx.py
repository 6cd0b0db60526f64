"""The compiler with a real TensorRT-RTX, which builds ahead of time without a GPU.

This proves that the calls of reading and building are those of the real bindings: parser, strong types, metadata of
layers, profile, TF32, workspace, level, monitor, messages, cancelling. Loading the plan, its inspector and TensorRT's
timing cache take a GPU and are not run here.
"""

import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunekit_runtime.building.compiling import Compiler, network_layers
from prunekit_runtime.building.layers import refuse_parsed_precision
from prunekit_runtime.building.package import TensorRt
from prunekit_runtime.building.settings import BuildOptions, Profile
from prunekit_runtime.errors import BuildError
from prunekit_runtime.running.plan import sniff_plan

PROFILE = Profile((1, 3, 16, 16), (1, 3, 32, 48), (2, 3, 64, 96))


@pytest.fixture
def rtx() -> TensorRt:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package's own imports warn, and that is not ours to judge
        module: Any = pytest.importorskip("tensorrt_rtx")
    return TensorRt(module, "tensorrt_rtx", module.__version__)


@pytest.fixture
def compiler(rtx: TensorRt) -> Callable[..., Compiler]:
    return lambda said=None, stop=None: Compiler(
        rtx, said.append if said is not None else lambda _: None, stop or threading.Event()
    )


def test_a_file_becomes_a_plan_with_every_setting_read_back(
    compiler: Callable[..., Compiler], write_onnx: Any, rtx: TensorRt
) -> None:
    said: list[str] = []
    made = compiler(said)
    network = made.parse(write_onnx().read_bytes(), "logits.fp32")
    [layer] = [layer for layer in network_layers(network) if layer.kind == "CONVOLUTION"]
    assert layer.dtype == "FLOAT"
    options = BuildOptions(optimization_level=2)
    plan, resolved = made.build(network, PROFILE, options, 256, b"")
    header = sniff_plan(plan)
    assert (header.package, header.version) == ("tensorrt_rtx", rtx.version)
    assert (resolved.tf32, resolved.optimization_level, resolved.workspace_mib) == (False, 2, 256)
    assert resolved.timing_cache is None
    assert any(text.startswith("Building engine 0/") for text in said)


def test_tf32_is_on_when_asked_for(compiler: Callable[..., Compiler], write_onnx: Any) -> None:
    made = compiler()
    network = made.parse(write_onnx().read_bytes(), "x")
    assert made.build(network, PROFILE, BuildOptions(tf32=True), None, b"")[1].tf32


def test_an_fp16_file_is_read_as_fp16(compiler: Callable[..., Compiler], write_onnx: Any) -> None:
    made = compiler()
    network = made.parse(write_onnx(half=True).read_bytes(), "x")
    layers = network_layers(network)
    assert [layer.dtype for layer in layers if layer.kind == "CONVOLUTION"] == ["HALF"]
    refuse_parsed_precision("fp16", layers)


def test_an_fp32_file_is_no_fp16_model(compiler: Callable[..., Compiler], write_onnx: Any) -> None:
    made = compiler()
    network = made.parse(write_onnx().read_bytes(), "x")
    with pytest.raises(BuildError, match="reads the convolutions and matrix products of the file as 1 fp32"):
        refuse_parsed_precision("fp16", network_layers(network))


def test_a_file_that_is_none_is_one_sentence(compiler: Callable[..., Compiler], tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="cannot read junk"):
        compiler().parse(b"no onnx", "junk")


def test_sizes_that_do_not_fit_the_file_are_refused_with_its_words(
    compiler: Callable[..., Compiler], write_onnx: Any
) -> None:
    made = compiler()
    network = made.parse(write_onnx(height=16, width=24).read_bytes(), "x")
    with pytest.raises(BuildError, match=r"(refuses the sizes|could not build).*:"):
        made.build(network, PROFILE, BuildOptions(), None, b"")


def test_a_build_that_is_told_to_stop_ends_without_a_plan(compiler: Callable[..., Compiler], write_onnx: Any) -> None:
    stop = threading.Event()
    stop.set()
    made = compiler(stop=stop)
    network = made.parse(write_onnx().read_bytes(), "x")
    with pytest.raises(BuildError, match="could not build the engine"):
        made.build(network, PROFILE, BuildOptions(), None, b"")


def test_without_a_gpu_loading_the_plan_is_refused_with_cudas_words(
    compiler: Callable[..., Compiler], write_onnx: Any
) -> None:
    from prunekit_runtime.running.gpu import describe_gpu

    if describe_gpu().name is not None:
        pytest.skip("a GPU is here, so the plan may load")
    made = compiler()
    network = made.parse(write_onnx().read_bytes(), "x")
    plan, _ = made.build(network, PROFILE, BuildOptions(), None, b"")
    with pytest.raises(BuildError, match=r"does not load on this GPU: .*CUDA driver"):
        made.inspect(plan, PROFILE)
