"""Engines built ahead of time with TensorRT-RTX, where it is installed; what it says is tested, not what it runs."""

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from torch import nn

from prunekit.models.segmenter import Segmenter
from prunekit_export.engine import DEFAULT_TARGETS, EngineOptions, Profile, build_engine, choose_package
from prunekit_export.engine import build as engine
from prunekit_export.engine.build import sidecar_path
from prunekit_export.errors import EngineError
from prunekit_export.graph import ExportReport, export_onnx, save_onnx
from prunekit_export.precision import HALVES, HalfPass, NewerOpsetPass
from prunekit_runtime.running.plan import read_plan_header

needs_rtx = pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
DYNAMIC = Profile((1, 3, 16, 16), (1, 3, 32, 48), (2, 3, 64, 96))
RTX = EngineOptions(package="tensorrt_rtx")
RTX_86 = EngineOptions(package="tensorrt_rtx", targets=("SM86",))
STATIC = Profile(*[(2, 3, 33, 47)] * 3)


def installed(monkeypatch: pytest.MonkeyPatch, *packages: str, gpu: bool) -> None:
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: name if name in packages else None)
    monkeypatch.setattr(engine, "has_gpu", lambda: gpu)


@needs_rtx
def test_fp16_engine_and_its_sidecar(dynamic_file: ExportReport, tmp_path: Path) -> None:
    half = save_onnx(HalfPass()(onnx.load_model(dynamic_file.path)).model, tmp_path / "half.onnx")
    phases: list[str] = []
    plan = tmp_path / "half.plan"
    report = build_engine(
        half.path,
        plan,
        profile=DYNAMIC,
        options=EngineOptions(package="tensorrt_rtx", targets=("SM86", "SM120")),
        on_progress=phases.append,
    )
    assert json.loads(sidecar_path(plan).read_text()) == json.loads(json.dumps(report.to_json()))
    assert report.layers["CONVOLUTION:HALF"] == 3
    assert "CONVOLUTION:FLOAT" not in report.layers
    assert report.precision == "fp16"
    assert report.onnx_sha256 == half.sha256 == hashlib.sha256(half.path.read_bytes()).hexdigest()
    assert report.statement == f"built ahead of time for SM86, SM120 with TensorRT-RTX {report.version}; not run"
    header = read_plan_header(plan)
    assert (header.package, header.version) == ("tensorrt_rtx", report.version)
    assert plan.stat().st_size == report.plan_bytes
    assert "Building engine" in phases


@needs_rtx
def test_fp32_engine_is_fp32_throughout(static_file: ExportReport, tmp_path: Path) -> None:
    report = build_engine(static_file.path, tmp_path / "full.plan", profile=STATIC, options=RTX)
    assert report.layers["CONVOLUTION:FLOAT"] == 3
    assert not [kind for kind in report.layers if kind.endswith(":HALF")]
    assert report.precision == "fp32"
    assert report.targets == DEFAULT_TARGETS
    assert not report.tf32


@needs_rtx
@pytest.mark.parametrize("tf32", [False, True])
def test_tf32_is_off_unless_asked_for_and_the_sidecar_says_so(
    static_file: ExportReport, tmp_path: Path, tf32: bool
) -> None:
    plan = tmp_path / "x.plan"
    report = build_engine(
        static_file.path, plan, profile=STATIC, options=EngineOptions(package="tensorrt_rtx", tf32=tf32)
    )
    assert (report.tf32, json.loads(sidecar_path(plan).read_text())["tf32"]) == (tf32, tf32)


@needs_rtx
def test_the_input_may_have_any_name(static_file: ExportReport, tmp_path: Path) -> None:
    model = onnx.load_model(static_file.path)
    old = model.graph.input[0].name
    for node in model.graph.node:
        node.input[:] = ["picture" if name == old else name for name in node.input]
    model.graph.input[0].name = "picture"
    onnx.save_model(model, tmp_path / "x.onnx")
    assert build_engine(tmp_path / "x.onnx", tmp_path / "x.plan", profile=STATIC, options=RTX).plan_bytes


@needs_rtx
@pytest.mark.parametrize(("precision", "kind"), [("fp32", "FLOAT"), ("fp16", "HALF"), ("bf16", "BF16")])
def test_file_that_pads_itself_becomes_an_engine_of_any_size(
    tiny_net: nn.Module, tmp_path: Path, precision: str, kind: str
) -> None:
    net = Segmenter(tiny_net, 5, 8)
    source = export_onnx(net, tmp_path / "full.onnx", height=32, width=48, dynamic=True, stride=8).path
    if precision != "fp32":
        model = onnx.load_model(source)
        model = NewerOpsetPass()(model).model if precision == "bf16" else model
        source = save_onnx(HalfPass(half=HALVES[precision])(model).model, tmp_path / "half.onnx").path
    profile = Profile((1, 3, 17, 21), (1, 3, 32, 48), (2, 3, 65, 99))
    report = build_engine(source, tmp_path / "x.plan", profile=profile, options=RTX_86)
    assert report.macs == {precision: 1}
    assert report.layers[f"CONVOLUTION:{kind}"] == 3


@needs_rtx
def test_sidecar_says_what_stays_in_float32(static_file: ExportReport, tmp_path: Path) -> None:
    model = onnx.load_model(static_file.path)
    kept = frozenset({next(node.name for node in model.graph.node if node.op_type == "Conv")})
    half = save_onnx(HalfPass(kept)(model).model, tmp_path / "half.onnx")
    report = build_engine(half.path, tmp_path / "x.plan", profile=STATIC, options=RTX_86)
    assert report.precision == "mixed"
    assert 0 < report.macs["fp32"] < 1
    assert (report.layers["CONVOLUTION:HALF"], report.layers["CONVOLUTION:FLOAT"]) == (2, 1)


