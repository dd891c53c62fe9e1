"""The folds of the Handbook's protocol: what trains, what is tested, and who is left out."""

import numpy as np
import pandas as pd
import pytest

from bench.fraud import FIRST, FOLDS, fold
from pipelines.fraud import Settings, data

DAY = pd.Timedelta(days=1)
START = pd.Timestamp("2018-08-15")


@pytest.fixture(scope="module")
def records() -> pd.DataFrame:
    """A payment of each of 30 customers on each day, a few of them frauds."""
    days = pd.date_range("2018-04-01", "2018-09-30")
    time = np.repeat(days + pd.Timedelta(hours=12), 30)
    customer = np.tile([f"c{number:02d}" for number in range(30)], len(days))
    label = (np.random.default_rng(0).random(len(time)) < 0.01).astype(np.int8)
    records = pd.DataFrame({"id": range(len(time)), "customer": customer, "time": time, "label": label})
    records.attrs["roles"] = {"entities": ["customer"]}
    return records


@pytest.mark.parametrize(("training", "first"), [("week", START), ("all", FIRST)])
def test_training_ends_a_week_before_the_test_week(records, training, first):
    splits = fold(records, START, training)
    trained, tested = (records["time"].iloc[rows].dt.normalize() for rows in (splits.train, splits.test))
    assert (trained.min(), trained.max()) == (first, START + 6 * DAY)
    assert (tested.min(), tested.max()) == (START + 14 * DAY, START + 20 * DAY)
    assert len(splits.validation) == 0


def test_customers_are_left_out_once_a_fraud_of_theirs_is_known(records):
    splits = fold(records, START, "week")
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
    records = data.read(path, Settings(data=str(path)))
    splits = fold(records, pd.Timestamp(FOLDS["test"][-1]), "week")
    assert len(splits.test) == 57_604
    assert records["label"].iloc[splits.test].sum() == 422
