"""The colours of channel groups in pictures of a network."""

from collections.abc import Sequence
from colorsys import hls_to_rgb
from typing import Final

from prunekit.pruning.picture.graph import Flow, Vertex
from prunekit.pruning.picture.listing import PASSES, GroupRow

NEUTRAL: Final = "#6a7178"
STAYS: Final = "stays"
"""Name of the pattern that fills what must stay."""
_WHITE: Final = "#ffffff"
_GREY: Final = "#d8dcdf"
_GOLDEN_DEGREES: Final = 137.508  # keeps the first colours of a list far apart, however long it gets
_MAX_GROUPS: Final = 4  # of a layer that are shown; more would leave no room for its name


class Paint:
    """One hue for each group that can be pruned; groups of several layers come first and get the stronger colours."""

    def __init__(self, rows: Sequence[GroupRow]) -> None:
        self._rows = {row.number: row for row in rows}
        self._shared = {row.number for row in rows if len(_makers(row)) > 1}
        free = [row.number for row in rows if row.frozen is None]
        free.sort(key=lambda number: (number not in self._shared, number))
        self._hues = {number: (210 + place * _GOLDEN_DEGREES) % 360 for place, number in enumerate(free)}

    def by_vertex(self, flow: Flow) -> list[tuple[int, ...]]:
        """Return for each vertex the groups of its output channels, the largest first."""
        owners: dict[str, list[tuple[int, int]]] = {}
        for row in self._rows.values():
            for layer, channels in _makers(row).items():
                owners.setdefault(layer, []).append((-channels, row.number))
        return [_largest(vertex, owners) for vertex in flow.vertices]

    def stays(self, groups: Sequence[int]) -> bool:
        """Tell whether the first of `groups` must stay."""
        return bool(groups) and self._rows[groups[0]].frozen is not None

    def line(self, groups: Sequence[int]) -> str:
        """Return the colour of frames and connections."""
        return _rgb(self._hues[groups[0]], 0.38, 0.65) if groups and not self.stays(groups) else NEUTRAL

    def flat(self, groups: Sequence[int]) -> str:
        """Return the colour of an area, where there are no patterns."""
        if not groups:
            return _WHITE
        strong = groups[0] in self._shared
        return _GREY if self.stays(groups) else _rgb(self._hues[groups[0]], 0.84 if strong else 0.94, 0.7)

    def fill(self, groups: Sequence[int]) -> str:
        """Return what fills an area of an SVG document."""
        return f"url(#{STAYS})" if self.stays(groups) else self.flat(groups)


def _makers(row: GroupRow) -> dict[str, int]:
    return {member.layer: member.channels for member in row.members if member.does in ("makes", PASSES)}


def _largest(vertex: Vertex, owners: dict[str, list[tuple[int, int]]]) -> tuple[int, ...]:
    found = sorted(owners.get(vertex.name, [])) if vertex.kind == "layer" else []
    return tuple(number for _, number in found[:_MAX_GROUPS])


def _rgb(hue_degrees: float, lightness: float, saturation: float) -> str:
    return "#" + "".join(f"{round(255 * value):02x}" for value in hls_to_rgb(hue_degrees / 360, lightness, saturation))
