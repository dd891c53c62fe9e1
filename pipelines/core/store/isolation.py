"""Run a registered version with the code that it carries: in a child process, unless that is today's code."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd

from pipelines.core.contract import InputError, Pipeline
from pipelines.core.serving.model import Scorer


def load(uri: str) -> Scorer:
    """The logged model at `uri` in this process, with today's code, to reach its network and its facts."""
    return mlflow.pyfunc.load_model(uri).unwrap_python_model()


_CHILD = """
import sys, mlflow, numpy, pandas
uri, records, rows, scored = sys.argv[1:]
scorer = mlflow.pyfunc.load_model(uri).unwrap_python_model()
outputs, scores = scorer.scores(pandas.read_parquet(records), numpy.load(rows))
numpy.savez(scored, outputs=outputs, scores=scores)
"""


def score(uri: str, same_code: bool, records: pd.DataFrame, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores parsed records with the registered version at `uri`, running the code that the version carries.

    A process that has imported today's package would silently run today's code on yesterday's network; unless the
    version was made with the `same_code`, it is therefore scored in a child process.

    Returns:
        Network outputs and calibrated scores, each of shape (rows, …).

    Raises:
        RuntimeError: if the version cannot score such records; the message is the last line of what it said.
    """
    if same_code:
        return load(uri).scores(records, rows)
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder, name)) for name in ("records.parquet", "rows.npy", "scored.npz")]
        records.to_parquet(paths[0])
        np.save(paths[1], rows)
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        # From an empty folder, so that the version's own package is the only one to be found.
        command = [sys.executable, "-c", _CHILD, uri, *paths]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError((done.stderr.strip().splitlines() or ["it ended without a word"])[-1])
        with np.load(paths[2]) as scored:
            return scored["outputs"], scored["scores"]


_CARRIED = """
import importlib, json, os, pathlib, sys
uri, function, arguments, answer = sys.argv[1:]
kept = os.dup(2)  # as `device.quiet` does, which is not there yet
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
try:
    import mlflow
    model = mlflow.pyfunc.load_model(uri)
finally:
    os.dup2(kept, 2)
from pipelines.core.contract import InputError
module, _, name = function.partition(":")
try:
    told = {"answer": getattr(importlib.import_module(module), name)(model, **json.loads(arguments))}
except InputError as error:
    told = {"mistake": str(error)}
except ModuleNotFoundError as error:
    told = {"mistake": f"This version was made before there was {function}: train a new one."}
except KeyboardInterrupt:
    sys.exit(130)
pathlib.Path(answer).write_text(json.dumps(told))
"""


def carried(uri: str, same_code: bool, function: str, **arguments: Any) -> Any:
    """What `function`, "module:name", gives for the version at `uri` and the arguments, all of them JSON.

    It runs with the code that the version carries: in a child process, unless that is the `same_code`. What the child
    prints passes through, and so does Ctrl-C.

    Raises:
        InputError: what the function raises as such, or a version that does not carry it.
        RuntimeError: if the child ends without an answer.
    """
    if same_code:
        from pipelines.core.training import device

        module, _, name = function.partition(":")
        with device.quiet():
            model = mlflow.pyfunc.load_model(uri)
        return getattr(importlib.import_module(module), name)(model, **arguments)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder, "answer.json")
        command = [sys.executable, "-P", "-c", _CARRIED, uri, function, json.dumps(arguments), str(answer)]
        done = subprocess.run(command, env=environment, check=False)  # -P: the working directory holds no code of its
        if not answer.exists():
            raise RuntimeError(f"the process that ran version {uri} ended with code {done.returncode}")
        told = json.loads(answer.read_text())
    if "mistake" in told:
        raise InputError(told["mistake"])
    return told["answer"]


SCORING = ("contract.py", "data", "evaluation", "reading", "serving", "tasks", "training")
"""What of `core` decides about scores; figures, pages, commands and MLflow do not."""


def package_files(pipeline: Pipeline) -> dict[str, Path]:
    """Every file of the code that a version of this pipeline carries, by its path inside the package root."""
    core, domain = Path(__file__).parents[1], Path(pipeline.data.__file__).parent
    name = pipeline.module.replace(".", "/")
    files = {"pipelines/__init__.py": core.parent / "__init__.py"}
    files |= {f"{Path(name).parts[0]}/__init__.py": domain.parent / "__init__.py"} if "/" in name else {}
    for inside, folder in (("pipelines/core", core), (name, domain)):
        found = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".pyc")
        files |= {f"{inside}/{path.relative_to(folder).as_posix()}": path for path in found}
    return files


def code_sha256(pipeline: Pipeline) -> str:
    """Digest of the code that decides about the scores of a version of this pipeline: the domain and SCORING."""
    digest, domain = hashlib.sha256(), pipeline.module.replace(".", "/") + "/"
    for name, path in sorted(package_files(pipeline).items()):
        core, _, inside = name.partition("pipelines/core/")
        if name.endswith(".py") and (name.startswith(domain) or (not core and inside.split("/")[0] in SCORING)):
            digest.update(name.encode() + path.read_bytes())
    return digest.hexdigest()
