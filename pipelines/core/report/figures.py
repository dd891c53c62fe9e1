"""The plots that several domains share, in one style: the network in blue, the champion in orange, the rest in greys.

Every function returns a Matplotlib `Figure`, measured in inches of 100 pixels on the report's page, and leaves
`pyplot` and its global state alone. Names that come from users' data are shown as they are, never read as TeX.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipelines.core.evaluation.bootstrap import Interval
from pipelines.core.report.names import minus, plain, words
from pipelines.core.report.style import CHAMPION, FAINT, INK, MUTED, NETWORK, OTHERS, color_of, in_style, new_axes


@in_style
def learning_curves(epochs: Sequence[Mapping[str, float]], kept: int) -> Figure:
    """Training against validation, one panel for each figure that has a `val_` twin; the loss alone without any.

    `epochs` holds what Keras reports at the end of each epoch. That whose weights are `kept`, from 1 on, is marked. A
    single epoch gives a dot.
    """
    history = pd.DataFrame(epochs)
    history.index += 1
    marker = "o" if len(history) == 1 else ""
    names = [name for name in history if f"val_{name}" in history] or ["loss"]
    rows, columns = -(-len(names) // 2), min(len(names), 2)
    figure = Figure(figsize=((4.4, 9)[columns - 1], 3.4 * rows))
    for place, name in enumerate(names):
        axes = figure.add_subplot(rows, columns, place + 1)
        axes.set(title=plain(words(name)), xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.plot(history[name], color=MUTED, linestyle="--", marker=marker, label="training")
        if f"val_{name}" in history:
            validation = history[f"val_{name}"]
            axes.axvline(kept, color=FAINT, linewidth=6, zorder=0)
            axes.plot(validation, color=NETWORK, linewidth=2.2, marker=marker, label="validation")
            axes.plot(kept, validation[kept], "o", color=NETWORK, label=f"kept: epoch {kept}")
        axes.margins(y=0.15)
    figure.axes[0].legend()
    return figure


def _dots(
    axes: Axes, intervals: Mapping[str, Interval], colors: Sequence[str], ends: tuple[float, float] | None = None
) -> None:
    """A row for each name, the first on top: dot, 95 % interval, and both in figures at the right.

    A value beyond the `ends` of the axis is an arrow at its edge.
    """
    if ends:
        axes.set_xlim(*ends)
    for row, ((name, interval), color) in enumerate(zip(intervals.items(), colors, strict=True)):
        if ends and not ends[0] <= interval.value <= ends[1]:
            edge, arrow = (0.012, "<") if interval.value < ends[0] else (0.988, ">")
            axes.plot(edge, row, arrow, color=color, markersize=8, transform=axes.get_yaxis_transform(), clip_on=False)
        else:
            axes.plot([interval.low, interval.high], [row, row], color=color, linewidth=2.2, solid_capstyle="round")
            axes.plot(interval.value, row, "o", color=color, markersize=8)
        axes.annotate(minus(str(interval)), (1, row), (10, 0), xycoords=("axes fraction", "data"), color=color,
                      textcoords="offset points", va="center", fontsize=9.5)  # fmt: skip
        axes.annotate(plain(name, 34), (0, row), (-10, 0), xycoords=("axes fraction", "data"), color=color,
                      textcoords="offset points", va="center", ha="right")  # fmt: skip
    axes.set_yticks([])
    axes.set_ylim(len(intervals) - 0.4, -0.6)
    axes.spines["left"].set_visible(False)


@in_style
def headline_bars(intervals: Mapping[str, Interval], metric: str, higher: bool = True) -> Figure:
    """The headline metric of network, champion and baselines with 95 % intervals, the best on top.

    The network's interval runs through all rows as a band: this test set does not distinguish what is within it
    (paired comparisons are sharper). Models so far behind that the others would be squeezed are arrows at the edge.
    """
    ranked = dict(sorted(intervals.items(), key=lambda item: item[1].value, reverse=higher))
    ends = _ends(ranked)
    title = f"{words(metric)} on test, {'higher' if higher else 'lower'} is better"
    title += "; arrows are off the axis" if ends else ""
    figure, axes = new_axes(title, "", "", (9, 1.1 + 0.42 * len(ranked)))
    colors = [color_of(name, MUTED) for name in ranked]
    if "network" in ranked:
        axes.axvspan(ranked["network"].low, ranked["network"].high, color=NETWORK, alpha=0.08, linewidth=0)
    _dots(axes, ranked, colors, ends)
    return figure


ROOM = 8
"""Widths of the network's interval that the axis of the headline has room for, at least."""


