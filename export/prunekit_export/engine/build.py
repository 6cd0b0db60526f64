"""Build an engine from an ONNX file: one module for TensorRT 10.3 to 11 and TensorRT-RTX, always strongly typed.

The precision is in the file; no precision flag is ever set. Only names that every supported version has are used
(tests/export/engine/test_engine_api.py holds them against the recorded surfaces), but for RTX's targets.
"""

from __future__ import annotations

import collections
import ctypes
import hashlib
import importlib.util
import json
from typing import TYPE_CHECKING, Any, Literal

from prunekit.run import write_atomically
from prunekit_export.engine.options import USUAL, EngineOptions, apply_, timings
from prunekit_export.engine.report import EngineReport, Package, Profile
from prunekit_export.errors import EngineError, EngineUsageError
from prunekit_export.graph import value_dims
from prunekit_export.precision import macs_by_type, precision_name, shares
from prunekit_export.require import require

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import onnx

_FLOAT_PRODUCTS = ("CONVOLUTION:FLOAT", "DECONVOLUTION:FLOAT", "MATRIX_MULTIPLY:FLOAT")
_NOT_INSTALLED = (
    "No TensorRT is installed, so no engine can be built here. "
    'For RTX cards, and ahead of time without a GPU: pip install "prunekit[rtx]"; '
    'for a machine with an NVIDIA GPU: pip install "prunekit[trt]"; on a Jetson use the system package.'
)


def build_engine(
    onnx_path: Path,
    plan_path: Path,
    *,
    profile: Profile,
    options: EngineOptions = USUAL,
    on_progress: Callable[[str], None] | None = None,
) -> EngineReport:
    """Build the engine and write it with a sidecar, `plan_path` + ".json".

    Args:
        onnx_path: the file; its types are the engine's.
        plan_path: the engine, replaced atomically.
        profile: sizes it takes; for an input of fixed size all three are that size.
        options: how to build; the report says what "auto" has chosen.
        on_progress: told the phases of the build.

    Raises:
        EngineError: no package, the file keeps weights elsewhere, the parser refuses a node or takes it in another
            type than the file says, the profile is impossible, an option is unknown to it, or the build fails.
    """
    import onnx

    chosen, choice = choose_package(options.package)
    trt = require(chosen)
    content = onnx_path.read_bytes()
    model = onnx.load_model_from_string(content)
    _refuse_external(model, onnx_path)
    _check_profile(model, profile)
    builder = _Builder(trt, on_progress or (lambda _: None), options)
    targets = options.targets if chosen == "tensorrt_rtx" else ()
    network = builder.parse(content)
    layers, macs = _layers(network), shares(macs_by_type(model, profile.optimum))
    _check_types(layers, macs)
    plan = builder.build(network, profile, targets)
    report = EngineReport(
        plan=plan_path.name,
        plan_bytes=len(plan),
        package=chosen,
        package_choice=choice,
        version=str(trt.__version__),
        onnx=onnx_path.name,
        onnx_sha256=hashlib.sha256(content).hexdigest(),
        precision=precision_name(model, macs),
        macs=macs,
        strongly_typed=True,
        tf32=builder.tf32,
        profile=profile,
        targets=targets or ("this machine's GPU",),
        options=options.to_json(),
        layers=layers,
        statement=_statement(chosen, str(trt.__version__), targets),
    )
    write_atomically(plan_path, plan)
    write_atomically(sidecar_path(plan_path), json.dumps(report.to_json(), indent=2).encode())
    return report


def sidecar_path(plan_path: Path) -> Path:
    """Return where the description of an engine lies."""
    return plan_path.with_name(plan_path.name + ".json")


def choose_package(package: Package | Literal["auto"]) -> tuple[Package, str]:
    """Return the package to build with, and why it is that one.

    Raises:
        EngineError: none is installed, or only TensorRT without a GPU, which it needs to build.
    """
    if package != "auto":
        return package, "named"
    installed = [name for name in ("tensorrt", "tensorrt_rtx") if importlib.util.find_spec(name)]
    if not installed:
        raise EngineUsageError(_NOT_INSTALLED)
    gpu = has_gpu()
    if "tensorrt" in installed and gpu:
        return "tensorrt", "auto: TensorRT is installed and there is a GPU"
    if "tensorrt_rtx" in installed:
        reason = "TensorRT is not installed" if "tensorrt" not in installed else "there is no GPU"
        return "tensorrt_rtx", f"auto: {reason}, TensorRT-RTX builds ahead of time"
    raise EngineUsageError(
        "TensorRT is installed, but there is no GPU, which it needs to time its kernels. "
        'Build on the device, or ahead of time for RTX cards: pip install "prunekit[rtx]"'
    )


