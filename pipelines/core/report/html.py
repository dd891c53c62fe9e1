"""The report of a run as one HTML file, for people who would rather look than read.

Nothing is fetched and nothing is executed: figures are embedded, a content policy forbids the rest, and every text is
escaped, because class names, columns and file names come from people's data.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jinja2 import Environment
from markdown_it import MarkdownIt
from markupsafe import Markup
from matplotlib.figure import Figure

from pipelines.core.evaluation.bootstrap import Interval

MOST_ROWS = 200
# What a reader looks for in the table of gates becomes a coloured mark.
TONES = {"holds": "good", "missed": "bad", "undecided": "open"}
# A verdict quotes names out of people's data: no HTML, no links, no pictures.
_MARKDOWN = (
    MarkdownIt("commonmark", {"html": False}).enable("table").disable(["link", "image", "autolink", "reference"])
)


@dataclass(frozen=True)
class Exhibit:
    """A figure, a table or a paragraph of a report, with a caption below."""

    content: Figure | pd.DataFrame | str
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """Exhibits under one heading; narrow figures stand side by side. `folded` ones open at a click."""

    title: str
    exhibits: Sequence[Exhibit] = field(default_factory=list)
    folded: bool = False


def render(title: str, verdict: str, sections: Sequence[Section]) -> str:
    """The whole page: `title`, `verdict` (Markdown, its first paragraph large), then the sections as given.

    The order that readers expect: headline figure, gates, figures and tables, data, settings.
    """
    said = Markup(_MARKDOWN.render(verdict))
    return _TEMPLATE.render(title=title, said=said, sections=sections, half=_half, picture=_picture, table=_table)


def _half(section: Section) -> bool:
    """Whether the section, one narrow figure, leaves room for another beside it."""
    shown = [exhibit.content for exhibit in section.exhibits]
    return len(shown) == 1 and isinstance(shown[0], Figure) and shown[0].get_figwidth() <= 4.5


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


_TEMPLATE = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{{ title }}</title>
<style>
:root {
  color-scheme: light dark;
  --page: #fbfbfa; --ink: #1d1d1f; --muted: #66666b; --line: #e3e3e0; --accent: #0072b2;
  --good: #17683f; --good-bg: #e2f3e9; --bad: #a02c1c; --bad-bg: #fbe6e2; --open: #7a5600; --open-bg: #fdf1d3;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #17181a; --ink: #e9e9ea; --muted: #a0a0a6; --line: #34353a; --accent: #58b4e8;
    --good: #7fd9a6; --good-bg: #17382a; --bad: #ff9c8c; --bad-bg: #48201a; --open: #f3cc72; --open-bg: #43350f;
  }
}
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 964px; padding: 40px 32px 80px; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif }
h1 { margin: 0 0 10px; font-size: 15px; font-weight: 500; color: var(--muted) }
main { display: flex; flex-wrap: wrap; gap: 0 20px }
section { flex: 0 0 100%; max-width: 100%; margin-top: 44px }
.half { flex: 0 0 440px }
h2 { margin: 0 0 14px; padding-top: 14px; border-top: 1px solid var(--line); font-size: 19px; line-height: 1.3 }
p { margin: 0 0 10px; max-width: 70ch; overflow-wrap: anywhere }
header table { margin: 4px 0 18px }
header > p:first-of-type { font-size: 24px; line-height: 1.35; font-weight: 600; max-width: none; text-wrap: pretty }
.exhibits { display: flex; flex-wrap: wrap; gap: 20px; align-items: flex-start }
.exhibits > * { margin: 0; max-width: 100% }
.wide { flex: 0 0 100%; overflow-x: auto }
img { display: block; max-width: 100%; height: auto; background: #fff; border-radius: 6px }
figcaption { margin-top: 6px; font-size: 13px; color: var(--muted); max-width: 90ch }
table { border-collapse: collapse; font-size: 14px; line-height: 1.4 }
th, td { padding: 6px 22px 6px 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere }
th { font-weight: 600; font-size: 13px; color: var(--muted); vertical-align: bottom }
td { font-variant-numeric: tabular-nums; min-width: 4em }
td:first-child:not(.number) { min-width: 8em }
.number { text-align: right; white-space: nowrap }
mark { padding: 1px 9px; border-radius: 10px; font-weight: 600; font-size: 13px; white-space: nowrap }
.good { color: var(--good); background: var(--good-bg) }
.bad { color: var(--bad); background: var(--bad-bg) }
.open { color: var(--open); background: var(--open-bg) }
summary { cursor: pointer; color: var(--accent) }
@media print {
  body { padding: 0; max-width: none; font-size: 11pt; background: #fff; color: #000 }
  figure, tr { break-inside: avoid }
  h2 { break-after: avoid }
}
</style>
</head>
<body>
<header>
<h1>{{ title }}</h1>
{{ said }}
</header>
{% macro exhibits(section) %}
<div class="exhibits">
{% for exhibit in section.exhibits %}
{% if exhibit.content is string %}
<p class="wide">{{ exhibit.content }}</p>
{% elif exhibit.content.savefig %}
{% set shown = picture(exhibit.content) %}
<figure style="width: {{ shown.width }}px">
<img src="{{ shown.address }}" width="{{ shown.width }}" alt="{{ exhibit.caption or section.title }}">
{% if exhibit.caption %}<figcaption>{{ exhibit.caption }}</figcaption>{% endif %}
</figure>
{% else %}
{% set shown = table(exhibit.content) %}
<figure class="wide">
<table>
<thead><tr>
{% for name, number in shown.heads %}<th{% if number %} class="number"{% endif %}>{{ name }}</th>{% endfor %}
</tr></thead>
<tbody>
{% for row in shown.rows %}
<tr>{% for cell in row %}
<td{% if shown.heads[loop.index0][1] %} class="number"{% endif %}>
{%- if cell in shown.tones %}<mark class="{{ shown.tones[cell] }}">{{ cell }}</mark>{% else %}{{ cell }}{% endif -%}
</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table>
{% if shown.left_out or exhibit.caption %}
<figcaption>
{{ exhibit.caption }}
{% if shown.left_out %}The first {{ shown.rows | length }} rows; {{ shown.left_out }} more are left out.{% endif %}
</figcaption>
{% endif %}
</figure>
{% endif %}
{% endfor %}
</div>
{% endmacro %}
<main>
{% for section in sections %}
<section{% if half(section) %} class="half"{% endif %}>
<h2>{{ section.title }}</h2>
{% if section.folded %}
<details><summary>Show</summary>{{ exhibits(section) }}</details>
{% else %}
{{ exhibits(section) }}
{% endif %}
</section>
{% endfor %}
</main>
</body>
</html>
""")
