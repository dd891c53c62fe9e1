"""`serve`: MLflow's scoring server on a registered version, on this machine alone."""

from __future__ import annotations

import contextlib
import socket

from pipelines.core.contract import InputError, Pipeline
from pipelines.core.serving.http import HOST
from pipelines.core.training import device


def serve(pipeline: Pipeline, *, port: int = 8000, model: str = "champion", name: str = "") -> None:
    """Answer raw records over HTTP, at POST /invocations, with the decisions of a registered version; until Ctrl-C.

    Args:
        pipeline: whose version it is.
        port: Port to listen on, on this machine alone.
        model: Version to answer with: champion, or a number.
        name: Registered model; by default the one named as the pipeline, or its only one.

    Raises:
        InputError: for a port that is taken, a name that is not allowed, or a version that does not exist.
    """
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise InputError(f"--port: expected one that is free. Received: {port} ({error}).") from None
    with device.quiet():
        from pipelines.core.store import isolation, registry, tracking

        tracking.connect()
        version = registry.find_version(pipeline, model, name)
        same_code = version.same_code(pipeline)
    print(f"Serving version {version.number} of {version.name} at http://{HOST}:{port}/invocations; Ctrl-C ends it.")
    with contextlib.suppress(KeyboardInterrupt):
        isolation.run_in_version(version.uri, same_code, "pipelines.core.serving.http:listen", port=port)
    print("Ended.")