def _ends(ranked: Mapping[str, Interval]) -> tuple[float, float] | None:
    """Ends of an axis on which network, champion and the best other model can be told apart; None if all models fit."""
    main = [one for name, one in ranked.items() if color_of(name, "")]
    main += [one for name, one in ranked.items() if not color_of(name, "")][:1]
    low, high = min(one.low for one in main), max(one.high for one in main)
    room = max(ROOM * (main[0].high - main[0].low), 2 * (high - low))
    least, most = high - room, low + room
    shown = [one for one in ranked.values() if least <= one.value <= most]
    if len(shown) == len(ranked) or not room:
        return None
    margin = 0.05 * (high - low)
    ends = min(one.low for one in shown) - margin, max(one.high for one in shown) + margin
    return max(ends[0], least), min(ends[1], most)


@in_style
def slices(intervals: Mapping[str, Interval], overall: float, metric: str) -> Figure:
    """The network's `metric` on parts of the test set, with 95 % intervals, against its value overall."""
    title = f"{words(metric)} by part of the test set (line: overall, {overall:.3f})"
    figure, axes = new_axes(title, "", "", (9, 1.1 + 0.36 * len(intervals)))
    axes.axvline(overall, color=NETWORK, linewidth=1.2, zorder=1)
    _dots(axes, intervals, [MUTED] * len(intervals))
    return figure


@in_style
def lines(frame: pd.DataFrame, title: str, y: str) -> Figure:
    """One line for each column of `frame` over its index (times or numbers), named at its right end.

    Columns called network and champion keep their colours of the other figures.
    """
    figure, axes = new_axes(title, "", y, (9, 3.4))
    _over(axes, frame.index)
    last = frame.ffill().iloc[-1]
    # Names that would overlap are pushed apart, in the order of the lines' ends.
    gap = 0.055 * (np.nanmax(frame.to_numpy(float)) - np.nanmin(frame.to_numpy(float)))
    at = -np.inf
    others = cycle(OTHERS)
    colors = {name: color_of(name, "") or next(others) for name in frame.columns}
    for name in last.sort_values().index:
        color = colors[name]
        axes.plot(frame.index, frame[name], color=color, linewidth=2 if len(frame) < 300 else 1.3)
        at = max(last[name], at + gap)
        axes.annotate(plain(name, 30), (1, at), (8, 0), xycoords=("axes fraction", "data"), color=color,
                      textcoords="offset points", va="center")  # fmt: skip
    axes.margins(x=0)
    return figure


@in_style
def fan(values: pd.Series, median: np.ndarray, bands: Mapping[str, np.ndarray], title: str, y: str) -> Figure:
    """Observed values (dots, over the index) within their forecast intervals, the widest band first.

    `median` (n,); each band (n, 2) holds the lower and the upper end.
    """
    figure, axes = new_axes(title, "", y, (9, 3.4))
    _over(axes, values.index)
    for shade, (name, ends) in zip((0.15, 0.3, 0.45), bands.items(), strict=False):
        axes.fill_between(values.index, *ends.T, color=NETWORK, alpha=shade, linewidth=0, label=plain(name, 30))
    axes.plot(values.index, median, color=NETWORK, linewidth=1.2, label="median")
    axes.plot(values.index, values, "o", color=INK, markersize=3, label="observed")
    axes.margins(x=0)
    figure.legend(loc="outside right upper")
    return figure


