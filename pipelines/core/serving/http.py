"""Answer HTTP requests with a loaded version: MLflow's scoring server, its faults in one sentence."""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import Request, Response
    from mlflow.pyfunc import PyFuncModel

HOST = "127.0.0.1"
LONGEST = 1_000  # characters of what a client is told


def listen(model: PyFuncModel, *, port: int) -> None:
    """Runs the server for the loaded version until it is told to end."""
    import uvicorn
    from mlflow.pyfunc import scoring_server

    logging.getLogger(scoring_server.__name__).setLevel(logging.ERROR)  # it warns of what the client is told anyway
    app = scoring_server.init(model)
    app.middleware("http")(said_plainly)
    with contextlib.suppress(KeyboardInterrupt):  # which uvicorn raises anew once it has ended
        uvicorn.run(app, host=HOST, port=port, log_level="warning")


async def said_plainly(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    """What MLflow answers, but for a fault: one sentence, without the stack trace and the data that it sends along."""
    from starlette.responses import JSONResponse

    try:
        response = await answer(request)
    except Exception as error:  # whatever a request brings about, the next one is to be answered
        return JSONResponse({"message": f"The request could not be read: {type(error).__name__}."}, 400)
    if response.status_code < 400:
        return response
    body = b"".join([chunk async for chunk in response.body_iterator]).decode(errors="replace")
    return JSONResponse({"message": sentence(body)}, response.status_code)


def sentence(body: str) -> str:
    """What a fault's answer says: MLflow's is JSON with a `message`, the server's own has a `detail`, or it is text."""
    with contextlib.suppress(ValueError):
        told = json.loads(body)
        body = str(told.get("message", told.get("detail", body))) if isinstance(told, dict) else body
    for _ in range(2):  # one inside the other
        body = re.sub(r"^Failed to (predict|enforce schema of) data .*?Error: ", "", body, flags=re.DOTALL)
    return " ".join(body.partition("IMPORTANT:")[0].split())[:LONGEST]
