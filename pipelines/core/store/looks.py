"""How often networks were evaluated on the same test records before.

Each evaluation that is followed by a choice makes the best of them look better than it is, so that checks get stricter
with their number. It counts every run of the pipeline with a test metric on record, finished or not, deleted or not.
"""

from __future__ import annotations

import json

import mlflow
import numpy as np
import pandas as pd
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException

from pipelines.core.contract import Pipeline
from pipelines.core.store import manifest, tags, tracking


def looks(pipeline: Pipeline, run_id: str) -> int:
    """How many other runs were evaluated on test records of this run: some of the same, or in the same period.

    The period decides among runs of the same registered model, where records have a time: a record that was changed a
    little is another record, but of the same days.
    """
    experiment = mlflow.get_experiment_by_name(pipeline.name)
    if experiment is None:
        return 0
    runs = mlflow.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL, output_format="list")
    (own,) = (run for run in runs if run.info.run_id == run_id)
    others = [run for run in runs if run is not own and any(name.startswith("test/") for name in run.data.metrics)]
    records, period = _tested(own)
    return sum(_overlap(own, records, period, other) for other in others)


def _overlap(own: Run, records: np.ndarray, period: tuple[str, str] | None, other: Run) -> bool:
    if own.data.tags.get("test_sha256") == other.data.tags.get("test_sha256"):
        return True
    theirs, their_period = _tested(other)
    if own.data.tags.get(tags.MODEL) == other.data.tags.get(tags.MODEL) and period and their_period:
        return period[0] <= their_period[1] and their_period[0] <= period[1]
    return bool(np.isin(records, theirs).any())


def _tested(run: Run) -> tuple[np.ndarray, tuple[str, str] | None]:
    """Identities of the test records, uint64 (n,), and their first and last time; none where the files are gone."""
    try:
        table = pd.read_parquet(
            tracking.fetch(run.info.run_id, manifest.TABLE), columns=["identity"], filters=[("side", "==", "test")]
        )
        summary = json.loads(tracking.fetch(run.info.run_id, manifest.SUMMARY).read_text())
    except (MlflowException, OSError):
        return np.empty(0, np.uint64), None
    period = summary["test"].get("time")
    return table["identity"].to_numpy(), tuple(period) if period else None
