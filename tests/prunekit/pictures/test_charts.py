"""Charts: any text, the same bytes, and matplotlib as its user had set it."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree

import matplotlib
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from prunekit.pictures.charts import draw_chart, drawable, width_in

SVG = "{http://www.w3.org/2000/svg}"


def lettered(text: str) -> Callable[[Figure], None]:
    def fill(figure: Figure) -> None:
        figure.subplots().set_title(text)

    return fill


def test_what_a_name_holds_is_text_in_the_picture() -> None:
    for name in ("a$x^2$b$", "<script>&amp;", "]]>--", "_hidden", "r\u00e9seau", "\\frac{1}"):
        assert drawable(name) == name
        root = ElementTree.fromstring(draw_chart((4, 2), name, lettered(name)).encode())
        assert name in ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]
        assert not list(root.iter(f"{SVG}script"))


def test_what_cannot_be_drawn_is_an_escape() -> None:
    assert drawable("\x1b[31m\n") == "\\x1b[31m\\x0a"
    assert drawable("a\ud800\ue123\uffff") == "a\\ud800\\ue123\\uffff"


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_drawn_without_a_warning(name: str) -> None:
    text = drawable(name)
    root = ElementTree.fromstring(draw_chart((4, 2), text, lettered(text)).encode())
    shown = ["".join(found.itertext()) for found in root.iter(f"{SVG}text")]
    assert text in shown or not text.strip()
    assert width_in(text + "W", 9) >= width_in("W", 9) > 0


def test_a_user_s_settings_neither_change_a_chart_nor_are_changed() -> None:
    plain = draw_chart((4, 2), "t", lettered("t"))
    with matplotlib.rc_context(
        {"axes.facecolor": "black", "font.size": 30, "svg.fonttype": "path", "axes.grid": False}
    ):
        settings_before = dict(matplotlib.rcParams.copy())
        assert draw_chart((4, 2), "t", lettered("t")) == plain
        assert dict(matplotlib.rcParams.copy()) == settings_before


def test_threads_draw_the_same_and_leave_settings_alone() -> None:
    settings_before = dict(matplotlib.rcParams.copy())
    with ThreadPoolExecutor(4) as pool:
        pictures = set(pool.map(lambda _: draw_chart((4, 2), "t", lettered("t")), range(12)))
    assert len(pictures) == 1
    assert dict(matplotlib.rcParams.copy()) == settings_before


def test_other_processes_draw_the_same_bytes_and_only_drawing_imports_matplotlib() -> None:
    code = """
import sys
from prunekit.pictures.charts import draw_chart
import prunekit.pruning.picture
assert "matplotlib" not in sys.modules
sys.stdout.write(draw_chart((4, 2), "t", lambda figure: figure.subplots().set_title("t")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == draw_chart((4, 2), "t", lettered("t")), done.stderr
