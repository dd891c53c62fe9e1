"""Run a registered version with the code that it carries: in a child process, unless that is today's code."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np

from pipelines.core.contract import InputError, Pipeline
from pipelines.core.data import typed_json
from pipelines.core.data.dataset import Dataset
from pipelines.core.serving.model import Scorer
from pipelines.core.training.scoring import Scored


def load(uri: str) -> Scorer:
    """The logged model at `uri` in this process, with today's code, to reach its network and its facts.

    Raises:
        InputError: for a module that it needs and that is not installed.
    """
    with _naming_modules(uri):
        return mlflow.pyfunc.load_model(uri).unwrap_python_model()


_NO_MODULE = 77
"""Exit code of the child below where a module is not installed; its name is the last line of the error output."""
_SCORE_CHILD = f"""
import json, pathlib, sys, mlflow, numpy, pandas
uri, folder = sys.argv[1], pathlib.Path(sys.argv[2])
try:
    scorer = mlflow.pyfunc.load_model(uri).unwrap_python_model()
    from pipelines.core.data import typed_json
    from pipelines.core.data.dataset import Dataset
    stored = json.loads((folder / "about.json").read_text())
    about = typed_json.from_json(scorer.pipeline.data.About, stored["about"])
    data = Dataset(pandas.read_parquet(folder / "records.parquet"), about, tuple(stored["key"]))
    scored = scorer.score(data, numpy.load(folder / "rows.npy"))
except ModuleNotFoundError as error:
    print(error.name or error, file=sys.stderr)
    sys.exit({_NO_MODULE})
arrays = dict(("measure_" + name, values) for name, values in scored.measures.items())
if scored.scores is not None:
    arrays["scores"] = scored.scores
if isinstance(scored.outputs, numpy.ndarray):
    arrays["outputs"] = scored.outputs
numpy.savez(folder / "scored.npz", **arrays)
"""


def score(uri: str, same_code: bool, data: Dataset[Any], rows: np.ndarray) -> Scored:
    """Score parsed records with the registered version at `uri`, running the code that the version carries.

    A process that has imported today's package would silently run today's code on yesterday's network; unless the
    version was made with the `same_code`, it is therefore scored in a child process.

    Args:
        uri: of the version, `models:/NAME/NUMBER`.
        same_code: whether the code that the version carries is today's.
        data: every record, context included.
        rows: int64 positions of those to score.

    Raises:
        InputError: for a module that the version needs and that is not installed.
        RuntimeError: if the version cannot score these records; the message is the last line of what it printed.
    """
    if same_code:
        with _naming_modules(uri):
            return load(uri).score(data, rows)
    with tempfile.TemporaryDirectory() as folder:
        data.records.to_parquet(Path(folder, "records.parquet"))
        stored = {"about": typed_json.to_json(data.about), "key": data.key}
        Path(folder, "about.json").write_text(json.dumps(stored))
        np.save(Path(folder, "rows.npy"), rows)
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        # From an empty folder, so that the version's own package is the only one to be found.
        command = [sys.executable, "-c", _SCORE_CHILD, uri, folder]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        last = (done.stderr.strip().splitlines() or ["it ended without a message"])[-1]
        if done.returncode == _NO_MODULE:
            raise _missing_module(uri, last)
        if done.returncode:
            raise RuntimeError(last)
        with np.load(Path(folder, "scored.npz")) as found:
            measures = {n.removeprefix("measure_"): found[n] for n in found if n.startswith("measure_")}
            scores, outputs = (found.get(name) for name in ("scores", "outputs"))
            return Scored(measures, scores, outputs)


_FUNCTION_CHILD = """
import importlib, json, os, pathlib, sys
uri, function, arguments, answer = sys.argv[1:]
module, _, name = function.partition(":")
stderr = os.dup(2)  # as `device.quiet` does, which the version may not have
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
try:
    try:
        import mlflow
        model = mlflow.pyfunc.load_model(uri)
    finally:
        os.dup2(stderr, 2)
    try:
        call = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise
        call = None
    result = {"answer": call(model, **json.loads(arguments))} if call else {"outdated": True}
except ModuleNotFoundError as error:
    result = {"missing": error.name or str(error)}
except KeyboardInterrupt:
    sys.exit(130)
