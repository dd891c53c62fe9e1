"""Runs in MLflow: open one, log to it, look it up."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import mlflow
import pandas as pd
import requests
from matplotlib.figure import Figure
from mlflow.data.dataset_source import DatasetSource
from mlflow.data.http_dataset_source import HTTPDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.exceptions import MlflowException

from pipelines.core.contract import InputError, Pipeline, UnrecordedError
from pipelines.core.store import views

PORT = 5050
"""Of the UI that `make ui` starts, unless MLFLOW_PORT is set, which MLflow reads as well; macOS occupies 5000."""
LOCAL = "sqlite:///"
CHATTY = {"mlflow": "WARNING", "alembic": "WARNING", "urllib3": "ERROR", "mlflow.system_metrics": "ERROR"}
"""Loggers, and the level from which they may speak."""
FAULTS = (MlflowException, requests.RequestException)
"""What is raised where a store does not take what it is given, or a server does not answer."""


def connect(root: Path | None = None) -> Path:
    """Point MLflow at the store below `root` (the working directory), unless the user named another; return `root`.

    The first use creates the database under a lock, since two processes that migrate it at once break it.

    Raises:
        InputError: if the store does not answer.
    """
    root = root or Path.cwd()
    for chatty, level in CHATTY.items():
        logging.getLogger(chatty).setLevel(level)
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        (root / "mlruns").mkdir(exist_ok=True)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{root / 'mlruns' / 'mlflow.db'}"
    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    try:
        with locked():
            mlflow.search_experiments(max_results=1)
    except (*FAULTS, OSError) as error:
        uri = os.environ["MLFLOW_TRACKING_URI"]
        raise InputError(f"MLflow does not answer at {uri}. Received: {error_summary(error)}") from None
    return root


def local() -> bool:
    """Whether the store is a database on this machine, and not a server."""
    return os.environ["MLFLOW_TRACKING_URI"].startswith(LOCAL)


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Keep other processes out by a lock beside the database of a local store; a server has none."""
    uri = os.environ["MLFLOW_TRACKING_URI"]
    if not local():
        yield
        return
    with Path(uri.removeprefix(LOCAL)).with_name(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def git_commit() -> str:
    """The commit of the checkout, with "+changes" where files differ from it, "" outside a checkout."""
    described = subprocess.run(
        ["git", "describe", "--always", "--abbrev=40", "--dirty=+changes"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip()


@contextlib.contextmanager
def run(pipeline: Pipeline, name: str, run_id: str | None = None) -> Iterator[str]:
    """Open a run in the pipeline's experiment, or go on with the run `run_id`, and yield its id.

    Ctrl-C inside ends the run as KILLED, any other exception as FAILED; both go on to the caller.

    Raises:
        UnrecordedError: where a server stops answering.
    """
    root = connect()
    try:
        if mlflow.get_experiment_by_name(pipeline.name) is None:
            place = (root / "mlruns" / "artifacts" / pipeline.name).as_uri() if local() else None
            mlflow.create_experiment(pipeline.name, artifact_location=place)
        introduce(pipeline)
        mlflow.set_experiment(pipeline.name)
        mlflow.set_system_metrics_sampling_interval(5)
        opened = mlflow.start_run(run_id, run_name=name, log_system_metrics=run_id is None)
        try:
            yield opened.info.run_id
        except BaseException as error:
            with contextlib.suppress(*FAULTS):  # a server that is away hides no other error
                mlflow.end_run("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise
        mlflow.end_run("FINISHED")
    except FAULTS as error:
        if local():
            raise
        uri = os.environ["MLFLOW_TRACKING_URI"]
        raise UnrecordedError(
            f"MLflow at {uri} no longer answers ({error_summary(error)}): this run is not all recorded."
        ) from None


def holds(run_id: str) -> bool:
    """Whether the store has such a run."""
    try:
        mlflow.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return True


class Epochs:
    """Logs the figures of each epoch; from the first on that the server does not take, they wait for `flush`."""

    def __init__(self) -> None:
        self.waiting: list[tuple[int, dict[str, float]]] = []

    def __call__(self, epoch: int, figures: Mapping[str, float]) -> None:
        self.waiting.append((epoch, dict(figures)))
        if len(self.waiting) == 1:  # one wait for a server that is away is enough
            try:
                self.flush()
            except FAULTS as error:
                print(f"MLflow no longer answers ({error_summary(error)}). Training goes on.", flush=True)

    def flush(self) -> None:
        """Log what waits."""
        while self.waiting:
            log_epoch(*self.waiting[0])
            self.waiting.pop(0)


def error_summary(error: Exception) -> str:
    """What went wrong: the first line, cut where it gets long."""
    if isinstance(error.__context__, requests.RequestException):
        return "the connection failed"
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def log_epoch(epoch: int, figures: Mapping[str, float]) -> None:
    """Log an epoch's figures as `train/…` and `val/…`, at the step of that epoch."""
    named = {f"val/{k[4:]}" if k.startswith("val_") else f"train/{k}": v for k, v in figures.items()}
    mlflow.log_metrics(named, step=epoch + 1)


def log_params(params: Mapping[str, Any]) -> None:
    """Log parameters; a value longer than MLflow stores is cut."""
    mlflow.log_params({name: str(value)[:6000] for name, value in params.items()})


def log_metrics(metrics: Mapping[str, float]) -> None:
    """Log final metrics."""
    mlflow.log_metrics({name: float(value) for name, value in metrics.items()})


def log_dataset(name: str, side: str, sha256: str, source: str) -> None:
    """Log one side of the split as an input of the run.

    MLflow's own digests cover the first 10,000 rows only; ours covers every record. MLflow keeps 36 characters of a
    digest, so the whole of it goes into a tag.
    """
    place: DatasetSource = HTTPDatasetSource(source if "://" in source else f"file://{source}")
    dataset = MetaDataset(place, name=name, digest=sha256[:36])  # type: ignore[abstract]
    mlflow.log_input(dataset, context=side, tags={"sha256": sha256})


def log_text(name: str, text: str) -> None:
    """Log a text file."""
    mlflow.log_text(text, name)


def log_json(name: str, content: Mapping[str, Any]) -> None:
    """Log a JSON file."""
    mlflow.log_dict(dict(content), name)


def log_parquet(name: str, table: pd.DataFrame) -> None:
    """Log a table as Parquet."""
    with tempfile.TemporaryDirectory() as folder:
        table.to_parquet(Path(folder, name), index=False)
        mlflow.log_artifact(str(Path(folder, name)))


def log_item(name: str, item: Figure | pd.DataFrame | bytes) -> None:
    """Log what a report shows: a figure as PNG below figures/, a table as CSV below tables/, bytes as a file."""
    if isinstance(item, pd.DataFrame):
        mlflow.log_text(item.to_csv(index=False), f"tables/{name}.csv")
    elif isinstance(item, bytes):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, Path(name).name)
            path.write_bytes(item)
            mlflow.log_artifact(str(path), str(Path(name).parent).lstrip("."))
    else:
        mlflow.log_figure(item, f"figures/{name}.png", save_kwargs={"dpi": 150})


def set_tags(tags: Mapping[str, str]) -> None:
    """Set tags on the open run."""
    mlflow.set_tags(dict(tags))


def rename(run_id: str, name: str, description: str) -> None:
    """Give the run the name that the list of runs shows, and its description in Markdown."""
    client = mlflow.MlflowClient()
    client.update_run(run_id, name=name)
    client.set_tag(run_id, views.NOTE, description)


def fingerprints(run_id: str) -> dict[str, str]:
    """The run's tags that end in `_sha256`: what it was made from."""
    return {name: value for name, value in mlflow.get_run(run_id).data.tags.items() if name.endswith("_sha256")}


def fetch(run_id: str, artifact: str) -> Path:
    """A run's artifact as a local file."""
    return Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=artifact))


def introduce(pipeline: Pipeline) -> None:
    """Give the pipeline's experiment the description and the saved view that it lacks, and keep those that it has."""
    if experiment := mlflow.get_experiment_by_name(pipeline.name):
        for name, value in views.experiment_tags(pipeline).items():
            if name not in experiment.tags:
                mlflow.MlflowClient().set_experiment_tag(experiment.experiment_id, name, value)


def port() -> int:
    """Port of the UI that `make ui` starts.

    Raises:
        InputError: if MLFLOW_PORT is no port.
    """
    given = os.environ.get("MLFLOW_PORT") or str(PORT)
    if not given.isdecimal() or not 0 < int(given) < 1 << 16:
        raise InputError(f"The port of MLflow's UI: expected a number from 1 to 65535. Received: {given}.")
    return int(given)


def _link(page: str = "", **query: str) -> str:
    """Address of a page of the UI that `make ui` starts, or of that of the server."""
    base = f"http://127.0.0.1:{port()}" if local() else os.environ["MLFLOW_TRACKING_URI"].rstrip("/")
    return f"{base}/#/{page}?{urlencode(query | {'workflowType': 'machine_learning'})}"


def home() -> str:
    """Address of the UI's first page."""
    return _link()


def report_at(run_id: str) -> str:
    """How to open the run's report: in the UI that `make ui` starts, or in that of the server; its address."""
    found = mlflow.get_run(run_id).info
    how = "`make ui`, then open" if local() else "Open"
    page = f"experiments/{found.experiment_id}/runs/{run_id}/artifacts/report.html"
    return f"{how} the report at\n{_link(page)}"


def runs_at(pipeline: Pipeline) -> str:
    """Address of the list of the pipeline's runs, in its saved view; "" where there are none yet."""
    found = mlflow.get_experiment_by_name(pipeline.name)
    return _link(f"experiments/{found.experiment_id}/runs", viewStateShareKey=views.VIEW) if found else ""
