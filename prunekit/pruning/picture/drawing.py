"""Pictures of a network with its groups: SVG that stands by itself, and text for Graphviz."""

import textwrap
from collections.abc import Sequence
from html import escape
from typing import Final

from prunekit.pruning.picture.colours import NEUTRAL, STAYS, Paint
from prunekit.pruning.picture.graph import Flow
from prunekit.pruning.picture.layout import MARGIN, TAG, Box, Bus, Layout, arrange, shortened, text_width
from prunekit.pruning.picture.listing import GroupRow, Inspection

_STYLE: Final = """font-family="'DejaVu Sans Mono', Menlo, Consolas, monospace" font-size="12" fill="#1c2126\""""
_FAINT: Final = "#3d454c"
_ARROW: Final = 6.0
_ROUND: Final = 5.0
_LINE: Final = 19.0  # height of a line of the legend
_HATCH: Final = (
    f'<defs><pattern id="{STAYS}" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect width="6" height="6" fill="#e9ebed"/>'
    '<line x1="0" y1="0" x2="0" y2="6" stroke="#d3d7da" stroke-width="3"/></pattern></defs>'
)
_NOTES: Final = (
    "Strong colour: several layers make the group, all must lose the same.",
    "Grey and hatched: no channel of the group can be removed.",
    "Shares count the MACs a group's channels take part in; they overlap.",
)


def draw_svg(flow: Flow, inspection: Inspection, title: str) -> str:
    """Return an SVG document: layers from top to bottom, coloured by the group of their output channels.

    Groups made by several layers are the stronger in colour; groups that must stay are grey and hatched. Connections
    that skip layers run along the right side, in the colour of what they carry where that is one group.
    """
    paint = Paint(inspection.groups)
    groups = paint.by_vertex(flow)
    places = arrange(flow, groups, MARGIN + 56)
    lines = [paint.line(own) for own in _carried(flow, groups)]
    legend, legend_right, legend_bottom = _legend(inspection, paint, places.right + MARGIN, MARGIN + 56)
    width = max(legend_right, MARGIN + text_width(title)) + MARGIN
    height = max(places.bottom, legend_bottom) + MARGIN
    size = f'width="{width:.0f}" height="{height:.0f}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {width:.0f} {height:.0f}" {_STYLE}>',
        _HATCH,
        f'<rect {size} fill="#ffffff"/>',
        _text(MARGIN, MARGIN + 12, title, weight="bold"),
        _text(MARGIN, MARGIN + 32, _summary(inspection), colour=NEUTRAL),
        *(_bus(bus, lines[bus.source]) for bus in places.buses),
        *(_step(places.boxes[a], places.boxes[b], lines[a]) for a, b in places.steps),
        *(_box(box, places, paint) for box in places.boxes),
        *legend,
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def draw_dot(flow: Flow, inspection: Inspection, title: str) -> str:
    """Return the same picture as text for Graphviz (`dot -Tpdf`)."""
    paint = Paint(inspection.groups)
    groups = paint.by_vertex(flow)
    lines = [
        "digraph network {",
        f'  graph [label={_quoted(title)}, labelloc=t, fontname="Helvetica"];',
        '  node [shape=box, style=filled, fillcolor=white, fontname="Helvetica", fontsize=11];',
    ]
    for number, vertex in enumerate(flow.vertices):
        texts = [vertex.name, f"{vertex.detail} {vertex.widths}".strip(), _group_text(groups[number])]
        stays = 'style="filled,dashed", ' if paint.stays(groups[number]) else ""
        shape = "" if vertex.kind == "layer" else "shape=ellipse, "
        label = _quoted("\n".join(text for text in texts if text))
        lines.append(f'  n{number} [{shape}{stays}label={label}, fillcolor="{paint.flat(groups[number])}"];')
    lines += [f"  n{source} -> n{target};" for source, target in flow.edges]
    return "\n".join([*lines, "}"]) + "\n"


