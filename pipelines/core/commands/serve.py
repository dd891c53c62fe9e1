"""`serve`: MLflow's scoring server on a registered version, on this machine alone."""

from __future__ import annotations

import contextlib

from pipelines.core.commands import ports
from pipelines.core.contract import InputError, Pipeline
from pipelines.core.serving.http import HOST
from pipelines.core.training import device


def serve(pipeline: Pipeline, *, port: int = 8000, version: str = "champion", name: str = "") -> None:
    """Answer raw records over HTTP, at POST /invocations, with the decisions of a registered version; until Ctrl-C.

    Args:
        pipeline: whose version it is.
        port: Port to listen on, on this machine alone.
        version: The version to answer with: champion, or its number.
        name: Registered model; by default the one named as the pipeline, or its only one.

    Raises:
        InputError: for a port that is taken, a name that is not allowed, or a version that does not exist.
    """
    if why := ports.fault(port):
        raise InputError(
            f"--port: expected one that is free, such as {ports.next_free(port)}. Received: {port} ({why})."
        )
    with device.quiet():
        from pipelines.core.store import isolation, registry, tracking

        tracking.connect()
        model = registry.find_version(pipeline, version, name)
        same_code = model.same_code(pipeline)
    print(f"Serving version {model.number} of {model.name} at http://{HOST}:{port}/invocations; Ctrl-C ends it.")
    with contextlib.suppress(KeyboardInterrupt):
        isolation.run_in_version(model.uri, same_code, "pipelines.core.serving.http:listen", port=port)
    print("Ended.")