@in_style
def bars(frame: pd.DataFrame, title: str, y: str) -> Figure:
    """The columns of `frame` stacked on one another over its index: alerts of each day, right and wrong."""
    figure, axes = new_axes(title, "", y, (9, 3.4))
    _over(axes, frame.index)
    step = np.diff(frame.index).min() if len(frame) > 1 else 1
    bottom = np.zeros(len(frame))
    for name, color in zip(frame.columns, (NETWORK, "#c9c9c9", *OTHERS), strict=False):
        axes.bar(frame.index, frame[name], 0.8 * step, bottom, color=color, label=plain(name, 30))
        bottom += frame[name].to_numpy(float)
    axes.grid(visible=False, axis="x")
    figure.legend(loc="outside right upper", reverse=True)
    return figure


@in_style
def histograms(found: Mapping[str, np.ndarray], edges: Sequence[float], title: str, x: str, y: str) -> Figure:
    """A histogram for each name side by side, (bins,) over the edges (bins + 1,), and a line at 1."""
    figure = Figure(figsize=(9, 3.2))
    figure.suptitle(plain(title, 100), x=0.01, ha="left", fontsize=11.5, fontweight="bold")
    for (name, heights), axes in zip(found.items(), figure.subplots(1, len(found), sharey=True), strict=True):
        axes.bar(edges[:-1], heights, np.diff(edges), align="edge", color=NETWORK, alpha=0.35, edgecolor=NETWORK)
        axes.axhline(1, color=INK, linewidth=1.2, linestyle="--")
        axes.set_title(plain(name), fontsize=10, fontweight="normal")
        axes.set(xlabel=plain(x), xlim=(edges[0], edges[-1]))
        axes.grid(visible=False, axis="x")
    figure.axes[0].set_ylabel(plain(y))
    return figure


@in_style
def drift(
    psi: Mapping[str, float], shares: Mapping[str, tuple[Sequence[str], np.ndarray, np.ndarray]], warn: float
) -> Figure:
    """The population stability index of each column, and the bins of the three that changed most.

    `shares` holds for each column the names of its bins and their shares (bins,) in training and among new records.
    """
    ranked = sorted(psi, key=lambda name: psi[name], reverse=True)
    shown = ranked[:3]
    figure = Figure(figsize=(9, 1.2 + 0.3 * len(ranked) + 2.6))
    halves: Any = figure.subfigures(2, 1, height_ratios=(1.2 + 0.3 * len(ranked), 2.6))
    top, below = halves
    axes = top.add_subplot()
    axes.barh(range(len(ranked)), [psi[name] for name in ranked], 0.6,
              color=[CHAMPION if psi[name] >= warn else MUTED for name in ranked])  # fmt: skip
    axes.axvline(warn, color=INK, linewidth=1.2, linestyle="--")
    axes.set_yticks(range(len(ranked)), [plain(name, 28) for name in ranked])
    axes.set(title=f"Population stability index of the new records (from {warn:g}: look)", xlim=(0, None))
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    for name, axes in zip(shown, below.subplots(1, len(shown), squeeze=False)[0], strict=True):
        names, then, now = shares[name]
        used = np.flatnonzero((then > 0) | (now > 0))
        places = np.arange(len(used))
        axes.bar(places - 0.2, then[used], 0.4, color="#c9c9c9", label="training")
        axes.bar(places + 0.2, now[used], 0.4, color=NETWORK, label="new")
        axes.set_xticks(places, [plain(names[int(at)], 12) for at in used], rotation=60, ha="right", fontsize=7.5)
        axes.set_title(plain(name, 28), fontsize=10, fontweight="normal")
        axes.grid(visible=False, axis="x")
    below.legend(*below.axes[0].get_legend_handles_labels(), loc="outside right upper")
    return figure


def _over(axes: Axes, index: pd.Index) -> None:
    if isinstance(index, pd.DatetimeIndex):
        locator = AutoDateLocator()
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    else:
        axes.set_xlabel(plain(index.name or ""))
