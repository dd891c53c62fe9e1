"""Names and numbers as people read them: in words, with true minus signs, in letters that the fonts have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

CANDIDATES = (
    "Noto Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans SC", "Noto Sans JP",
    "Noto Sans KR", "Noto Sans Arabic", "Noto Sans Devanagari", "Noto Sans Bengali", "Noto Sans Tamil",
    "Noto Sans Thai", "Noto Sans Hebrew", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback",
    "IPAexGothic", "NanumGothic", "Lohit Devanagari", "FreeSans", "Unifont", "PingFang SC", "Hiragino Sans",
    "Hiragino Sans GB", "Apple SD Gothic Neo", "Kohinoor Devanagari", "Geeza Pro", "Thonburi", "Arial Unicode MS",
    "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Nirmala UI",
)  # fmt: skip
"""Fonts with other scripts than Latin, Greek and Cyrillic, in the order in which they are tried."""
_PRESENT = {font.name for font in fontManager.ttflist}
FAMILIES = ["DejaVu Sans", *(name for name in CANDIDATES if name in _PRESENT)]
"""Fonts of the figures on this machine; Matplotlib takes each character from the first that has it."""
IN_CAPITALS = {
    name.lower(): name
    for name in ("ROC", "AUC", "AP", "PSI", "CRPS", "QLIKE", "HAR", "GARCH", "EWMA", "Brier", "LiteRT", "PIT", "ID")
}
_key: ContextVar[dict[str, str] | None] = ContextVar("_key", default=None)


def words(name: str) -> str:
    """The name of a metric or an item in words: `crps_skill_5d` is "CRPS skill 5 days"."""
    text = re.sub(r"\b(\d+)d\b", lambda found: f"{found[1]} day{'s'[: found[1] != '1']}", name.replace("_", " "))
    return " ".join(IN_CAPITALS.get(word, word) for word in text.split())


def heading(name: str) -> str:
    """The name in words, with a capital letter at the beginning."""
    text = words(name)
    return text[:1].upper() + text[1:]


def minus(text: str) -> str:
    """The text with a true minus sign (U+2212) before negative numbers; ranges, dates and names keep their hyphens."""
    return re.sub(r"(?<![\w.\-])-(?=\.?\d)", "−", text)


def plain(name: object, most: int = 80) -> str:
    """A name for a figure: no TeX, not longer than `most` characters, and in letters that the fonts have.

    A run of characters that no font of this machine can draw becomes #1, #2 and so on, see `numbered`.
    """
    text = _drawable(str(name))
    return (text if len(text) <= most else text[: most - 1] + "…").replace("$", r"\$")


@contextmanager
def numbered() -> Iterator[dict[str, str]]:
    """Collect what `plain` could not write out: {"#1": the name}, for the page to explain beside the figure."""
    key: dict[str, str] = {}
    token = _key.set(key)
    try:
        yield key
    finally:
        _key.reset(token)


def _drawable(text: str) -> str:
    if all(map(_has_glyph, text)):
        return text
    # A run may hold spaces, marks and hyphens, but neither begins nor ends with them.
    strange = "".join("x" if not _has_glyph(letter) else " " if not letter.isalnum() else "a" for letter in text)
    pieces, end = [], 0
    for run in re.finditer(r"x(?:[x ]*x)?", strange):
        pieces += [text[end : run.start()], _number(text[run.start() : run.end()])]
        end = run.end()
    return "".join([*pieces, text[end:]])


def _number(name: str) -> str:
    key = _key.get()
    if key is None:
        return "#"
    known = {text: number for number, text in key.items()}
    number = known.get(name, f"#{len(key) + 1}")
    key[number] = name
    return number


@cache
def _has_glyph(letter: str) -> bool:
    # Line breaks and joiners have no glyph and need none.
    return letter in "\n\u200c\u200d\u200e\u200f" or any(font.get_char_index(ord(letter)) for font in _fonts())


@cache
def _fonts() -> list:
    return [get_font(findfont(FontProperties(family=name))) for name in FAMILIES]