except Exception as error:
    if type(error).__name__ != "InputError":  # by its name: where it is defined depends on the release
        raise
    result = {"mistake": str(error)}
pathlib.Path(answer).write_text(json.dumps(result))
"""


def run_in_version(uri: str, same_code: bool, function: str, **arguments: Any) -> Any:
    """Call a function on the version at `uri` with the code that the version carries.

    It runs in a child process, unless that code is today's. What the child prints passes through, and so does Ctrl-C.

    Args:
        uri: of the version, `models:/NAME/NUMBER`.
        same_code: whether the code that the version carries is today's.
        function: "module:name"; it takes the loaded model and the arguments.
        arguments: of the function, JSON types.

    Returns:
        What the function returns, JSON types.

    Raises:
        InputError: as the function raises it; for a version whose code has no such function; or for a module that the
            version needs and that is not installed.
        RuntimeError: if the child ends without an answer.
    """
    if same_code:
        from pipelines.core.training import device

        module, _, name = function.partition(":")
        with _naming_modules(uri):
            with device.quiet():
                model = mlflow.pyfunc.load_model(uri)
            return getattr(importlib.import_module(module), name)(model, **arguments)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder, "answer.json")
        # -P: the working directory provides no modules.
        command = [sys.executable, "-P", "-c", _FUNCTION_CHILD, uri, function, json.dumps(arguments), str(answer)]
        done = subprocess.run(command, env=environment, check=False)
        if not answer.exists():
            raise RuntimeError(f"the process that ran {_version(uri)} ended with code {done.returncode}")
        result = json.loads(answer.read_text())
    if "outdated" in result:
        raise _outdated(uri)
    if "missing" in result:
        raise _missing_module(uri, result["missing"])
    if "mistake" in result:
        raise InputError(result["mistake"])
    return result["answer"]


@contextlib.contextmanager
def _naming_modules(uri: str) -> Iterator[None]:
    """Raise InputError for a module that is missing inside."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise _missing_module(uri, error.name or str(error)) from None


def _missing_module(uri: str, module: str) -> InputError:
    if module.partition(".")[0] == "pipelines":  # one of ours, which another release has
        return _outdated(uri)
    return InputError(f"{_version(uri)} needs the module '{module}', which is not installed.")


def _outdated(uri: str) -> InputError:
    return InputError(
        f"{_version(uri)} was registered by a release of this project that cannot do this: train a new version."
    )


def _version(uri: str) -> str:
    """The version in words, "version 2 of NAME" for models:/NAME/2."""
    name, _, number = uri.removeprefix("models:/").rpartition("/")
    return f"version {number} of {name}" if uri.startswith("models:/") else f"the version at {uri}"


SCORING = ("contract", "data", "evaluation", "reading", "serving", "tasks", "training")
"""What of `core` decides about scores; figures, pages, commands and MLflow do not."""


REVIEWING = ("baselines", "inspection", "report")
"""Modules of a domain that do not decide about scores."""


def package_files(pipeline: Pipeline) -> dict[str, Path]:
    """Every file of the code that a version of this pipeline carries, by its path inside the package root."""
    core, name = Path(__file__).parents[1], pipeline.module.replace(".", "/")
    domain = Path(importlib.import_module(pipeline.module).__file__ or "").parent
    files = {"pipelines/__init__.py": core.parent / "__init__.py"}
    files |= {f"{Path(name).parts[0]}/__init__.py": domain.parent / "__init__.py"} if "/" in name else {}
    for inside, folder in (("pipelines/core", core), (name, domain)):
        found = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".pyc")
        files |= {f"{inside}/{path.relative_to(folder).as_posix()}": path for path in found}
    return files


def code_sha256(pipeline: Pipeline) -> str:
    """Digest of the code that decides about the scores of a version: the domain but for REVIEWING, and SCORING."""
    digest, domain = hashlib.sha256(), pipeline.module.replace(".", "/") + "/"
    for name, path in sorted(package_files(pipeline).items()):
        core, _, inside = name.partition("pipelines/core/")
        part = name.removeprefix(domain).partition("/")[0].removesuffix(".py")
        scores = name.startswith(domain) and part not in REVIEWING
        if name.endswith(".py") and (scores or (not core and inside.split("/")[0] in SCORING)):
            digest.update(name.encode() + path.read_bytes())
    return digest.hexdigest()
