"""The logged model: raw records in, decisions out.

MLflow stores this file as the model's code, beside the network, what it learnt, and the package that it was made with.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext

from pipelines.core.contract import InputError, Pipeline, Settings
from pipelines.core.data import typed_json
from pipelines.core.data.arrays import Part
from pipelines.core.data.dataset import Dataset
from pipelines.core.data.requests import Request
from pipelines.core.reading import tables

SCORE = "score"
"""Optional boolean column of a request: which rows to answer; the others are context. A domain whose records do not
correspond to the rows of a request, or that answers others by default, returns the column with the parsed records."""


def learnt(pipeline: Pipeline, settings: Settings, facts: Any, score_bins: list[dict]) -> dict[str, Any]:
    """What a version keeps beside its network, as JSON; `load_context` reads it.

    Args:
        pipeline: whose version it is.
        settings: those of its training.
        facts: the domain's own.
        score_bins: the bins of each column of its scores on test, see `evaluation.drift.binned`.
    """
    facts = typed_json.to_json(facts)
    return {"module": pipeline.module, "settings": asdict(settings), "facts": facts, "scores": score_bins}


class Scorer(PythonModel):
    """A network with what it learnt and its domain's code, answering tables of raw records.

    Attributes:
        pipeline: the domain's.
        network: the Keras model.
        facts: the domain's own dataclass.
        settings: those of the training, as JSON.
        score_bins: the bins of each column of the scores on test.
    """

    def load_context(self, context: PythonModelContext) -> None:
        import keras

        stored = json.loads(Path(context.artifacts["facts"]).read_text())
        self.pipeline: Pipeline = importlib.import_module(stored["module"]).PIPELINE
        self.facts = typed_json.from_json(self.pipeline.data.Facts, stored["facts"])
        self.settings, self.score_bins = stored["settings"], stored["scores"]
        self.network = keras.saving.load_model(context.artifacts["network"], compile=False)

    def score(self, data: Dataset[Any], rows: np.ndarray) -> Any:
        """Outputs, scores and measures of these rows of parsed records, a `training.scoring.Scored`."""
        from pipelines.core.training.batches import predict  # takes seconds, and the registry needs none of it
        from pipelines.core.training.scoring import score

        part = Part(data, rows, self.pipeline.data.encode(data, self.facts))
        return score(partial(predict, self.network), part, self.pipeline.task, self.facts)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None
    ) -> pd.DataFrame:
        """One row of decisions per answered record, in order, with its id; where a row is bad, `error` says why.

        Rows to answer are those whose `score` is true in the parsed records or in the request, or without that column
        those that are not labelled; the others are context, such as past payments.

        Raises:
            MlflowException: INVALID_PARAMETER_VALUE, where the table does not fit what the network was trained on, or
                no row of it can be answered.
        """
        try:
            table = model_input.reset_index(drop=True)
            data, faults = tables.parse_valid_rows(self.parse, table, self.names(table))
            if SCORE in table:
                faults = faults[_marked(table.loc[faults.index, SCORE])]
            wanted = next(
                (frame[SCORE] for frame in (data.records, table) if SCORE in frame), ~data.records["labelled"]
            )
            rows = np.flatnonzero(_marked(wanted.loc[data.records.index]))
            if not len(rows):
                nothing = f"expected rows without a label, or with '{SCORE}' true. Received: none to answer."
                raise InputError([*faults["error"], nothing][0])
            answer = pd.concat([decisions for decisions, _ in self.answers(Request(data, rows, faults))])
            complete = not answer.isna().any(axis=None)
            return answer if complete else answer.astype(object).where(answer.notna(), None)  # JSON has no NaN
        except InputError as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from None

    def parse(self, table: pd.DataFrame) -> Dataset[Any]:
        """Raw columns as records; raises InputError, with `faults` for rows that cannot be parsed."""
        return self.pipeline.data.parse(table, self.facts)

    def names(self, table: pd.DataFrame) -> pd.Series:
        """What each row of a raw table is called: as the domain says, by its `id`, or by its place in the index."""
        if names := self.pipeline.data.CAPABILITIES.names:
            return names(table, self.facts)
        return table["id"] if "id" in table else table.index.to_series()

    def answers(self, request: Request) -> Iterator[tuple[pd.DataFrame, np.ndarray]]:
        """The decisions on a request's rows, block by block with the faulty rows among them, and the scores.

        The decisions have `id` first and `error` last, which is empty where there is none.
        """
        from pipelines.core.training.batches import predict

        data, rows, task = request.data, request.rows, self.pipeline.task
        history = self.pipeline.data.CAPABILITIES.history
        age = history.age(data, rows, self.facts) if history else None
        encoded = self.pipeline.data.encode(data, self.facts)  # only now, when what `age` needed is free again
        for here, faults in request.blocks():
            part = Part(data, rows[here], encoded)
            outputs = predict(self.network, part)
            decisions = task.decide(outputs, self.facts, part).set_axis(data.records.index[rows[here]])
            decisions.insert(0, "id", part.frame["id"].to_numpy())
            if age is not None:
                decisions["history_age_days"] = age[here]
            decisions["error"] = decisions.pop("error") if "error" in decisions else ""
            yield _among(decisions, faults), task.scores(outputs, self.facts)


def _marked(flags: pd.Series) -> np.ndarray:
    return flags.fillna(False).to_numpy(bool)


def _among(decisions: pd.DataFrame, faults: pd.DataFrame) -> pd.DataFrame:
    """The decisions and the faulty rows in order of their index; what is unknown of the latter is missing."""
    if faults.empty:
        return decisions
    kinds = {"bool": "boolean", "integer": "Int64"}  # those that can miss a value
    kinds = {column: kind for plain, kind in kinds.items() for column in decisions.select_dtypes(plain)}
    decisions = decisions.astype(kinds)
    faults = faults.reindex(columns=decisions.columns).astype(decisions.dtypes)
    return pd.concat([decisions, faults]).sort_index(kind="stable")


mlflow.models.set_model(Scorer())
