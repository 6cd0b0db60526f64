"""Which layer feeds which: the exported graph with everything left out but layers and the places where paths meet."""

import warnings
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import Node
from torch.utils import _pytree as pytree

from prunekit.pruning.coupling import Coupling, layer_of

_LAYER_OPS = ("conv", "linear", "embedding")


@dataclass(frozen=True)
class Vertex:
    """A layer, a place where paths meet, the image or the result."""

    kind: Literal["input", "layer", "merge", "output"]
    name: str
    """Name of the layer, or of the op that joins paths ("add", "cat")."""
    detail: str = ""
    """Class and geometry of a layer: "Conv2d 3x3 /2"."""
    widths: str = ""
    """Channels in and out: "64 → 128"."""


@dataclass(frozen=True)
class Flow:
    """Vertices in the order of execution; each edge leads from an earlier to a later one."""

    vertices: tuple[Vertex, ...]
    edges: tuple[tuple[int, int], ...]


def flow(module: nn.Module, example_inputs: tuple[Any, ...], coupling: Coupling) -> Flow:
    """Return how `module` runs in evaluation mode, by the layers of its `coupling`.

    Layers that only training uses follow at the end, without edges.
    """
    program = _export(module, example_inputs)
    makers = tuple(slot.parameter for slot in coupling.slots if slot.role == "out")
    walk = _Walk(module, frozenset(makers))
    walk.run(program)
    drawn = {vertex.name for vertex in walk.vertices if vertex.kind == "layer"}
    for name in dict.fromkeys(layer_of(parameter) or parameter for parameter in makers):
        if name not in drawn:
            walk.vertices.append(_layer_vertex(module, name, " (training only)"))
    return Flow(tuple(walk.vertices), tuple(dict.fromkeys(walk.edges)))


def _export(module: nn.Module, inputs: tuple[Any, ...]) -> ExportedProgram:
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        # With gradients on: without them torch takes fused inference paths that hide the layers.
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")  # the exporter warns about its own internals
            return torch.export.export(module, inputs, strict=False)
    finally:
        for child, training in modes:
            child.training = training


@dataclass
class _Walk:
    """What each node of the graph comes from: a vertex, a parameter on its way to an op, or neither."""

    module: nn.Module
    makers: frozenset[str]
    vertices: list[Vertex] = field(default_factory=list)
    edges: list[tuple[int, int]] = field(default_factory=list)
    source: dict[Node, int] = field(default_factory=dict)
    weight: dict[Node, str] = field(default_factory=dict)

    def run(self, program: ExportedProgram) -> None:
        parameters = program.graph_signature.inputs_to_parameters
        inputs = program.graph_signature.user_inputs
        for node in program.graph_module.graph.nodes:
            if node.op == "placeholder" and node.name in parameters:
                self.weight[node] = parameters[node.name]
            elif node.op == "placeholder" and node.name in inputs:
                self._input(node)
            elif node.op == "call_function":
                self._call(node)
            elif node.op == "output":
                self._add(Vertex("output", "result"), self._sources(node))

    def _input(self, node: Node) -> None:
        value = node.meta.get("val")
        if isinstance(value, Tensor):
            self.source[node] = self._add(Vertex("input", "input", "x".join(str(int(n)) for n in value.shape)), [])

    def _call(self, node: Node) -> None:
        sources = self._sources(node)
        weights = [self.weight[n] for n in node.all_input_nodes if n in self.weight]
        made = [name for name in weights if name in self.makers]
        op = _op_name(node)
        if sources and (made or op.startswith(_LAYER_OPS)):
            name = (made or weights or [f"{_called(node)}.weight"])[0]
            vertex = _layer_vertex(self.module, layer_of(name) or name)
            self.source[node] = self._add(vertex, sources)
        elif len(sources) > 1:
            self.source[node] = self._add(Vertex("merge", op), sources)
        elif sources:
            self.source[node] = sources[0]
        elif len(weights) == 1:
            self.weight[node] = weights[0]

    def _sources(self, node: Node) -> list[int]:
        leaves = pytree.tree_leaves((node.args, node.kwargs))
        return list(dict.fromkeys(self.source[n] for n in leaves if isinstance(n, Node) and n in self.source))

    def _add(self, vertex: Vertex, sources: list[int]) -> int:
        self.vertices.append(vertex)
        number = len(self.vertices) - 1
        self.edges += [(source, number) for source in sources]
        return number


def _op_name(node: Node) -> str:
    packet = getattr(node.target, "overloadpacket", None)
    return str(packet or node.target).rpartition(".")[2].rstrip("_")


def _called(node: Node) -> str:
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]) if stack else node.name


def _layer_vertex(module: nn.Module, name: str, note: str = "") -> Vertex:
    try:
        layer: Any = module.get_submodule(name)
    except AttributeError:
        return Vertex("layer", name, f"Parameter{note}")
    width_in = getattr(layer, "in_channels", getattr(layer, "in_features", None))
    width_out = getattr(layer, "out_channels", getattr(layer, "out_features", None))
    widths = f"{width_in} → {width_out}" if isinstance(width_in, int) and isinstance(width_out, int) else ""
    return Vertex("layer", name, f"{type(layer).__name__}{_geometry(layer)}{note}", widths)


def _geometry(layer: Any) -> str:
    """Return " 3x3 /2 dilation 2 groups 4", what of it differs from the plain case."""
    kernel, groups = getattr(layer, "kernel_size", None), getattr(layer, "groups", 1)
    if not isinstance(kernel, tuple):
        return ""
    text = f" {'x'.join(map(str, kernel))}"
    for what, values in (("/", layer.stride), ("dilation ", getattr(layer, "dilation", (1,)))):
        if max(values) > 1:
            text += f" {what}{values[0] if len(set(values)) == 1 else 'x'.join(map(str, values))}"
    if groups > 1:
        text += " depthwise" if groups == layer.in_channels else f" groups {groups}"
    return text
