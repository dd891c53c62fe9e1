"""Which rows of a request are answered: those that the request or the domain marks, else those without a label."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from pipelines.core.contract import Capabilities
from pipelines.core.serving.model import Scorer
from tests.builders import dataset


def answered(table: pd.DataFrame, records: pd.DataFrame) -> list[str]:
    """Ids that a scorer answers whose domain parses `table` to `records`."""
    scorer = Scorer()
    scorer.facts = None
    data = SimpleNamespace(parse=lambda table, facts: dataset(records), CAPABILITIES=Capabilities())
    scorer.pipeline = SimpleNamespace(data=data)
    scorer.answers = lambda request: [(request.data.records.iloc[request.rows], request.rows)]
    return scorer.predict(None, table)["id"].tolist()


RECORDS = pd.DataFrame({"id": list("abc"), "labelled": [True, False, False]})


def test_rows_without_a_label_are_answered():
    assert answered(RECORDS, RECORDS) == ["b", "c"]


def test_a_quantity_below_zero_is_a_label_as_any_other():
    returns = RECORDS.assign(label=[-0.5, np.nan, 0.0], labelled=[True, False, True])
    assert answered(returns.drop(columns="label"), returns) == ["b"]


def test_the_request_may_mark_rows_and_a_missing_mark_is_none():
    assert answered(RECORDS.assign(score=[True, None, False]), RECORDS) == ["a"]


def test_the_domain_may_mark_records_that_do_not_correspond_to_the_rows_of_the_request():
    fewer = RECORDS.iloc[::-1].iloc[:2].assign(score=np.array([False, True]))
    assert answered(RECORDS.assign(score=True), fewer) == ["b"]


def test_a_request_with_nothing_to_answer_is_refused():
    with pytest.raises(MlflowException, match="none to answer"):
        answered(RECORDS, RECORDS.assign(score=False))
