"""The folds of the Handbook's protocol: what trains, what is tested, and who is left out."""

import numpy as np
import pandas as pd
import pytest

from bench.fraud import FIRST, FOLDS, fold
from pipelines.core.data.dataset import Dataset
from pipelines.fraud import Settings, data
from pipelines.fraud.reading import DAY, About, Roles

START = pd.Timestamp("2018-08-15")


@pytest.fixture(scope="module")
def payments() -> Dataset[About]:
    """A payment of each of 30 customers on each day, a few of them frauds."""
    days = pd.date_range("2018-04-01", "2018-09-30")
    time = np.repeat(days + pd.Timedelta(hours=12), 30)
    customer = np.tile([f"c{number:02d}" for number in range(30)], len(days))
    label = (np.random.default_rng(0).random(len(time)) < 0.01).astype(np.int8)
    records = pd.DataFrame({"id": range(len(time)), "customer": customer, "time": time, "label": label})
    about = About(Roles(time="time", entities=("customer",)), 7.0)
    return Dataset(records.assign(labelled=True), about, ("time", "customer"))


@pytest.mark.parametrize(("training", "first"), [("week", START), ("all", FIRST)])
def test_training_ends_a_week_before_the_test_week(payments, training, first):
    splits = fold(payments, START, training)
    trained, tested = (payments.records["time"].iloc[rows].dt.normalize() for rows in (splits.train, splits.test))
    assert (trained.min(), trained.max()) == (first, START + 6 * DAY)
    assert (tested.min(), tested.max()) == (START + 14 * DAY, START + 20 * DAY)
    assert len(splits.validation) == 0


def test_customers_are_left_out_once_a_fraud_of_theirs_is_known(payments):
    splits, records = fold(payments, START, "week"), payments.records
    kept = records.iloc[splits.test]
    frauds = records[records["label"] == 1]
    for k in range(7):
        today = START + (14 + k) * DAY
        known = frauds[(frauds["time"] >= START) & (frauds["time"] < today - 7 * DAY)]["customer"]
        here = kept.loc[kept["time"].dt.normalize() == today, "customer"]
        assert sorted(here) == sorted(set(records["customer"]) - set(known))


@pytest.mark.real
def test_the_fold_of_august_15_has_the_published_counts(real_data):
    path = real_data / "fraud" / "handbook_transactions.parquet"
    payments = data.read(path, Settings(data=str(path)))
    splits = fold(payments, pd.Timestamp(FOLDS["test"][-1]), "week")
    assert len(splits.test) == 57_604
    assert payments.records["label"].iloc[splits.test].sum() == 422