def has_gpu() -> bool:
    """Say whether the CUDA driver is here and finds a device."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def _refuse_external(model: onnx.ModelProto, path: Path) -> None:
    # TensorRT would look for them where the command was started.
    outside = next((tensor.name for tensor in model.graph.initializer if tensor.external_data), None)
    if outside is not None:
        raise EngineError(
            f"{path} keeps weights ({outside}) in another file. Put all into one, as prunekit export does."
        )


def _check_types(layers: dict[str, int], macs: dict[str, float]) -> None:
    """Refuse a network whose products are float32 although the file has none: the engine would be slow in silence."""
    full = [kind for kind in layers if kind in _FLOAT_PRODUCTS]
    half = next((name for name in ("fp16", "bf16") if macs.get(name) == 1), None)
    if full and half:
        raise EngineError(f"The file computes in {half}, but TensorRT reads it as {', '.join(full)}. Update TensorRT.")


def _check_profile(model: onnx.ModelProto, profile: Profile) -> None:
    dims = value_dims(model.graph.input[0])
    shapes = (profile.minimum, profile.optimum, profile.maximum)
    for axis, dim in enumerate(dims):
        low, best, high = (shape[axis] for shape in shapes)
        fits = (low, best, high) == (dim,) * 3 if isinstance(dim, int) else 1 <= low <= best <= high
        if not fits:
            wanted = f"{dim} three times" if isinstance(dim, int) else "1 <= minimum <= optimum <= maximum"
            raise EngineError(f"The profile's axis {axis} is {low}, {best}, {high}; the file asks for {wanted}.")


class _Builder:
    """The builder objects, which must outlive one another, and what they said."""

    def __init__(self, trt: Any, on_progress: Callable[[str], None], options: EngineOptions) -> None:
        self.trt = trt
        self.options = options
        self.tf32 = options.tf32
        self.messages: list[str] = []
        self.logger = _logger(trt, self.messages)
        self.progress = _progress(trt, on_progress)
        try:
            self.builder = trt.Builder(self.logger)
        except TypeError as error:  # how pybind11 says that the C++ factory gave nothing
            raise EngineError(f"{trt.__name__} cannot start here{self._said()}. Does it find its GPU?") from error

    def parse(self, content: bytes) -> Any:
        """Return the network, strongly typed."""
        trt = self.trt
        # By name, never by number: the value is 1 in TensorRT 10 and 0 in 11, where 1 means another flag.
        network = self.builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        self.parser = trt.OnnxParser(network, self.logger)
        if not self.parser.parse(content):
            errors = [_parser_error(self.parser.get_error(index)) for index in range(self.parser.num_errors)]
            raise EngineError(f"{trt.__name__} {trt.__version__} cannot parse the file: " + "; ".join(errors))
        return network

    def build(self, network: Any, profile: Profile, targets: Sequence[str]) -> bytes:
        """Return the plan."""
        config = self.builder.create_builder_config()
        config.progress_monitor = self.progress
        self._set_tf32_(config)
        apply_(self.trt, config, self.options)
        self._add_profile_(config, network.get_input(0).name, profile)
        self._add_targets_(config, targets)
        plan = self.builder.build_serialized_network(network, config)
        if plan is None:
            raise EngineError(f"{self.trt.__name__} {self.trt.__version__} could not build the engine{self._said()}.")
        if self.options.timing_cache is not None:
            write_atomically(self.options.timing_cache, timings(config))
        return bytes(plan)

    def _set_tf32_(self, config: Any) -> None:
        flag = self.trt.BuilderFlag.TF32  # on in a fresh configuration
        if not self.tf32:
            config.clear_flag(flag)
        self.tf32 = bool(config.get_flag(flag))  # as it was taken, which is what the report says

    def _add_profile_(self, config: Any, name: str, profile: Profile) -> None:
        shapes = self.builder.create_optimization_profile()
        shapes.set_shape(name, profile.minimum, profile.optimum, profile.maximum)
        # An impossible profile gives -1, and the build would go on without it.
        if config.add_optimization_profile(shapes) < 0:
            raise EngineError(f"{self.trt.__name__} refuses the profile {profile}{self._said()}.")

    def _add_targets_(self, config: Any, targets: Sequence[str]) -> None:
        if not targets:
            return
        known = self.trt.ComputeCapability.__members__
        unknown = [target for target in targets if target not in known or not target.startswith("SM")]
        if unknown:
            choices = ", ".join(name for name in known if name.startswith("SM"))
            raise EngineUsageError(f"{', '.join(unknown)} is not a target of TensorRT-RTX. Choose from {choices}.")
        config.num_compute_capabilities = len(targets)
        for index, target in enumerate(targets):
            if not config.set_compute_capability(known[target], index):
                raise EngineError(
                    f"TensorRT-RTX {self.trt.__version__} does not take the target {target}{self._said()}."
                )

    def _said(self) -> str:
        # Later errors only say that an earlier one happened; the first has the reason.
        return f": {' '.join(self.messages[0].split())[:600]}" if self.messages else ""


def _parser_error(error: Any) -> str:
    node = f"node {error.node_name()} ({error.node_operator()}): " if error.node_name() else ""
    return f"{node}{error.desc()}"


def _logger(trt: Any, messages: list[str]) -> Any:
    """Return a logger that collects errors in `messages`."""

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # pybind11 wants the base called by name

        def log(self, severity: Any, msg: str) -> None:
            if int(severity) <= int(trt.ILogger.ERROR):
                messages.append(msg)

    return Logger()


def _progress(trt: Any, on_progress: Callable[[str], None]) -> Any:
    """Return a monitor that tells each phase of the two outer levels as it starts."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.outer: set[str | None] = {None}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            del num_steps
            if parent_phase is None:
                self.outer.add(phase_name)
            if parent_phase in self.outer:
                on_progress(phase_name)

        def phase_finish(self, phase_name: str) -> None:
            del phase_name

        def step_complete(self, phase_name: str, step: int) -> bool:
            del phase_name, step
            return True  # False cancels the build

    return Monitor()


def _layers(network: Any) -> dict[str, int]:
    """Count the parsed network's layers by type and output type, "CONVOLUTION:HALF": 14."""
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    kinds = collections.Counter(f"{layer.type.name}:{layer.get_output(0).dtype.name}" for layer in layers)
    return dict(sorted(kinds.items()))


def _statement(package: Package, version: str, targets: Sequence[str]) -> str:
    if package == "tensorrt_rtx":
        return f"built ahead of time for {', '.join(targets)} with TensorRT-RTX {version}; not run"
    return f"built on this machine's GPU with TensorRT {version}; not run"
