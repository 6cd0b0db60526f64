"""Where everything of a network's picture lies: rows from top to bottom, buses for the connections that skip rows.

Lengths are pixels. Text is set in a monospaced font of which `CHARACTER` is the width of one character, so that the
room a text takes is known without a font.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from prunekit.pruning.picture.graph import Flow, Vertex

CHARACTER: Final = 7.25
MARGIN: Final = 24.0
GAP: Final = 16.0
LANE: Final = 12.0
TAG: Final = 38.0
"""Width of the cell that holds a group's number."""
PORT: Final = 7.0
"""Room between two connections that enter the same box from the side."""
MAX_NAME: Final = 52


@dataclass(frozen=True)
class Box:
    """A vertex in its place."""

    number: int
    vertex: Vertex
    groups: tuple[int, ...]
    """Numbers of the groups of its output channels, the largest first."""
    x: float
    y: float
    width: float
    height: float
    name: str
    """The vertex's name, shortened in the middle where it is longer than `MAX_NAME`."""


@dataclass(frozen=True)
class Branch:
    """Where a bus enters a box from the side."""

    x: float
    y: float


@dataclass(frozen=True)
class Bus:
    """Connections of one box to all that do not follow it directly: out, along one lane, into each."""

    source: int
    x_start: float
    y_start: float
    x_lane: float
    branches: tuple[Branch, ...]


@dataclass(frozen=True)
class Columns:
    """Where the texts of a layer begin, from the left edge of its box, and how wide the box is."""

    name: float
    detail: float
    widths: float
    end: float


@dataclass(frozen=True)
class Layout:
    """The picture without its legend."""

    boxes: tuple[Box, ...]
    steps: tuple[tuple[int, int], ...]
    """Connections from a box to the one below it."""
    buses: tuple[Bus, ...]
    columns: Columns
    right: float
    bottom: float


def shortened(name: str, limit: int = MAX_NAME) -> str:
    """Return `name` with its middle left out where it is too long."""
    if len(name) <= limit:
        return name
    half = (limit - 1) // 2
    return f"{name[:half]}…{name[len(name) - (limit - 1 - half) :]}"


def text_width(text: str) -> float:
    """Return the room a text takes."""
    return len(text) * CHARACTER


def arrange(flow: Flow, groups: Sequence[tuple[int, ...]], top: float) -> Layout:
    """Place a network.

    Args:
        flow: the network.
        groups: the groups of each vertex's output channels.
        top: y of the first box.
    """
    columns = _columns(flow, groups)
    width = columns.end
    entering = _entering(flow)
    boxes: list[Box] = []
    y = top
    for number, vertex in enumerate(flow.vertices):
        height = max(28.0 if vertex.kind == "layer" else 22.0, 10.0 + PORT * (len(entering[number]) + 1))
        own_width = width if vertex.kind == "layer" else 16.0 + text_width(_short_text(vertex))
        x = MARGIN + (0 if vertex.kind == "layer" else (width - own_width) / 2)
        boxes.append(Box(number, vertex, groups[number], x, y, own_width, height, shortened(vertex.name)))
        y += height + GAP
    steps = tuple((a, b) for a, b in flow.edges if b == a + 1)
    buses = _buses(boxes, entering, MARGIN + width + 14.0)
    right = max([MARGIN + width, *(bus.x_lane for bus in buses)])
    return Layout(tuple(boxes), steps, buses, columns, right + MARGIN, y)


def _short_text(vertex: Vertex) -> str:
    return f"{shortened(vertex.name)} {vertex.detail}".strip()


def _columns(flow: Flow, groups: Sequence[tuple[int, ...]]) -> Columns:
    layers = [vertex for vertex in flow.vertices if vertex.kind == "layer"]
    name = max((len(own) for own in groups), default=1) * TAG + 10
    detail = name + 22 + max((text_width(shortened(vertex.name)) for vertex in layers), default=0.0)
    widths = detail + 22 + max((text_width(vertex.detail) for vertex in layers), default=0.0)
    return Columns(name, detail, widths, widths + 10 + max((text_width(v.widths) for v in layers), default=0.0))


def _entering(flow: Flow) -> list[list[int]]:
    """Return for each vertex the sources that reach it from the side, the nearest first."""
    entering: list[list[int]] = [[] for _ in flow.vertices]
    for source, target in flow.edges:
        if target != source + 1:
            entering[target].append(source)
    return [sorted(sources, reverse=True) for sources in entering]


def _buses(boxes: Sequence[Box], entering: Sequence[Sequence[int]], x_first: float) -> tuple[Bus, ...]:
    """Give each source one lane; short buses lie inside, and buses that share a lane do not touch."""
    targets: dict[int, list[int]] = {}
    for target, sources in enumerate(entering):
        for source in sources:
            targets.setdefault(source, []).append(target)
    lanes: list[list[tuple[int, int]]] = []
    buses: list[Bus] = []
    for source in sorted(targets, key=lambda s: (max(targets[s]) - s, s)):
        span = (source, max(targets[source]))
        lane = next((n for n, taken in enumerate(lanes) if all(_apart(span, other) for other in taken)), len(lanes))
        if lane == len(lanes):
            lanes.append([])
        lanes[lane].append(span)
        box = boxes[source]
        branches = tuple(_branch(boxes[target], entering[target].index(source)) for target in targets[source])
        y_start = box.y + box.height - 5
        # From the middle: boxes are painted over the lines, and the ends of those that are no layer are round.
        buses.append(Bus(source, box.x + box.width / 2, y_start, x_first + LANE * lane, branches))
    return tuple(buses)


def _apart(span: tuple[int, int], other: tuple[int, int]) -> bool:
    return span[1] < other[0] or other[1] < span[0]


def _branch(box: Box, place: int) -> Branch:
    # The lowest strip of a box is where its own bus leaves; the longest connection enters at the top.
    return Branch(box.x + box.width, box.y + box.height - 5 - PORT * (place + 1))
