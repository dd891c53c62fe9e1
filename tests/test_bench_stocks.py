"""The bench of stocks: which targets contain a day, and what choices may see."""

import numpy as np
import pandas as pd

from bench.stocks import Options, before, without
from pipelines.stocks import data


def test_a_target_contains_the_days_after_its_own_up_to_the_horizon():
    records = pd.DataFrame({"time": pd.bdate_range("2015-08-03", periods=30).repeat(2)})
    rows = np.arange(60)
    day = records["time"].iloc[20]  # the eleventh
    for horizon in (1, 5):
        left_out = np.unique(records["time"].iloc[rows[~without(records, rows, day, horizon)]])
        assert (left_out == np.unique(records["time"])[10 - horizon : 10]).all()


def test_choices_see_nothing_of_the_test_period():
    options = Options()
    whole = data.read(None, options)
    first = whole.records["time"].iloc[data.split(whole, options).test].min()
    kept, earlier = before(whole, options)
    splits = data.split(kept, earlier)
    assert kept.records["time"].max() < first
    for rows in splits.sides().values():
        assert (kept.records["known_at"].iloc[rows] < first).all()
