"""What a domain's report yields."""

from __future__ import annotations

from typing import Any, NamedTuple


class Item(NamedTuple):
    """A number, a figure, a table, or the bytes of a file, by its name in the run; a plain tuple will do.

    The caption of a figure or table says what to look for in it and how to read it; that of a number what it is, and
    that of a sound what is heard. What is not `shown` is a file of the run, but not on the page: a table that repeats
    a figure.
    """

    name: str
    content: Any
    caption: str = ""
    shown: bool = True
