"""TensorRT's builder: an ONNX file in, a plan out, always strongly typed; and what the plan's own inspector says.

The precision is in the file; no precision flag is ever set. Only names that TensorRT 10.3 to 11.4 and TensorRT-RTX 1.7
share are used, which tests hold against recordings of their surfaces.
"""

import json
import threading
from dataclasses import dataclass, field
from typing import Any

from prunekit_runtime.building.layers import NetworkLayer
from prunekit_runtime.building.package import TensorRt
from prunekit_runtime.building.settings import BuildOptions, Profile
from prunekit_runtime.building.told import Messages, OnStep, make_logger, make_monitor
from prunekit_runtime.errors import BuildError
from prunekit_runtime.running.runner import show_shape
from prunekit_runtime.text import printable_name

_SHOWN_ERRORS = 3
_MIB = 1 << 20


@dataclass
class Resolved:
    """What TensorRT was really given, read back from its configuration."""

    tf32: bool
    optimization_level: int
    workspace_mib: int
    timing_cache: bytes | None = None
    timing_cache_taken: bool = False


@dataclass
class Compiler:
    """The builder objects of one build, which must outlive one another, and what they said."""

    tensorrt: TensorRt
    on_step: OnStep
    stop: threading.Event
    messages: Messages = field(default_factory=Messages)

    def __post_init__(self) -> None:
        trt = self.tensorrt.module
        self.logger = make_logger(trt, self.messages)
        self.monitor = make_monitor(trt, self.on_step, self.stop) if hasattr(trt, "IProgressMonitor") else None
        try:
            self.builder = trt.Builder(self.logger)
        except TypeError as error:  # how pybind11 says that the C++ factory gave nothing
            raise BuildError(
                f"{self._name()} cannot start here{self.messages.said()}. Does it find its GPU?"
            ) from error

    def parse(self, content: bytes, name: str) -> Any:
        """Return the network.

        Raises:
            BuildError: the parser refuses it, or it has not one input.
        """
        trt = self.tensorrt.module
        self.on_step(f"reading {printable_name(name)}")
        # By name, never by number: the value is 1 in TensorRT 10 and 0 in 11, where 1 means another flag.
        network = self.builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        self.parser = trt.OnnxParser(network, self.logger)
        if not self.parser.parse(content):
            shown = range(min(self.parser.num_errors, _SHOWN_ERRORS))
            errors = "; ".join(_parser_error(self.parser.get_error(number)) for number in shown)
            raise BuildError(
                f"{self._name()} cannot read {name}: {errors or 'it gives no reason'}. A newer TensorRT may know it; "
                "--backend ort runs the file on the CPU."
            )
        if network.num_inputs != 1:
            raise BuildError(f"{name} has {network.num_inputs} inputs, not one. Export it with prunekit export.")
        return network

    def build(
        self, network: Any, profile: Profile, options: BuildOptions, workspace_mib: int | None, cache: bytes
    ) -> "tuple[bytes, Resolved]":
        """Return the plan, and what it was built with.

        Args:
            network: as `parse` returns it.
            profile: sizes to build for.
            options: as asked.
            workspace_mib: the limit; None leaves TensorRT's own.
            cache: timings of earlier builds on this machine, or nothing.

        Raises:
            BuildError: a setting is refused or the build fails; the message holds TensorRT's last words.
        """
        trt, config = self.tensorrt.module, self.builder.create_builder_config()
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        if not options.tf32:
            config.clear_flag(trt.BuilderFlag.TF32)  # on in a fresh configuration
        if options.optimization_level is not None:
            config.builder_optimization_level = options.optimization_level
        if workspace_mib is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mib * _MIB)
        if self.monitor is not None:
            config.progress_monitor = self.monitor
        self._add_profile_(config, network.get_input(0).name, profile)
        taken = self._add_cache_(config, cache)
        resolved = Resolved(
            tf32=bool(config.get_flag(trt.BuilderFlag.TF32)),
            optimization_level=int(config.builder_optimization_level),
            workspace_mib=int(config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE)) // _MIB,
            timing_cache_taken=taken,
        )
        plan = self.builder.build_serialized_network(network, config)
        if plan is None:
            raise BuildError(
                f"{self._name()} could not build the engine{self.messages.said()}. "
                "Where memory is short, close other programs or give a smaller --workspace."
            )
        resolved.timing_cache = self._timings(config)
        return bytes(plan), resolved

    def inspect(self, plan: bytes, profile: Profile) -> list[Any]:
        """Load a plan, at the sizes it is tuned for, and return what its inspector says of each layer, as plain values.

        What is no JSON comes back as its text: names are written into it by others, and not always escaped.

        Raises:
            BuildError: the plan does not load, or not at these sizes.
        """
        trt = self.tensorrt.module
        runtime = trt.Runtime(self.logger)
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise BuildError(f"The engine was built, and does not load on this GPU{self.messages.said()}.")
        context = engine.create_execution_context()
        if context is None:
            raise BuildError(f"The engine was built, and has no room on this GPU{self.messages.said()}.")
        # Without sizes the inspector tells no types: "N/A due to dynamic shapes".
        if not context.set_input_shape(_input_name(trt, engine), profile.optimum):
            raise BuildError(f"The engine does not take {show_shape(profile.optimum)}{self.messages.said()}.")
        inspector = engine.create_engine_inspector()
        inspector.execution_context = context
        as_json = trt.LayerInformationFormat.JSON
        return [_value(inspector.get_layer_information(number, as_json)) for number in range(engine.num_layers)]

    def _add_profile_(self, config: Any, name: str, profile: Profile) -> None:
        shapes = self.builder.create_optimization_profile()
        shapes.set_shape(name, profile.minimum, profile.optimum, profile.maximum)
        # An impossible profile gives -1, and the build would go on without it.
        if config.add_optimization_profile(shapes) < 0:
            raise BuildError(f"{self._name()} refuses the sizes {profile.to_json()}{self.messages.said()}.")

    def _add_cache_(self, config: Any, content: bytes) -> bool:
        """Hand in earlier timings; whether they were taken. TensorRT-RTX times nothing when it builds."""
        if self.tensorrt.package != "tensorrt":
            return False
        if content and config.set_timing_cache(config.create_timing_cache(content), False):
            return True
        config.set_timing_cache(config.create_timing_cache(b""), False)
        return False

    def _timings(self, config: Any) -> bytes | None:
        if self.tensorrt.package != "tensorrt":
            return None
        cache = config.get_timing_cache()
        return None if cache is None else bytes(cache.serialize())

    def _name(self) -> str:
        return f"{self.tensorrt.package} {self.tensorrt.version}"


def network_layers(network: Any) -> "list[NetworkLayer]":
    """Return kind, type and ONNX nodes of each layer of a parsed network."""
    found: "list[NetworkLayer]" = []
    for number in range(network.num_layers):
        layer = network.get_layer(number)
        kind, dtype = layer.type.name, layer.get_output(0).dtype.name
        found.append(NetworkLayer(str(layer.name), str(layer.metadata), str(kind), str(dtype)))
    return found


def _input_name(trt: Any, engine: Any) -> str:
    names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
    return next(name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _parser_error(error: Any) -> str:
    node = f"node {error.node_name()} ({error.node_operator()}): " if error.node_name() else ""
    return printable_name(f"{node}{error.desc()}").rstrip(". ")[:600]
