"""Names of registered models: which are allowed, and which one data give.

It does not import MLflow, so that a command can refuse a name at once.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pipelines.core.contract import InputError, Pipeline, Settings

if TYPE_CHECKING:
    from pipelines.core.reading.downloads import Origin

LONGEST = 256
"""Characters of a name that every database of MLflow stores."""
_ALLOWED = re.compile(r"\w([\w .-]*[\w.-])?")  # no ':' or '/', which MLflow refuses; no quotes, '%', '?', '#' or '@'


def check_name(name: str) -> None:
    """Refuse a registered model's name that MLflow does not accept, or that a search or a URI would break on.

    Args:
        name: as the user gives it with --name; "" if they give none.

    Raises:
        InputError: says which characters are allowed.
    """
    if name and (len(name) > LONGEST or not _ALLOWED.fullmatch(name)):
        received = repr(name) if len(name) <= LONGEST else f"{len(name):,} characters"
        raise InputError(
            f"--name: expected up to {LONGEST} letters, digits, '_', '-', '.' and spaces, the first a letter, a digit "
            f"or '_', the last no space. Received: {received}."
        )


def registered_name(pipeline: Pipeline, settings: Settings, origin: Origin | None = None) -> str:
    """The registered model that a version joins: the name in the settings, else the one that the data give.

    Your own data give the pipeline's name, demo and public data PIPELINE-DATA, so that a rehearsal never affects the
    model of your data. Characters of the data's name that are not allowed become '-'.

    Args:
        pipeline: whose version it is.
        settings: their `name` wins.
        origin: of the data; None stands for your own.

    Raises:
        InputError: for a name in the settings that is not allowed.
    """
    check_name(settings.name)
    if settings.name:
        return settings.name
    if origin is None or origin.kind == "own":
        return pipeline.name
    return re.sub(r"[^\w.-]", "-", f"{pipeline.name}-{origin.name}")[:LONGEST]
