"""What a domain's report yields."""

from __future__ import annotations

from typing import Any, NamedTuple


class Item(NamedTuple):
    """A number, a figure, a table, or the bytes of a file, by its name in the run; a plain tuple will do.

    The caption of a figure or table says what to look for in it and how to read it.
    """

    name: str
    content: Any
    caption: str = ""
