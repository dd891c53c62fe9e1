"""The embedded prices: real indices, and random walks in which each ticker's volatility is constant."""

import numpy as np
import pandas as pd
import pytest

from pipelines.core.reading import downloads
from pipelines.stocks import PIPELINE, Settings, data, demo, features


@pytest.fixture(scope="module")
def walks() -> pd.DataFrame:
    return demo.random_walk(0)


def test_the_indices_are_complete_and_clean():
    indices = data.read(None, Settings())
    records = indices.records
    assert records["time"].agg(["min", "max"]).tolist() == [pd.Timestamp("1999-01-04"), pd.Timestamp("2018-12-31")]
    assert records.groupby("ticker").size().to_dict() == {"NASDAQ": 5031, "SP500": 5031}
    assert not [note for note in indices.notes if "left out" in note or "repaired" in note]


def test_both_are_known_to_the_command_line_and_described(tmp_path):
    for name in ("demo", "random-walk"):
        assert downloads.resolve(name, PIPELINE, tmp_path) == downloads.Origin("demo", name)
    assert "real" in PIPELINE.demos["demo"]
    assert "simulated" in PIPELINE.demos["random-walk"]
    assert data.read(None, Settings(data="random-walk")).records["ticker"].nunique() == 10


def test_the_same_seed_gives_the_same_walks_and_another_seed_others(walks):
    pd.testing.assert_frame_equal(walks, demo.random_walk(0))
    assert (walks["Close"] != demo.random_walk(1)["Close"]).all()


def test_high_and_low_hold_open_and_close(walks):
    assert walks.groupby("Ticker").size().tolist() == [3_000] * 10
    assert (walks["High"] >= walks[["Open", "Close"]].max(axis=1)).all()
    assert (walks["Low"] <= walks[["Open", "Close"]].min(axis=1)).all()


def test_each_ticker_has_a_volatility_of_its_own_that_does_not_change(walks):
    close = walks.pivot(index="Date", columns="Ticker", values="Close")
    returns = np.log(close).diff().dropna()
    early, late = returns[:1500].std(), returns[1500:].std()
    assert ((late / early).between(0.9, 1.1)).all()  # five standard errors of a ratio of 1,500 days each
    assert returns.std().max() > 1.5 * returns.std().min()


def test_open_high_low_and_close_come_from_one_path(walks):
    """Garman and Klass's variance and the squared move from open to close both measure the variance of the day.

    The highest of n steps misses .5826 sigma / sqrt(n) of that of a continuous path, and so does the lowest (Siegmund).
    """
    missed = 2 * 0.5826 / np.sqrt(demo.STEPS)
    squared_range = 4 * np.log(2) - 2 * np.sqrt(8 / np.pi) * missed + missed**2
    expected = 0.5 * squared_range - (2 * np.log(2) - 1)
    variance = features.garman_klass(walks.rename(columns=str.lower))
    squared = np.log(walks["Close"] / walks["Open"]) ** 2
    ratio = pd.Series(variance).groupby(walks["Ticker"]).mean() / squared.groupby(walks["Ticker"]).mean()
    assert ratio.tolist() == pytest.approx([expected] * 10, rel=0.08)  # three standard errors of a mean square
    night = np.log(walks["Open"] / walks.groupby("Ticker")["Close"].shift()) ** 2
    assert night.mean() / (night.mean() + squared.mean()) == pytest.approx(demo.NIGHT, abs=0.02)


def test_neither_returns_nor_variances_follow_from_those_of_the_day_before(walks):
    records = data.read(None, Settings(data="random-walk")).records.sort_values(["ticker", "time"])
    by_ticker = records.assign(v=np.log(records["variance"])).groupby("ticker")
    for name in ("return", "v"):
        correlations = by_ticker[name].apply(lambda values: values.autocorr(1))
        assert abs(correlations.mean()) < 4 / np.sqrt(30_000)
