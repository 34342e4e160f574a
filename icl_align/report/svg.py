"""Matplotlib's figures as parts of a page that follow its colours, light, dark or printed."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, GRID, FIRST, SECOND, QUIET = "#010101", "#020202", "#030303", "#040404", "#050505"
"""Colours that stand for those of the page; `_THEME` says which."""
_THEME = {INK: "--ink", GRID: "--line", FIRST: "--first", SECOND: "--second", QUIET: "--quiet"}
NARROW = 4.4
_SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "icl_align",
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


def drawn(
    name: str,
    height: float,
    draw: Callable[[Axes], None],
    *,
    polar: bool = False,
    width: float = 6.4,
) -> str:
    """Draws one figure as an inline SVG.

    Args:
        name: Makes the ids of this figure its own.
        height: Inches.
        draw: Draws on the axes.
        polar: Whether the axes are angle and radius.
        width: Inches; the page gives `NARROW` ones the width of a phone, so that nothing is cut there.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    target = io.StringIO()
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.add_subplot(polar=polar))
        figure.savefig(target, format="svg", metadata={"Date": None}, transparent=True)
    return _inline(target.getvalue(), name)


def _inline(svg: str, name: str) -> str:
    """Leaves the svg element alone: no prolog, metadata or fixed size; ids and colours of the page's."""
    text = svg[svg.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(
        r'^<svg[^>]*?(viewBox="[^"]*")[^>]*>', r'<svg \1 aria-hidden="true">', text, count=1
    )
    text = re.sub(r'(\sid="|xlink:href="#|url\(#)', rf"\1{name}-", text).replace(
        "xlink:href", "href"
    )
    for colour, variable in _THEME.items():
        text = text.replace(colour, f"var({variable})")
    return text.strip()
