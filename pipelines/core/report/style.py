"""The look of all figures: colours, fonts, lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from itertools import cycle
from typing import Any, ParamSpec

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipelines.core.report.names import FAMILIES, numbered, plain

# Okabe and Ito's blue and vermillion stay apart for every kind of colour blindness, and in print.
NETWORK, CHAMPION, INK, MUTED, FAINT = "#0072b2", "#d55e00", "#222222", "#6b6b6b", "#dddddd"
OTHERS = ("#009e73", "#cc79a7", "#e69f00", "#56b4e9", MUTED)
GREYS: tuple[tuple[str, Any], ...] = (
    ("#303030", "-"), ("#5a5a5a", (0, (5, 2))), ("#737373", (0, (6, 2, 1, 2))), ("#8a8a8a", (0, (1, 1.5))),
    ("#9a9a9a", (0, (8, 4))),
)  # fmt: skip
P = ParamSpec("P")
STYLE: Any = {
    "font.family": FAMILIES,
    "font.size": 10,
    "text.color": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlepad": 12,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": "#aaaaaa",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#ececec",
    "grid.linewidth": 0.8,
    "xtick.color": "#aaaaaa",
    "ytick.color": "#aaaaaa",
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.facecolor": "white",
    "legend.edgecolor": "none",
    "legend.framealpha": 0.85,
    "legend.fontsize": 9.5,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.12,
    "figure.constrained_layout.w_pad": 0.12,
}


def in_style(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw in the common style; names that the fonts cannot write are numbered, with the key in `figure.key`."""

    @wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with rc_context(STYLE), numbered() as key:
            figure = draw(*args, **kwargs)
        figure.key = key  # type: ignore[attr-defined]
        return figure

    return styled


def new_axes(title: str, x: str, y: str, size: tuple[float, float]) -> tuple[Figure, Axes]:
    """A figure of `size` inches with one pair of axes, titled and labelled."""
    figure = Figure(figsize=size)
    axes = figure.add_subplot()
    axes.set(title=plain(title), xlabel=plain(x), ylabel=plain(y))
    return figure, axes


def color_of(name: str, other: str) -> str:
    """Blue for the network, orange for the champion (with its version or not), ink for what was realised, or other."""
    named = {"network": NETWORK, "realised": INK}
    return named.get(name) or (CHAMPION if name.startswith("champion") else other)


def ranked(value: Mapping[str, float]) -> Iterator[tuple[str, dict]]:
    """(model, label and look of its line), best value first: emphasis for network and champion, greys for others.

    Curves that coincide stay visible: a wide one lies below a thin one, a whole one below one with gaps.
    """
    greys = enumerate(cycle(GREYS))
    for name in sorted(value, key=lambda name: value[name], reverse=True):
        look: dict[str, Any] = {"color": color_of(name, ""), "linestyle": "-", "linewidth": 3.2, "zorder": 3}
        if not look["color"]:
            place, (color, dashes) = next(greys)
            look = {"color": color, "linestyle": dashes, "linewidth": 1.3, "zorder": 4 + 0.01 * place}
        yield name, look | {"label": f"{plain(name, 28)}  {value[name]:.3f}"}
