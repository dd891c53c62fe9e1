"""Figures of images and sounds: pictures with maps laid over them, spectrograms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from pipelines.core.report.names import plain
from pipelines.core.report.style import CHAMPION, MUTED, in_style


@in_style
def pictures(rows: Mapping[str, Sequence[tuple[np.ndarray | None, np.ndarray, str]]], title: str) -> Figure:
    """Rows of images, each (pixels (h, w) or (h, w, 3) or None, map (h, w), caption), the map laid over in orange.

    A map shows where it is above zero, up to its own maximum; without pixels it stands alone.
    """
    wide = max(len(row) for row in rows.values())
    figure = Figure(figsize=(9, 0.5 + 9 / wide * 1.2 * len(rows)))
    figure.suptitle(plain(title), x=0.01, ha="left", fontsize=11.5, fontweight="bold")
    grid = figure.subplots(len(rows), wide, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    above = "\n"  # room for the heading of the row
    for (name, row), places in zip(rows.items(), grid, strict=True):
        for (pixels, strength, caption), axes in zip(row, places, strict=False):
            share = np.clip(strength, 0, None) / max(float(strength.max()), np.finfo(float).tiny)
            if pixels is None:
                axes.imshow(share, cmap="Oranges", vmin=0, vmax=1)
            else:
                axes.imshow(pixels, cmap="gray", vmin=0, vmax=255)
                # A contour leaves visible what lies under it, which a colour wash would hide.
                if share.max() > 0:
                    axes.contour(share, levels=[0.5], colors=CHAMPION, linewidths=1.4)
            axes.set_title(above + plain(caption), fontsize=8.5, fontweight="normal", color=MUTED, pad=4)
        heading = places[0].annotate(plain(name), (0, 1), (0, 30), xycoords="axes fraction", textcoords="offset points",
                           fontsize=10, fontweight="bold", ha="left")  # fmt: skip
        heading.set_in_layout(False)  # it runs over several images, and must not widen the first
    return figure


@in_style
def spectrograms(frames: Sequence[tuple[str, np.ndarray]], hop: float) -> Figure:
    """Log-mel features of clips, each (caption, (frames, bands)), a frame every `hop` seconds."""
    wide = min(3, len(frames))
    high = -(-len(frames) // wide)
    figure = Figure(figsize=(9, 0.4 + 2.0 * high), layout="constrained")
    grid = figure.subplots(high, wide, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat:
        axes.set_visible(False)
    for (caption, values), axes in zip(frames, grid.flat, strict=False):
        axes.set_visible(True)
        axes.imshow(values.T, origin="lower", aspect="auto", cmap="magma",
                    extent=(0, len(values) * hop, 0, values.shape[1]))  # fmt: skip
        axes.set_title(plain(caption), fontsize=9, fontweight="normal", loc="left")
        axes.grid(visible=False)
    figure.supxlabel("seconds", fontsize=9)
    figure.supylabel("mel band", fontsize=9)
    return figure
