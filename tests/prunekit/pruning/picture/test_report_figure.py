"""The picture of a pruning: well-formed, everything in it, nothing outside of it."""

import re
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from prunekit.pruning.picture import GroupChange, PartChange, StageChange, draw_report

SVG = "{http://www.w3.org/2000/svg}"
names = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=70)
cosines = st.none() | st.floats(0, 1)


@st.composite
def group_changes(draw: st.DrawFn) -> GroupChange:
    before = draw(st.integers(1, 4096))
    return GroupChange(draw(names), before, draw(st.integers(1, before)), draw(cosines), draw(cosines))


@st.composite
def part_changes(draw: st.DrawFn) -> PartChange:
    before = draw(st.integers(0, 10**12))
    return PartChange(draw(names), before, draw(st.integers(0, before)))


@st.composite
def stage_changes(draw: st.DrawFn) -> list[StageChange]:
    left = sorted(draw(st.lists(st.integers(0, 10**12), max_size=4)), reverse=True)
    return [StageChange(draw(names), macs, draw(cosines)) for macs in left]


@settings(max_examples=25, deadline=None)
@given(
    names,
    st.lists(group_changes(), max_size=8),
    st.lists(part_changes(), max_size=5),
    stage_changes(),
)
def test_every_row_is_drawn_inside_the_picture(
    title: str, groups: list[GroupChange], parts: list[PartChange], stages: list[StageChange]
) -> None:
    root = ElementTree.fromstring(draw_report(title, groups, parts, stages))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    texts = ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]
    assert title in texts
    for group in groups:
        assert f"{group.width_before} -> {group.width_after}" in texts
    for stage in stages:
        assert any(text.endswith(f"mIoU {'-' if stage.miou is None else f'{stage.miou:.3f}'}") for text in texts)
    assert len(list(root.iter(f"{SVG}rect"))) == 1 + 2 * (len(groups) + len(parts) + len(stages))
    circles = sum((g.redundancy_before is not None) + (g.redundancy_after is not None) for g in groups)
    assert len(list(root.iter(f"{SVG}circle"))) == circles
    for text in root.iter(f"{SVG}text"):
        assert 0 <= float(text.attrib["x"]) <= width - float(text.attrib["textLength"])
        assert 0 <= float(text.attrib["y"]) <= height
    for bar in list(root.iter(f"{SVG}rect"))[1:]:
        assert float(bar.attrib["x"]) + float(bar.attrib["width"]) <= width
        assert float(bar.attrib["y"]) + float(bar.attrib["height"]) <= height


def test_bars_are_as_long_as_the_numbers_say() -> None:
    picture = draw_report("t", [GroupChange("a", 64, 16, 0.5, 0.25), GroupChange("b", 32, 32, None, None)], [], [])
    bars = [float(bar.attrib["width"]) for bar in ElementTree.fromstring(picture).iter(f"{SVG}rect")][1:]
    assert bars[1] / bars[0] == 16 / 64
    assert bars[2] == bars[3] == bars[0] / 2


def test_the_redundancy_axis_runs_from_zero_to_one() -> None:
    picture = draw_report("t", [GroupChange("a", 4, 2, 0.0, 1.0)], [], [])
    lines = sorted(float(x) for x in re.findall(r'd="M([\d.]+) [\d.]+V', picture))
    dots = [float(dot.attrib["cx"]) for dot in ElementTree.fromstring(picture).iter(f"{SVG}circle")]
    assert dots == [lines[0], lines[-1]]
