"""`ui`: MLflow's UI on the runs of this folder, with a link to each pipeline's list."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import requests

from pipelines.core.commands import ports
from pipelines.core.contract import InputError, Pipeline

PAUSE = 0.2  # seconds between two looks whether the server answers


def ui(pipelines: Mapping[str, Pipeline], arguments: Sequence[str]) -> None:
    """Start MLflow's UI and print the links once it answers; until Ctrl-C. Where a server is in use, print its links.

    Args:
        pipelines: by name.
        arguments: `--port N`; all others are those of `mlflow ui`.

    Raises:
        InputError: for a port that is taken or no port, or a store that does not answer.
    """
    from pipelines.core.store import tracking

    parser = argparse.ArgumentParser(prog="pipelines ui", description=ui.__doc__, epilog="Other flags: `mlflow ui`'s.")
    parser.add_argument("--port", type=int, default=tracking.port(), help="port to listen on (default: %(default)s)")
    asked, others = parser.parse_known_args(arguments)
    os.environ["MLFLOW_PORT"] = str(asked.port)
    tracking.connect()
    if not tracking.local():
        print("\n".join(links(pipelines)))
        return
    if why := ports.fault(asked.port):
        raise InputError(
            f"port {asked.port} cannot be used ({why}). If `make ui` runs in another terminal, open {tracking.home()};"
            f" otherwise take another: make ui PORT={ports.next_free(asked.port)}"
        )
    print("MLflow starts, which takes some seconds …", flush=True)
    store = os.environ["MLFLOW_TRACKING_URI"]
    log = Path(store.removeprefix(tracking.LOCAL)).with_name("ui.log")
    command = [sys.executable, "-m", "mlflow", "ui", "--workers", "1", "--port", str(asked.port)]
    with log.open("w") as output:
        server = subprocess.Popen(
            [*command, "--backend-store-uri", store, *others],
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        while server.poll() is None and not _answers(asked.port):
            time.sleep(PAUSE)
        if server.poll() is None:
            print("\n".join([*links(pipelines), "Ctrl-C ends it."]), flush=True)
        server.wait()
    except KeyboardInterrupt:
        server.wait()
        print("Ended.")
    else:
        raise InputError(f"MLflow's UI ended by itself, with code {server.returncode}: {log} says why.")


def links(pipelines: Mapping[str, Pipeline]) -> Iterator[str]:
    """A line for each pipeline that has runs, with the address of their list; lists of earlier releases are set up."""
    from pipelines.core.store import registry, tracking

    found = {name: pipeline for name, pipeline in pipelines.items() if tracking.runs_at(pipeline)}
    for name, pipeline in found.items():
        tracking.introduce(pipeline)
        registry.introduce(pipeline)
        yield f"{name}: {tracking.runs_at(pipeline)}"
    if not found:
        yield f"No runs yet, `make {next(iter(pipelines), 'NAME')}` makes one: {tracking.home()}"


def _answers(port: int) -> bool:
    try:
        return requests.get(f"http://{ports.HOST}:{port}/health", timeout=5).ok
    except requests.RequestException:
        return False
