r"""Charts by matplotlib, as SVG: the same bytes for the same data and fonts, whatever a user's matplotlib is set to.

Text stays text, which can be searched and copied and which the viewer's fonts draw. Letters that no font here has are
escapes such as \u9053: matplotlib could neither measure nor draw them.
"""

from __future__ import annotations

import io
import threading
import unicodedata
from typing import TYPE_CHECKING, Final

from prunekit.pictures.lettering import escaped
from prunekit_runtime.text import printable_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure
    from matplotlib.ft2font import FT2Font

INK: Final = "#1c2126"
FAINT: Final = "#5a6570"
GRID: Final = "#e3e7ec"
POINTS_AN_INCH: Final = 72
_FONT: Final = "DejaVu Sans"  # comes with matplotlib
_FALLBACKS: Final = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans Arabic",
    "WenQuanYi Micro Hei",
    "Microsoft YaHei",
)
_LOOK: Final = {
    "font.sans-serif": [_FONT, "Verdana", "Arial", "sans-serif"],  # for viewers without it; Verdana is as wide
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "axes.edgecolor": "#b4bcc5",
    "axes.labelcolor": FAINT,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": "#b4bcc5",
    "xtick.labelcolor": FAINT,
    "ytick.color": "#b4bcc5",
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "prunekit",  # names of parts follow from what is drawn, not from chance
}
_LOCK: Final = threading.RLock()  # settings of matplotlib belong to the whole process


def draw_chart(size_in: tuple[float, float], title: str, fill: Callable[[Figure], None]) -> str:
    """Return an SVG document of `size_in` (width, height) inches that `fill` has drawn on; `title` describes it."""
    import matplotlib.style
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    picture = io.BytesIO()
    with _LOCK, matplotlib.style.context(["default", {**_LOOK, "font.family": ["sans-serif", *_fallbacks()]}]):
        # Not by pyplot, which would keep the figure alive and choose a backend that may want a display.
        figure = Figure(figsize=size_in, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.05))
        fill(figure)
        figure.savefig(picture, format="svg", metadata={"Title": title, "Date": None})
    return picture.getvalue().decode()


def drawable(name: str) -> str:
    """Return one line of text that can be drawn: what is not printable, or in no font here, as escapes."""
    text = unicodedata.normalize("NFC", printable_name(name))
    fonts = _fonts()
    return "".join(
        letter if any(font.get_char_index(ord(letter)) for font in fonts) else escaped(letter) for letter in text
    )


def width_in(text: str, size: float) -> float:
    """Return the room that a drawable text takes in letters of `size` points [inches]."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    properties = FontProperties(family=[_FONT, *_fallbacks()], size=size)
    return text_to_path.get_text_width_height_descent(text, properties, ismath=False)[0] / POINTS_AN_INCH


def _fonts() -> list[FT2Font]:
    from matplotlib.font_manager import findfont, get_font

    return [get_font(findfont(family)) for family in (_FONT, *_fallbacks())]


def _fallbacks() -> list[str]:
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    return [family for family in _FALLBACKS if family in installed]
