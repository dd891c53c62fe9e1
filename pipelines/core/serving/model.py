"""The logged model: raw records in, decisions out.

MLflow stores this file as the model's code, beside the network, its facts and the package that it was made with.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext

from pipelines.core.contract import InputError
from pipelines.core.data.arrays import Part
from pipelines.core.data.requests import Request
from pipelines.core.reading import tables

SCORE = "score"
"""Optional boolean column of a request: which rows to answer; the others are context. A domain whose records do not
correspond to the rows of a request, or that answers others by default, returns the column with the parsed records."""


class Scorer(PythonModel):
    """A network with its facts and its domain's code, answering tables of raw records."""

    def load_context(self, context: PythonModelContext) -> None:
        import keras

        self.facts = json.loads(Path(context.artifacts["facts"]).read_text())
        self.network = keras.saving.load_model(context.artifacts["network"], compile=False)
        self.data = importlib.import_module(self.facts["module"] + ".data")
        self.report = importlib.import_module(self.facts["module"] + ".report")

    def _outputs(self, records: pd.DataFrame, rows: np.ndarray) -> tuple[Any, np.ndarray]:
        from pipelines.core.training.batches import predict

        part = Part(records, rows, self.data.decode(records, self.facts))
        return part, predict(self.network, part)

    def scores(self, records: pd.DataFrame, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Network outputs and calibrated scores of these rows of already parsed records, each of shape (rows, …)."""
        outputs = self._outputs(records, rows)[1]
        return outputs, self.report.scores(outputs, self.facts)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None
    ) -> pd.DataFrame:
        """One row of decisions per answered record, in order, with its id; where a row is bad, `error` says why.

        Rows to answer are those whose `score` is true in the parsed records or in the request, or without that column
        those whose label is unknown; the others are context, such as past payments.

        Raises:
            MlflowException: INVALID_PARAMETER_VALUE, where the table does not fit what the network was trained on, or
                no row of it can be answered.
        """
        try:
            table = model_input.reset_index(drop=True)
            records, faults = tables.salvaged(lambda rows: self.data.parse(rows, self.facts), table, self.named(table))
            if SCORE in table:
                faults = faults[_marked(table.loc[faults.index, SCORE])]
            asked = next((frame[SCORE] for frame in (records, table) if SCORE in frame), records["label"] < 0)
            rows = np.flatnonzero(_marked(asked.loc[records.index]))
            if not len(rows):
                nothing = f"expected rows without a label, or with '{SCORE}' true. Received: none to answer."
                raise InputError([*faults["error"], nothing][0])
            told = pd.concat([decisions for decisions, _ in self.answers(Request(records, rows, faults))])
            whole = not told.isna().any(axis=None)
            return told if whole else told.astype(object).where(told.notna(), None)  # JSON has no NaN
        except InputError as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from None

    def named(self, table: pd.DataFrame) -> pd.Series:
        """What each row of a raw table is called: as the domain says, by its `id`, or by its place in the index."""
        if hasattr(self.data, "named"):
            return self.data.named(table, self.facts)
        return table["id"] if "id" in table else table.index.to_series()

    def answers(self, request: Request) -> Iterator[tuple[pd.DataFrame, np.ndarray]]:
        """The decisions on a request's rows, block by block and with the rows at fault among them; and the outputs.

        The decisions have `id` first and `error` last, which is empty where there is none.
        """
        from pipelines.core.training.batches import predict

        records, rows = request.records, request.rows
        age = self.data.age(records, rows, self.facts) if hasattr(self.data, "age") else None
        inputs = self.data.decode(records, self.facts)  # only now, when what `age` needed is free again
        for here, faults in request.blocks():
            part = Part(records, rows[here], inputs)
            outputs = predict(self.network, part)
            decisions = self.report.decide(outputs, self.facts, part).set_axis(records.index[rows[here]])
            decisions.insert(0, "id", part.frame["id"].to_numpy())
            if age is not None:
                decisions["history_age_days"] = age[here]
            decisions["error"] = decisions.pop("error") if "error" in decisions else ""
            yield _among(decisions, faults), outputs


def _marked(flags: pd.Series) -> np.ndarray:
    return flags.fillna(False).to_numpy(bool)


def _among(decisions: pd.DataFrame, faults: pd.DataFrame) -> pd.DataFrame:
    """The decisions and the rows at fault in order of their index; what is unknown of the latter is missing."""
    if faults.empty:
        return decisions
    kinds = {"bool": "boolean", "integer": "Int64"}  # those that can miss a value
    kinds = {column: kind for plain, kind in kinds.items() for column in decisions.select_dtypes(plain)}
    decisions = decisions.astype(kinds)
    faults = faults.reindex(columns=decisions.columns).astype(decisions.dtypes)
    return pd.concat([decisions, faults]).sort_index(kind="stable")


mlflow.models.set_model(Scorer())
