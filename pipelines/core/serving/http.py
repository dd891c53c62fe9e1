"""Answer HTTP requests with a loaded version: MLflow's scoring server, its faults in one sentence."""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import Request, Response
    from mlflow.pyfunc import PyFuncModel

HOST = "127.0.0.1"
LONGEST = 1_000  # characters of an error message


def listen(model: PyFuncModel, *, port: int) -> None:
    """Run the server for the loaded version until it is ended."""
    import uvicorn
    from mlflow.pyfunc import scoring_server

    logging.getLogger(scoring_server.__name__).setLevel(logging.ERROR)  # it repeats what the client receives
    app = scoring_server.init(model)
    app.middleware("http")(plain_errors)
    with contextlib.suppress(KeyboardInterrupt):  # which uvicorn raises anew once it has ended
        uvicorn.run(app, host=HOST, port=port, log_level="warning")


async def plain_errors(request: Request, answer: Callable[[Request], Awaitable[Any]]) -> Response:
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
        answer = json.loads(body)
        body = str(answer.get("message", answer.get("detail", body))) if isinstance(answer, dict) else body
    for _ in range(2):  # one inside the other
        body = re.sub(r"^Failed to (predict|enforce schema of) data .*?Error: ", "", body, flags=re.DOTALL)
    return " ".join(body.partition("IMPORTANT:")[0].split())[:LONGEST]
