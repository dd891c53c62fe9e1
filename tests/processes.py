"""Other processes, waited for until they are ready and no longer."""

import signal
import time
from collections.abc import Callable

BOUND = 600
"""Seconds after which something that takes a few is taken to hang, also where many tests share a slow machine."""


def wait_until(ready: Callable[[], object], what: str, seconds: float = BOUND) -> None:
    """Ask again and again until it is ready; fails where it takes longer than the bound.

    Args:
        ready: gives something true once it is; it may fail the test where waiting is in vain.
        what: is waited for, in words.
        seconds: the bound.
    """
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, f"{what} took longer than {seconds:g} seconds"
        time.sleep(0.1)


def obey_ctrl_c() -> None:
    """A process that a shell started in the background ignores Ctrl-C, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
