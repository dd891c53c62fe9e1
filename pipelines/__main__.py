"""The command line: which pipelines there are, training one, and a look at the machine.

Nothing heavy is imported before it is known what to do, so that `list` and `--help` answer at once.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TypeVar

from pipelines.core.contract import DivergedError, InputError, Pipeline, UnrecordedError, discover

T = TypeVar("T")

USAGE = """\
usage: pipelines list                  every pipeline, and the public data that it can fetch
       pipelines train NAME [flags]    train one and judge it; `train NAME --help` lists the flags
       pipelines evaluate NAME --data DATA   score a version on labelled data; trains nothing
       pipelines predict NAME --data DATA --out FILE.csv|.parquet
                                       write a version's decisions on new data
       pipelines serve NAME [--port]   answer requests over HTTP with a version
       pipelines history NAME          its versions, how good they are and what was decided about them
       pipelines promote NAME [flags]  make a version champion by your own decision, or --rollback to the one before
       pipelines send NAME             record what was trained while the MLflow server did not answer
       pipelines NAME VERB [flags]     what only one pipeline can do, such as speech_commands listen FILE
       pipelines ui [--port N]         open MLflow on the runs, with a link to each pipeline's list
       pipelines doctor                whether this machine has what a run needs"""

HELP = ("-h", "--help")

ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "3",  # without a GPU, even 2 lets an alarming "failed call to cuInit" through
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # seconds, not minutes, until training goes on without a lost server
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # every command prints the link to its report
    # Boosted trees on small data: threads that sleep at once when they wait take five times as long on an idle machine,
    # threads that spin on take manyfold on a busy one.
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "1000",
}
"""What libraries read while they are imported."""


def prepare() -> None:
    """Set ENVIRONMENT, before any of these libraries is imported; values that the user has set win."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns 0, or 1 for a fault of the machine, 2 for a user's mistake, 130 for Ctrl-C."""
    prepare()
    command, *rest = (sys.argv[1:] if arguments is None else arguments) or HELP
    try:
        if command in HELP:
            print(USAGE)
            return 0
        pipelines = {} if command in COMMANDS else discover()
        if command in pipelines:
            return pipeline_command(pipelines[command], rest)
        return _pick(command, COMMANDS, "command")(rest)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except DivergedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except UnrecordedError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted: a run that was open is kept as KILLED, and nothing was promoted.", file=sys.stderr)
        return 130


def list_command(arguments: Sequence[str]) -> int:
    """Print name, title and registered data sets of each pipeline."""
    _refuse(arguments, "list")
    pipelines = discover()
    width = max(map(len, pipelines), default=0)
    for name, pipeline in pipelines.items():
        print(f"{name:{width}}  {pipeline.title}; --data {' | '.join([*pipeline.demos, *pipeline.sources, 'PATH'])}")
    return 0


def train_command(arguments: Sequence[str]) -> int:
    """Train the pipeline that the first argument names, with the others as its settings."""
    if not arguments or arguments[0] in HELP:
        print(USAGE)
        return 0
    name, *flags = arguments
    pipeline = _pick(name, discover(), "pipeline")

    import tyro

    settings = tyro.cli(pipeline.settings, args=flags, prog=f"pipelines train {name}", description=pipeline.title)

    from pipelines.core.store.model_names import check_name

    check_name(settings.name)

    from pipelines.core.commands.train import train

    train(pipeline, settings)
    return 0


def ui_command(arguments: Sequence[str]) -> int:
    """Open MLflow's UI until Ctrl-C."""
    from pipelines.core.commands.ui import ui

    ui(discover(), arguments)
    return 0


def doctor_command(arguments: Sequence[str]) -> int:
    """Print one line for each thing that a run needs of this machine; return 1 if any is amiss."""
    _refuse(arguments, "doctor")

    from pipelines.core.commands.doctor import doctor

    fit = True
    for name, good, sentence in doctor():
        print(f"{'ok' if good else 'FAULT':5}  {name:8}  {sentence}", flush=True)
        fit &= good
    return 0 if fit else 1


def pipeline_command(pipeline: Pipeline, arguments: Sequence[str]) -> int:
    """Run a command that only this pipeline has."""
    verbs = pipeline.verbs
    if not verbs:
        raise InputError(f"{pipeline.name} has no commands beyond the common ones: expected `train {pipeline.name}`.")
    if not arguments or arguments[0] in HELP:
        print(f"usage: pipelines {pipeline.name} {' | '.join(verbs)} [flags]")
        return 0
    return _pick(arguments[0], verbs, f"verb of {pipeline.name}")(arguments[1:])


ON_VERSIONS = {
    "evaluate": "evaluate",
    "predict": "predict",
    "serve": "serve",
    "history": "versions",
    "promote": "versions",
    "send": "send",
}
"""Commands on a pipeline's versions, each the function of that name in this module of `core/commands`."""


def versions_command(command: str, arguments: Sequence[str]) -> int:
    """Run one of ON_VERSIONS for a pipeline; the parameters of its function are the flags."""
    if not arguments or arguments[0] in HELP:
        print(USAGE)
        return 0
    name, *flags = arguments
    pipeline = _pick(name, discover(), "pipeline")

    import tyro

    from pipelines.core.training import device

    with device.quiet():
        function = getattr(importlib.import_module(f"pipelines.core.commands.{ON_VERSIONS[command]}"), command)
    tyro.cli(partial(function, pipeline), args=flags, prog=f"pipelines {command} {name}")
    return 0


COMMANDS = {"list": list_command, "train": train_command, "ui": ui_command, "doctor": doctor_command} | {
    command: partial(versions_command, command) for command in ON_VERSIONS
}


def _pick(name: str, known: Mapping[str, T], what: str) -> T:
    """What `name` stands for. Raises InputError, with the close name if there is one."""
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f", perhaps {close[0]}" if close else ""
    raise InputError(f"the {what} must be one of {', '.join(known)}{hint}. Received: {name}")


def _refuse(arguments: Sequence[str], command: str) -> None:
    if arguments:
        raise InputError(f"`{command}` takes no arguments. Received: {' '.join(arguments)}")


if __name__ == "__main__":
    sys.exit(main())
