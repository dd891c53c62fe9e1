"""The sections of the page that show what a report yields."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from pipelines.core.report.html import Section, Sound
from pipelines.core.report.items import Item
from pipelines.core.report.names import heading

LONG = 25
"""Rows of a table, from which on it opens at a click."""
LARGE = 1_000_000
"""Bytes of a sound, from which on it is not on the page."""


def sections(items: Sequence[Item]) -> list[Section]:
    """A section of the page for each figure and table that is shown, and one for all sounds; no numbers, no files."""
    found, sounds = [], []
    for item in items:
        if isinstance(item.content, bytes):
            if item.shown and item.name.endswith(".wav") and len(item.content) < LARGE:
                sounds.append(Sound(item.content, item.caption or item.name))
                if len(sounds) == 1:
                    found.append(Section("Sounds of the worst mistakes", sounds, caption=SOUNDS))
        elif item.shown and not isinstance(item.content, int | float):
            long = isinstance(item.content, pd.DataFrame) and len(item.content) > LONG
            found.append(Section(heading(item.name), [item.content], folded=long, caption=item.caption))
    return found


SOUNDS = "Play the clips that the network got wrong although it was sure: is the label right, is the word cut off?"
