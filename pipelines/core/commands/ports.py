"""Ports of this machine: whether one is free, and which is the next that is."""

from __future__ import annotations

import socket

HOST = "127.0.0.1"
TRIED = 100
"""Ports after a taken one among which a free one is looked for."""


def fault(port: int) -> str:
    """Why nothing can listen on this port, "" if something can."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((HOST, port))
        except (OSError, OverflowError) as error:
            return str(error)
    return ""


def next_free(port: int) -> int:
    """The first free port after this one; the port itself if there is none near."""
    return next((other for other in range(port + 1, port + TRIED) if not fault(other)), port)
