"""The report of a run as one HTML file, for people who would rather look than read.

Nothing is fetched and nothing is executed: figures are embedded, a content policy forbids the rest, and every text is
escaped, because class names, columns and file names come from people's data.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Number
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from jinja2 import Environment
from markdown_it import MarkdownIt
from markupsafe import Markup
from matplotlib.figure import Figure

from pipelines.core.evaluation.bootstrap import Interval
from pipelines.core.report.names import minus

MOST_ROWS = 200
TONES = {"passed": "good", "kept": "good", "failed": "bad", "broken": "bad", "undecided": "open"}
"""A column of results, all of which are among these, is shown in coloured marks."""
NARROW = 4.5
"""Width in inches up to which two figures stand side by side."""
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
class Sound:
    """A WAV file that can be played on the page, and what is heard."""

    wav: bytes
    caption: str

    @property
    def address(self) -> str:
        return "data:audio/wav;base64," + base64.b64encode(self.wav).decode()


@dataclass(frozen=True)
class Section:
    """Figures, tables, sounds and paragraphs under one heading, and a caption.

    Two narrow figures that follow one another stand side by side, one alone beside its caption. A `folded` section
    opens at a click.
    """

    title: str
    items: Sequence[Figure | pd.DataFrame | Sound | str]
    folded: bool = False
    caption: str = ""

    @property
    def narrow(self) -> bool:
        """Whether it is one narrow figure, which leaves room for another beside it."""
        first = self.items[0] if len(self.items) == 1 and not self.folded else None
        return isinstance(first, Figure) and first.get_figwidth() <= NARROW

    @property
    def caption_first(self) -> bool:
        """Whether the caption stands above: that of a table, which may be long."""
        return not self.items or not isinstance(self.items[0], Figure)

    @property
    def alternative(self) -> str:
        """What stands for a figure that cannot be seen."""
        return f"{self.title}. {self.caption}" if self.caption else self.title


Layout = Literal["", "half", "lone"]


def render(title: str, verdict: str, sections: Sequence[Section]) -> str:
    """The whole page: `title`, `verdict` (Markdown, its first paragraph large), then the sections as given.

    The order that readers expect: headline figure, gates, figures and tables, data, settings.
    """
    # What stands between backquotes is to be typed, and keeps its hyphens.
    parts = [part if place % 2 else minus(part) for place, part in enumerate(verdict.split("`"))]
    return _TEMPLATE.render(
        title=minus(title),
        style=_STYLE,
        said=Markup(_MARKDOWN.render("`".join(parts))),
        sections=list(zip(sections, _layouts(sections), strict=True)),
        sounds=any(isinstance(item, Sound) for section in sections for item in section.items),
        kind=_kind,
        picture=_picture,
        table=_table,
    )


def _layouts(sections: Sequence[Section]) -> list[Layout]:
    """Narrow sections in pairs, "half"; an odd one is "lone"."""
    layouts: list[Layout] = []
    for place, section in enumerate(sections):
        if len(layouts) > place:  # the second of a pair
            continue
        pair = section.narrow and place + 1 < len(sections) and sections[place + 1].narrow
        layouts += ["half", "half"] if pair else ["lone"] if section.narrow else [""]
    return layouts


def _kind(item: Figure | pd.DataFrame | Sound | str) -> str:
    kinds = {str: "text", Sound: "sound", Figure: "picture"}
    return next((kind for of, kind in kinds.items() if isinstance(item, of)), "table")


def _picture(figure: Figure) -> dict:
    """PNG at two pixels a point, as a data address, the width in pixels at which it is meant to be seen, and its key.

    The key explains the numbers that stand in the figure for names in other scripts.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=200, metadata={"Software": None})
    return {
        "address": "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode(),
        "width": round(figure.get_figwidth() * 100),
        "broad": figure.get_figwidth() > NARROW,
        "key": getattr(figure, "key", {}),
    }


def _table(frame: pd.DataFrame) -> dict:
    """Column heads, rows of formatted cells, and how many rows were left out."""
    if not isinstance(frame.index, pd.RangeIndex):
        frame = frame.reset_index(names=[name or "" for name in frame.index.names], allow_duplicates=True)
    shown = frame.head(MOST_ROWS)
    columns = [_column(shown.iloc[:, i]) for i in range(shown.shape[1])]
    heads = [(str(name), number) for name, (number, _) in zip(frame.columns, columns, strict=True)]
    columns_of_cells = [cells for _, cells in columns]
    marked = [bool(cells) and set(cells) <= set(TONES) for cells in columns_of_cells]
    rows = list(zip(*columns_of_cells, strict=True))
    return {"heads": heads, "rows": rows, "left_out": len(frame) - len(shown), "tones": TONES, "marked": marked}


def _column(values: pd.Series) -> tuple[bool, list[str]]:
    """(is it a column of numbers, its cells): at most three significant digits of the largest, thousands apart."""
    if pd.api.types.is_bool_dtype(values):
        return False, ["yes" if value else "no" for value in values]
    if values.name == "id":  # a name, even if it is a number
        return False, list(map(str, values))
    if not pd.api.types.is_numeric_dtype(values):
        cells = ["–" if pd.api.types.is_scalar(value) and pd.isna(value) else _text(value) for value in values]
        return all(isinstance(value, Interval | Number) for value in values), cells
    size = np.abs(values.to_numpy(float, na_value=np.nan))
    size = size[np.isfinite(size) & (size > 0)]
    most = int(np.clip(2 - np.floor(np.log10(size.max())), 0, 8)) if size.size else 0
    digits = next((fewer for fewer in range(most) if (np.round(size, fewer) == size).all()), most)
    return True, ["–" if pd.isna(value) else minus(f"{value:,.{digits}f}") for value in values]


def _text(value: object) -> str:
    if isinstance(value, Interval):
        return minus(str(value))
    if isinstance(value, Number) and not isinstance(value, bool):
        return minus(_number(float(value)))  # type: ignore[arg-type]
    if isinstance(value, pd.Timestamp):
        return value.isoformat(sep=" ", timespec="seconds").removesuffix(" 00:00:00")
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _number(value: float) -> str:
    """Four significant digits, thousands apart, no exponents but for the very small."""
    if value.is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"