def _carried(flow: Flow, groups: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Return the groups that leave each vertex; where paths of one group meet, that group goes on."""
    leaving = list(groups)
    for number, vertex in enumerate(flow.vertices):
        if vertex.kind == "merge":
            met = {leaving[source] for source, target in flow.edges if target == number}
            leaving[number] = met.pop() if len(met) == 1 else ()
    return leaving


def _group_text(tags: Sequence[int]) -> str:
    if not tags:
        return ""
    return f"group{'s' if len(tags) > 1 else ''} {', '.join(map(str, tags))}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _summary(inspection: Inspection) -> str:
    free = sum(row.frozen is None for row in inspection.groups)
    return (
        f"{inspection.macs / 1e9:.3f} G MACs, {inspection.params / 1e6:.3f} M parameters; "
        f"groups: {free} can be pruned, {len(inspection.groups) - free} must stay"
    )


def _text(x: float, y: float, text: str, *, colour: str = "", weight: str = "") -> str:
    """Return a line of text that takes exactly the room it was given, whatever the font."""
    if not text:
        return ""
    look = (f' fill="{colour}"' if colour else "") + (f' font-weight="{weight}"' if weight else "")
    length = f'textLength="{text_width(text):.1f}" lengthAdjust="spacingAndGlyphs"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {length}{look} xml:space="preserve">{escape(text)}</text>'


def _box(box: Box, places: Layout, paint: Paint) -> str:
    baseline = box.y + box.height / 2 + 4
    if box.vertex.kind != "layer":
        text = f"{box.name} {box.vertex.detail}".strip()
        return _frame(box, paint, radius=box.height / 2) + _text(box.x + 8, baseline, text, colour=NEUTRAL)
    parts = [_frame(box, paint, radius=4), f"<title>{escape(box.vertex.name)}</title>"]
    parts += [_tag(box.x + TAG * place, box.y, box.height, tag, paint) for place, tag in enumerate(box.groups)]
    parts += [
        _text(box.x + places.columns.name, baseline, box.name),
        _text(box.x + places.columns.detail, baseline, box.vertex.detail, colour=_FAINT),
        _text(box.x + places.columns.widths, baseline, box.vertex.widths, colour=_FAINT),
    ]
    return f"<g>{''.join(parts)}</g>"


def _frame(box: Box, paint: Paint, radius: float) -> str:
    return (
        f'<rect x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="{radius:.1f}" '
        f'fill="{paint.fill(box.groups)}" stroke="{paint.line(box.groups)}"/>'
    )


def _tag(x: float, y: float, height: float, number: int, paint: Paint) -> str:
    """Return the cell with a group's number."""
    text = str(number)
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{TAG:.1f}" height="{height:.1f}" rx="4" fill="{paint.line((number,))}" '
        f'stroke="#ffffff" stroke-width="0.5"/>'
        + _text(x + (TAG - text_width(text)) / 2, y + height / 2 + 4, text, colour="#ffffff", weight="bold")
    )


def _step(source: Box, target: Box, colour: str) -> str:
    x, end = source.x + source.width / 2, target.y - _ARROW
    return (
        f'<path d="M{x:.1f} {source.y + source.height:.1f}V{end:.1f}" fill="none" stroke="{colour}" '
        f'stroke-width="1.6"/><path d="M{x - 4:.1f} {end:.1f}h8l-4 {_ARROW:.1f}z" fill="{colour}"/>'
    )


def _bus(bus: Bus, colour: str) -> str:
    """Return one lane with its branches, corners rounded."""
    parts: list[str] = []
    for branch in bus.branches:
        end = branch.x + _ARROW
        parts.append(
            f'<path d="M{bus.x_start:.1f} {bus.y_start:.1f}H{bus.x_lane - _ROUND:.1f}q{_ROUND} 0 {_ROUND} {_ROUND}'
            f'V{branch.y - _ROUND:.1f}q0 {_ROUND} -{_ROUND} {_ROUND}H{end:.1f}" fill="none" stroke="{colour}" '
            f'stroke-width="1.6"/><path d="M{end:.1f} {branch.y - 4:.1f}v8l-{_ARROW:.1f} -4z" fill="{colour}"/>'
        )
    return "".join(parts)


def _legend(inspection: Inspection, paint: Paint, x: float, top: float) -> tuple[list[str], float, float]:
    """Return the list of groups, and where it ends on the right and at the bottom."""
    names = [shortened(row.name) for row in inspection.groups]
    texts = [f"{name:<{max(map(len, names))}}{_facts(row)}" for row, name in zip(inspection.groups, names, strict=True)]
    characters = max([*map(len, texts), *map(len, _NOTES)])
    parts = [_text(x, top + 12, "Groups, by the colour of the layers that make their channels", weight="bold")]
    y = top + 1.5 * _LINE
    for row, text in zip(inspection.groups, texts, strict=True):
        parts += [_swatch(x, y, row.number, paint), _text(x + TAG + 12, y + 13, text)]
        y += _LINE
        stays = [] if row.frozen is None else textwrap.wrap(f"stays: {row.frozen}", characters)
        parts += _lines(x + TAG + 12, y, stays)
        y += _LINE * len(stays) + 3
    return [*parts, *_lines(x, y, _NOTES)], x + TAG + 12 + text_width("x" * characters), y + _LINE * len(_NOTES)


def _lines(x: float, y: float, lines: Sequence[str]) -> list[str]:
    return [_text(x, y + 13 + _LINE * place, line, colour=NEUTRAL) for place, line in enumerate(lines)]


def _facts(row: GroupRow) -> str:
    return f"{row.width:>7} wide {100 * row.macs_share:5.1f} % of MACs"


def _swatch(x: float, y: float, number: int, paint: Paint) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{TAG + 6:.1f}" height="17" rx="4" fill="{paint.fill((number,))}" '
        f'stroke="{paint.line((number,))}"/>' + _tag(x, y, 17, number, paint)
    )
