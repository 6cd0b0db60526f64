"""A picture is well-formed, names everything, overlaps nothing; names cannot break out of it."""

import itertools
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import nn

from prunekit.pruning import analyse
from prunekit.pruning.picture import GroupRow, Inspection, draw_dot, draw_svg, flow, inspection
from prunekit.pruning.picture.graph import Flow, Vertex
from prunekit.pruning.picture.layout import MAX_NAME, arrange, shortened
from prunekit.pruning.picture.listing import MemberRow

Build = Callable[[Sequence[str], int], nn.Module]
SVG = "{http://www.w3.org/2000/svg}"
LINE = 14.0  # height of a line of 12 px type
CASES = [["Residual", "Concat"], ["Projected", "Depthwise", "Gate"], ["Split", "SelfProduct"], ["Grouped", "Concat"]]
NASTY = "<script>&\"'\\]]>"


def drawn(network: nn.Module) -> tuple[Flow, Inspection]:
    inputs = (torch.randn(1, 3, 16, 16),)
    coupling = analyse(network, inputs)
    return flow(network, inputs, coupling), inspection(coupling, network)


def text_boxes(svg: str) -> list[tuple[str, float, float, float, float]]:
    """Return every text with its left, top, right and bottom."""
    boxes = []
    for text in ET.fromstring(svg).iter(f"{SVG}text"):
        x, y, length = (float(text.attrib[key]) for key in ("x", "y", "textLength"))
        boxes.append((text.text or "", x, y - LINE + 3, x + length, y + 3))
    return boxes


def assert_readable(svg: str) -> None:
    root = ET.fromstring(svg)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    boxes = text_boxes(svg)
    for text, left, top, right, bottom in boxes:
        assert left >= 0, text
        assert top >= 0, text
        assert right <= width, text
        assert bottom <= height, text
    for a, b in itertools.combinations(boxes, 2):
        apart = a[3] <= b[1] or b[3] <= a[1] or a[4] <= b[2] or b[4] <= a[2]
        assert apart, (a, b)


@pytest.mark.parametrize("blocks", CASES, ids="-".join)
def test_no_text_overlaps_another(random_network: Build, blocks: list[str]) -> None:
    network, report = drawn(random_network(blocks, 0))
    assert_readable(draw_svg(network, report, "a network"))


@pytest.mark.parametrize("blocks", CASES, ids="-".join)
def test_every_layer_and_group_is_there(random_network: Build, blocks: list[str]) -> None:
    network, report = drawn(random_network(blocks, 0))
    texts = [box[0] for box in text_boxes(draw_svg(network, report, "a network"))]
    dot = draw_dot(network, report, "a network")
    for row in report.groups:
        assert any(text.startswith(f"{row.name} ") for text in texts)
        for member in row.members:
            if member.does in ("makes", "passes"):
                assert member.layer in texts
                assert f'"{member.layer}\\n' in dot


@pytest.mark.parametrize("blocks", CASES, ids="-".join)
def test_connections_lead_forward_from_input_to_result(random_network: Build, blocks: list[str]) -> None:
    network, _ = drawn(random_network(blocks, 0))
    assert [vertex.kind for vertex in network.vertices].count("output") == 1
    assert all(source < target for source, target in network.edges)
    reached, led = {0}, {target for _, target in network.edges}
    for source, target in sorted(network.edges):
        reached |= {target} if source in reached else set()
    assert reached == led | {0} == set(range(len(network.vertices)))
    assert all(
        led_in >= 2
        for led_in in (
            sum(target == number for _, target in network.edges)
            for number, vertex in enumerate(network.vertices)
            if vertex.kind == "merge"
        )
    )


def test_buses_that_share_a_lane_do_not_touch() -> None:
    vertices = tuple(Vertex("layer", f"l{number}") for number in range(9))
    edges = tuple(itertools.combinations(range(9), 2))
    layout = arrange(Flow(vertices, edges), [()] * 9, 0.0)
    spans: dict[float, list[tuple[float, float]]] = {}
    for bus in layout.buses:
        spans.setdefault(bus.x_lane, []).append((bus.y_start, max(branch.y for branch in bus.branches)))
    for own in spans.values():
        for (_, end), (start, _) in itertools.pairwise(sorted(own)):
            assert end < start
    ports = [(branch.x, branch.y) for bus in layout.buses for branch in bus.branches]
    assert len(ports) == len(set(ports)) == len([edge for edge in edges if edge[1] > edge[0] + 1])
    for box in layout.boxes:
        own = [
            y for bus in layout.buses for x, y in ((b.x, b.y) for b in bus.branches) if box.y <= y <= box.y + box.height
        ]
        assert len(own) == max(0, box.number - 1)


def test_a_layer_of_training_only_is_drawn_apart() -> None:
    class Auxiliary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.head, self.aux = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1), nn.Conv2d(4, 2, 1)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            x = self.stem(x)
            return (self.head(x), self.aux(x)) if self.training else (self.head(x),)

    network, report = drawn(Auxiliary())
    assert network.vertices[-1].name == "aux"
    assert "training only" in network.vertices[-1].detail
    assert all(len(network.vertices) - 1 not in edge for edge in network.edges)
    assert_readable(draw_svg(network, report, "a network"))


def test_what_must_stay_is_hatched() -> None:
    network, report = drawn(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)))
    svg = draw_svg(network, report, "a network")
    frames = {group[1].text: group[0].attrib["fill"] for group in ET.fromstring(svg).iter(f"{SVG}g")}
    assert frames["1"] == "url(#stays)"
    assert frames["0"].startswith("#")
    assert "stays: reaches the network's output" in {box[0] for box in text_boxes(svg)}
    assert 'style="filled,dashed"' in draw_dot(network, report, "a network")


def test_names_are_text_and_nothing_else() -> None:
    name = NASTY * 8
    row = GroupRow(1, name, 4, 1, f"because {name}", (MemberRow(name, "Conv2d", "makes", 4, 4),), 1, 1.0, 1, 1.0)
    report = Inspection(1, 1, 4, 4, (row, replace(row, number=2, frozen=None)), ())
    network = Flow((Vertex("input", "input", NASTY), Vertex("layer", name, NASTY, NASTY)), ((0, 1),))
    svg = draw_svg(network, report, NASTY)
    assert_readable(svg)
    assert {element.tag.removeprefix(SVG) for element in ET.fromstring(svg).iter()} <= {
        "svg", "defs", "pattern", "rect", "line", "path", "text", "title", "g",
    }  # fmt: skip
    dot = draw_dot(network, report, NASTY)
    assert dot.count("\n") == 3 + 1 + 2 + 1 + 1 - 1
    for line in dot.splitlines():
        assert line.replace("\\\\", "").replace('\\"', "").count('"') % 2 == 0


@pytest.mark.parametrize("length", [1, MAX_NAME, MAX_NAME + 1, 500])
def test_long_names_keep_both_ends(length: int) -> None:
    name = "".join(chr(ord("a") + place % 26) for place in range(length))
    short = shortened(name)
    assert len(short) == min(length, MAX_NAME)
    assert (short[:1], short[-1:]) == (name[:1], name[-1:])
