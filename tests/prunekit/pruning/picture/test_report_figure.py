"""The picture of a pruning: well-formed, everything in it, the same for the same report."""

import re
import sys
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from prunekit.pictures.charts import drawable
from prunekit.pruning.picture import GroupChange, PartChange, StageChange, draw_report

SVG = "{http://www.w3.org/2000/svg}"
names = st.text(min_size=1, max_size=50)
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


def texts(picture: str) -> list[str]:
    return ["".join(text.itertext()) for text in ElementTree.fromstring(picture.encode()).iter(f"{SVG}text")]


@settings(max_examples=12, deadline=None)
@given(
    names,
    st.lists(group_changes(), max_size=6),
    st.lists(part_changes(), max_size=4),
    stage_changes(),
)
def test_every_row_is_drawn_whatever_its_name(
    title: str, groups: list[GroupChange], parts: list[PartChange], stages: list[StageChange]
) -> None:
    shown = texts(draw_report(title, groups, parts, stages))
    for name in (title, *(row.name for row in (*groups, *parts, *stages))):
        assert drawable(name) in shown
    for group in groups:
        assert f"{group.width_before} → {group.width_after}" in shown
    for stage in stages:
        assert ("-" if stage.miou is None else f"{stage.miou:.3f}") in shown


def bars(picture: str) -> list[float]:
    """Return the lengths of bars in the order they are drawn."""
    lengths = []
    for path in ElementTree.fromstring(picture.encode()).iter(f"{SVG}path"):
        if any(colour in path.get("style", "") for colour in ("fill: #cfd8e3", "fill: #2c6fb3")) and path.get(
            "clip-path"
        ):
            xs = [float(x) for x in re.findall(r"[ML] ([-\d.]+)", path.attrib["d"])]
            lengths.append(max(xs) - min(xs))
    return lengths


def test_bars_are_as_long_as_the_numbers_say() -> None:
    picture = draw_report("t", [GroupChange("a", 64, 16, 0.5, 0.25), GroupChange("b", 32, 32, None, None)], [], [])
    before, other_before, after, other_after = bars(picture)
    assert abs(after / before - 16 / 64) < 1e-4
    assert abs(other_before / before - 0.5) < 1e-4
    assert abs(other_after / before - 0.5) < 1e-4


def test_a_report_without_rows_is_its_title() -> None:
    assert texts(draw_report("nothing", [], [], [])) == ["nothing"]


def test_long_names_lose_their_middle_and_long_titles_nothing() -> None:
    group, title = GroupChange("a" * 30 + "b" * 30, 8, 4, None, None), "W" * 250
    shown = texts(draw_report(title, [group], [], []))
    assert title in shown
    assert any(text.startswith("a" * 20) and "…" in text and text.endswith("b" * 20) for text in shown)


def test_the_same_report_is_the_same_picture() -> None:
    report = ("t", [GroupChange("a", 4, 2, 0.0, 1.0)], [PartChange("p", 9, 3)], [StageChange("source", 9, 0.5)])
    assert draw_report(*report) == draw_report(*report)
    assert "matplotlib.pyplot" not in sys.modules
