"""What MLflow's UI shows beside the runs and versions of a pipeline: descriptions, and the columns of the list of runs.

It knows MLflow's tags and no store.
"""

from __future__ import annotations

import base64
import json
import time
import zlib

from pipelines.core.contract import Pipeline

NOTE = "mlflow.note.content"
"""Tag of experiments and runs whose Markdown the UI shows as description."""
VIEW = "verdicts"
"""Id of the saved view; `viewStateShareKey=verdicts` in the address of the list of runs applies it."""
SAVED = f"mlflow.sharedViewState.{VIEW}"
"""Tag of an experiment under which the UI looks for the saved view."""

COLUMNS = {
    "attributes.`Run Name`": 230,
    "tags.`headline`": 165,
    "tags.`best_baseline`": 170,
    "tags.`decision`": 90,
    "tags.`data`": 90,
    "params.`seed`": 55,
    "attributes.`Duration`": 80,
}
"""Columns of the view, as the UI names them, and their widths in pixels."""


def experiment_tags(pipeline: Pipeline) -> dict[str, str]:
    """Tags that give an experiment its description and its saved view."""
    return {NOTE: experiment_description(pipeline), SAVED: saved_view()}


def experiment_description(pipeline: Pipeline) -> str:
    """What the runs of the pipeline are about and how to read their list, in Markdown."""
    headline = pipeline.headline
    return (
        f"**{pipeline.title}.** Each run trains a network and judges it on test data beside baselines. "
        f"*headline* is {headline.name} ({'higher' if headline.higher else 'lower'} is better) with its 95 % interval; "
        "*decision* is champion, challenger or refused. Open a run's `report.html` first, below Artifacts."
    )


def model_description(pipeline: Pipeline) -> str:
    """What the versions of a registered model are and how to use them, in Markdown."""
    return (
        f"**{pipeline.title}.** Each version is a trained network with the code that prepares its inputs: raw records "
        "in, calibrated decisions out. The version with the alias `champion` is the one in use: "
        f"`make predict NAME={pipeline.name}` and `make serve NAME={pipeline.name}` use it by default. "
        "A version's description is its verdict."
    )


def saved_view() -> str:
    """The value of SAVED: the state of the list of runs with COLUMNS, newest first, as "Save as new view" writes it.

    The format is that of MLflow 3.17's UI: SavedViewEnvelope in its savedViews.ts, ExperimentPageUIState and
    ExperimentPageSearchFacetsState. What the state leaves out, the UI fills with its defaults.
    """
    state = {
        "selectedColumns": list(COLUMNS),
        "columnOrder": list(COLUMNS),
        "columnWidths": COLUMNS,
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    now = round(time.time() * 1000)
    return json.dumps({"name": "Verdicts", "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"})