def test_engine_that_would_compute_in_another_type_is_refused() -> None:
    layers = {"CONVOLUTION:FLOAT": 2, "CAST:FLOAT": 1}
    engine._check_types(layers, {"fp16": 0.5, "fp32": 0.5})
    engine._check_types({"CONVOLUTION:HALF": 2, "CAST:FLOAT": 1}, {"fp16": 1.0})
    with pytest.raises(EngineError, match="computes in fp16, but TensorRT reads it as CONVOLUTION:FLOAT"):
        engine._check_types(layers, {"fp16": 1.0})
    with pytest.raises(EngineError, match="computes in bf16"):
        engine._check_types(layers, {"bf16": 1.0})


@needs_rtx
def test_weights_in_another_file_are_refused(static_file: ExportReport, tmp_path: Path) -> None:
    model = onnx.load_model(static_file.path)
    onnx.save_model(model, tmp_path / "x.onnx", save_as_external_data=True, location="secret", size_threshold=0)
    with pytest.raises(EngineError, match="in another file"):
        build_engine(tmp_path / "x.onnx", tmp_path / "x.plan", profile=STATIC, options=RTX)


@needs_rtx
def test_unknown_target_names_the_choices(static_file: ExportReport, tmp_path: Path) -> None:
    for target in ("SM87", "CURRENT"):
        with pytest.raises(EngineError, match=f"{target} is not a target of TensorRT-RTX.*SM86"):
            build_engine(
                static_file.path,
                tmp_path / "x.plan",
                profile=STATIC,
                options=EngineOptions(package="tensorrt_rtx", targets=(target,)),
            )
    assert not list(tmp_path.iterdir())


@needs_rtx
def test_parser_error_names_the_node(static_file: ExportReport, tmp_path: Path) -> None:
    model = onnx.load_model(static_file.path)
    node = next(node for node in model.graph.node if node.op_type == "Relu")
    node.op_type, node.name = "Det", "strange"
    path = tmp_path / "strange.onnx"
    onnx.save_model(model, path)
    with pytest.raises(EngineError, match=r"cannot parse the file: node strange \(Det\)"):
        build_engine(path, tmp_path / "x.plan", profile=STATIC, options=RTX)


@pytest.mark.parametrize(
    ("profile", "axis"),
    [
        (Profile((1, 3, 33, 47), (2, 3, 33, 47), (2, 3, 33, 47)), 0),
        (Profile((2, 3, 33, 47), (2, 3, 33, 47), (2, 3, 33, 48)), 3),
    ],
)
def test_profile_of_a_fixed_file_is_its_size(
    static_file: ExportReport, tmp_path: Path, profile: Profile, axis: int
) -> None:
    pytest.importorskip("tensorrt_rtx")
    with pytest.raises(EngineError, match=f"axis {axis} is .* three times"):
        build_engine(static_file.path, tmp_path / "x.plan", profile=profile, options=RTX)


@needs_rtx
def test_profile_out_of_order_is_refused(dynamic_file: ExportReport, tmp_path: Path) -> None:
    wrong = Profile((2, 3, 16, 16), (1, 3, 32, 48), (2, 3, 64, 96))
    with pytest.raises(EngineError, match="axis 0 is 2, 1, 2; the file asks for 1 <= minimum"):
        build_engine(dynamic_file.path, tmp_path / "x.plan", profile=wrong, options=RTX)


def test_no_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, gpu=True)
    with pytest.raises(EngineError, match=r"prunekit\[rtx\].*prunekit\[trt\].*Jetson"):
        choose_package("auto")


def test_tensorrt_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "tensorrt", gpu=False)
    with pytest.raises(EngineError, match="there is no GPU"):
        choose_package("auto")


@pytest.mark.parametrize(
    ("packages", "gpu", "chosen"),
    [
        (("tensorrt",), True, "tensorrt"),
        (("tensorrt", "tensorrt_rtx"), True, "tensorrt"),
        (("tensorrt", "tensorrt_rtx"), False, "tensorrt_rtx"),
        (("tensorrt_rtx",), True, "tensorrt_rtx"),
        (("tensorrt_rtx",), False, "tensorrt_rtx"),
    ],
)
def test_auto_gives_its_choice_and_reason(
    monkeypatch: pytest.MonkeyPatch, packages: tuple[str, ...], gpu: bool, chosen: str
) -> None:
    installed(monkeypatch, *packages, gpu=gpu)
    package, reason = choose_package("auto")
    assert package == chosen
    assert reason.startswith("auto: ")


def test_named_package_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "tensorrt_rtx", gpu=False)
    assert choose_package("tensorrt") == ("tensorrt", "named")


def test_strongly_typed_by_name_whatever_its_number(static_file: ExportReport) -> None:
    class Flags:
        STRONGLY_TYPED = 1  # TensorRT 10

    class Parser:
        def __init__(self, network: Any, logger: Any) -> None: ...

        def parse(self, content: bytes) -> bool:  # noqa: ARG002  TensorRT's signature
            return True

    class Builder:
        def __init__(self, logger: Any) -> None: ...

        def create_network(self, flags: int) -> int:
            return flags

    class Base:
        def __init__(self) -> None: ...

    trt: Any = type(
        "trt",
        (),
        {
            "NetworkDefinitionCreationFlag": Flags,
            "Builder": Builder,
            "OnnxParser": Parser,
            "ILogger": Base,
            "IProgressMonitor": Base,
        },
    )
    assert engine._Builder(trt, lambda _: None, EngineOptions()).parse(b"") == 0b10
