"""The steps of a run on the terminal: a line for each, with what came of it and its seconds.

While a step runs, a terminal shows its line with the seconds counting; where the output is a file or a pipe, the line
is printed every few seconds. It does not know which steps there are.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.live import Live
from rich.text import Text

WIDTH, NAME, SECONDS = 80, 10, 10
"""Columns of a line, of the step's name and of its seconds."""
BEAT = 5.0
"""Seconds between two lines of the same step, where there is no terminal."""


class Step:
    """A step that has begun; `text` says what it is at and, in the end, what came of it."""

    def __init__(self, name: str, text: str = "") -> None:
        self.name, self.text, self.started = name, text, time.perf_counter()

    def line(self, ended: bool) -> str:
        """The line, at most WIDTH columns; an ellipsis says that the step has not `ended` yet."""
        seconds = time.perf_counter() - self.started
        shown = f"{seconds:,.1f} s" if ended else f"{seconds:,.0f} s …"
        text, room = " ".join(self.text.split()), WIDTH - NAME - SECONDS
        fitting = set_cell_size(text, room) if cell_len(text) <= room else set_cell_size(text, room - 1) + "…"
        return f"{self.name:<{NAME}}{fitting}{shown:>{SECONDS}}"


@contextlib.contextmanager
def step(name: str, text: str = "", live: bool = True) -> Iterator[Step]:
    """Show a step while it runs, and print its line once it has ended; an error ends it without a line.

    Args:
        name: of the step, up to 9 characters.
        text: what it does; it may be replaced while the step runs.
        live: False for a step that shows progress by other means, such as the reading of files.
    """
    begun, console = Step(name, text), Console()
    with _on_terminal(begun, console) if live and console.is_terminal else _beats(begun):
        yield begun
    print(begun.line(ended=True), flush=True)


def _on_terminal(begun: Step, console: Console) -> Live:
    """Keep the line at the foot of the terminal; it vanishes at the end."""
    return Live(console=console, get_renderable=lambda: Text(begun.line(ended=False), no_wrap=True), transient=True)


@contextlib.contextmanager
def _beats(begun: Step) -> Iterator[None]:
    """Print the line every BEAT seconds."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT):
            print(begun.line(ended=False), flush=True)

    thread = threading.Thread(target=beat, name=f"beats of {begun.name}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
