"""The report of a run as one HTML file, for people who would rather look than read.

Nothing is fetched and nothing is executed: figures are embedded, a content policy forbids the rest, and every text is
escaped, because class names, columns and file names come from people's data.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment
from markdown_it import MarkdownIt
from markupsafe import Markup
from matplotlib.figure import Figure

from pipelines.core.evaluation.bootstrap import Interval

MOST_ROWS = 200
# The results in the table of checks become coloured marks.
TONES = {"passed": "good", "failed": "bad", "undecided": "open"}
# A verdict quotes names out of people's data: no HTML, no links, no pictures.
_MARKDOWN = (
    MarkdownIt("commonmark", {"html": False}).enable("table").disable(["link", "image", "autolink", "reference"])
)


def _beside(name: str) -> str:
    """The text of a file in the folder of this module."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


_TEMPLATE = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(_beside("template.html"))
_STYLE = Markup(_beside("style.css"))


@dataclass(frozen=True)
class Section:
    """Figures, tables and paragraphs under one heading, and a caption; narrow figures stand side by side.

    A `folded` section opens at a click.
    """

    title: str
    items: Sequence[Figure | pd.DataFrame | str]
    folded: bool = False
    caption: str = ""


def render(title: str, verdict: str, sections: Sequence[Section]) -> str:
    """The whole page: `title`, `verdict` (Markdown, its first paragraph large), then the sections as given.

    The order that readers expect: headline figure, gates, figures and tables, data, settings.
    """
    said = Markup(_MARKDOWN.render(verdict))
    return _TEMPLATE.render(
        title=title, style=_STYLE, said=said, sections=sections, half=_half, picture=_picture, table=_table
    )


def _half(section: Section) -> bool:
    """Whether the section, one narrow figure, leaves room for another beside it."""
    if len(section.items) != 1:
        return False
    (only,) = section.items
    return isinstance(only, Figure) and only.get_figwidth() <= 4.5


def _picture(figure: Figure) -> dict:
    """PNG at two pixels a point, as a data address, and the width in pixels at which it is meant to be seen."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=200, metadata={"Software": None})
    return {
        "address": "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode(),
        "width": round(figure.get_figwidth() * 100),
    }


def _table(frame: pd.DataFrame) -> dict:
    """Column heads, rows of formatted cells, and how many rows were left out."""
    if not isinstance(frame.index, pd.RangeIndex):
        frame = frame.reset_index(names=[name or "" for name in frame.index.names], allow_duplicates=True)
    shown = frame.head(MOST_ROWS)
    columns = [_column(shown.iloc[:, i]) for i in range(shown.shape[1])]
    heads = [(str(name), number) for name, (number, _) in zip(frame.columns, columns, strict=True)]
    rows = list(zip(*(cells for _, cells in columns), strict=True))
    return {"heads": heads, "rows": rows, "left_out": len(frame) - len(shown), "tones": TONES}


def _column(values: pd.Series) -> tuple[bool, list[str]]:
    """(is it a column of numbers, its cells): at most three significant digits of the largest, thousands apart."""
    if pd.api.types.is_bool_dtype(values):
        return False, ["yes" if value else "no" for value in values]
    if not pd.api.types.is_numeric_dtype(values):
        cells = ["–" if pd.api.types.is_scalar(value) and pd.isna(value) else _text(value) for value in values]
        return all(isinstance(value, Interval) for value in values), cells
    size = np.abs(values.to_numpy(float, na_value=np.nan))
    size = size[np.isfinite(size) & (size > 0)]
    most = int(np.clip(2 - np.floor(np.log10(size.max())), 0, 8)) if size.size else 0
    digits = next((fewer for fewer in range(most) if (np.round(size, fewer) == size).all()), most)
    return True, ["–" if pd.isna(value) else f"{value:,.{digits}f}".replace("-", "−") for value in values]


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, pd.Timestamp):
        return value.isoformat(sep=" ", timespec="seconds").removesuffix(" 00:00:00")
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
