"""The logged model: raw records in, decisions out.

MLflow stores this file as the model's code, beside the network, its facts and the package that it was made with.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext

from pipelines.core.pipeline import InputError

SCORE = "score"
"""Optional boolean column of a request: which rows to answer; the others are context. A domain whose records do not
correspond to the rows of a request, or that answers others by default, returns the column with the parsed records."""


class Scorer(PythonModel):
    """A network with its facts and its domain's code, answering tables of raw records."""

    def load_context(self, context: PythonModelContext) -> None:
        import importlib

        import keras

        self.facts = json.loads(Path(context.artifacts["facts"]).read_text())
        self.network = keras.saving.load_model(context.artifacts["network"], compile=False)
        self.data = importlib.import_module(self.facts["module"] + ".data")
        self.report = importlib.import_module(self.facts["module"] + ".report")

    def _outputs(self, records: pd.DataFrame, rows: np.ndarray) -> tuple[Any, np.ndarray]:
        from pipelines.core.batches import predict
        from pipelines.core.rows import Part

        part = Part(records, rows, self.data.decode(records, self.facts))
        return part, predict(self.network, part)

    def scores(self, records: pd.DataFrame, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Network outputs and calibrated scores of these rows of already parsed records, each of shape (rows, …)."""
        outputs = self._outputs(records, rows)[1]
        return outputs, self.report.scores(outputs, self.facts)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None
    ) -> pd.DataFrame:
        """One row of decisions per answered record, in order, with its id.

        Rows to answer are those whose `score` is true in the parsed records or in the request, or without that column
        those whose label is unknown; the others are context, such as past payments.

        Raises:
            MlflowException: INVALID_PARAMETER_VALUE, where the table does not fit what the network was trained on.
        """
        try:
            table = model_input.reset_index(drop=True)
            records = self.data.parse(table, self.facts)
            told = next((frame[SCORE] for frame in (records, table) if SCORE in frame), records["label"] < 0)
            rows = np.flatnonzero(told.fillna(False).to_numpy(bool))
            if not len(rows):
                raise InputError(f"expected rows without a label, or with '{SCORE}' true. Received: none to answer.")
            part, outputs = self._outputs(records, rows)
            decisions = self.report.decide(outputs, self.facts, part).reset_index(drop=True)
            decisions.insert(0, "id", part.frame["id"].to_numpy())
            return decisions
        except InputError as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from None


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


mlflow.models.set_model(Scorer())
