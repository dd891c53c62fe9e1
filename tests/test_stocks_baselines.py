"""Baselines of the stocks: equal to computations by hand, fitted on training alone, strong on planted volatility."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pipelines.core.data.arrays import Part
from pipelines.core.data.dataset import Dataset
from pipelines.core.data.splits import halves
from pipelines.stocks import Settings, baselines, data, demo, task

SETTINGS = Settings(window=5)
LEVELS = (0.1, 0.5, 0.9)


def facts_of(*columns: str, **others) -> data.Facts:
    """Facts of a version that reads these columns, whose linear forecasts are all alike; others replace these."""
    har = (((0.0,) * 9,) * 6,)
    return replace(data.Facts(("ticker", *columns), (), 5, har, (0.0,) * 3, {}), **others)


def parsed(table: pd.DataFrame) -> Dataset:
    """Records of a table with open, high, low and close, without a file and without the column `score`."""
    of_request = data.parse(table, facts_of("open", "high", "low", "close"))
    return replace(of_request, records=of_request.records.drop(columns="score"))


class Case:
    """A table of prices, split, with its baselines fitted; `forecasts` are those of the test rows."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.data = parsed(table)
        self.records = self.data.records
        self.splits = data.split(self.data, SETTINGS)
        self.facts = data.learn(self.data.take(self.splits.train), SETTINGS)
        self.encoded = data.encode(self.data, self.facts)
        self.train, self.test = self.part(self.splits.train), self.part(self.splits.test)
        stopping = self.part(halves(self.data, self.splits.validation)[0])
        self.ladder = dict(baselines.baselines(self.facts, SETTINGS, self.train, stopping))
        self.quantiles = baselines.historical_quantiles(self.train, LEVELS)

    def part(self, rows: np.ndarray) -> Part:
        return Part(self.data, rows, self.encoded)

    @property
    def forecasts(self) -> dict[str, np.ndarray]:
        return {name: forecast(self.test) for name, forecast in self.ladder.items()}

    def ratios(self, to: str) -> dict[str, np.ndarray]:
        forecasts, variance = self.forecasts, self.test.labels[:, :3]
        return {name: pooled_ratio(variance, values, forecasts[to]) for name, values in forecasts.items()}


def pooled_ratio(variance: np.ndarray, forecast: np.ndarray, reference: np.ndarray) -> np.ndarray:
    return task.qlike(variance, forecast).mean(axis=0) / task.qlike(variance, reference).mean(axis=0)


def prices(log_variance: np.ndarray, seed: int, start: str = "2010-01-04") -> pd.DataFrame:
    """A long table of paths of 30 steps a day whose variance is exp(log_variance), (tickers, days)."""
    rng = np.random.default_rng(seed)
    tickers, days = log_variance.shape
    steps = rng.normal(size=(tickers, days, 30)) * np.exp(log_variance / 2)[..., None] / np.sqrt(30)
    path = steps.reshape(tickers, -1).cumsum(axis=1).reshape(tickers, days, 30)
    before = np.concatenate([np.zeros((tickers, 1)), path[:, :-1, -1]], axis=1)
    columns = {"open": before, "high": np.maximum(path.max(2), before), "low": np.minimum(path.min(2), before)}
    columns = {name: 50 * np.exp(values).ravel() for name, values in (columns | {"close": path[:, :, -1]}).items()}
    names = np.repeat([f"T{number}" for number in range(tickers)], days)
    return pd.DataFrame({"date": np.tile(pd.bdate_range(start, periods=days), tickers), "ticker": names, **columns})


def autoregressive(tickers: int, days: int, seed: int) -> np.ndarray:
    """Log variances around that of 1 % a day, with an autocorrelation of .97 and a standard deviation of 1."""
    rng, logs = np.random.default_rng(seed), np.zeros((tickers, days))
    shocks = rng.normal(size=(tickers, days)) * np.sqrt(1 - 0.97**2)
    for day in range(1, days):
        logs[:, day] = 0.97 * logs[:, day - 1] + shocks[:, day]
    return logs + np.log(1e-4)


@pytest.fixture(scope="module")
def planted() -> Case:
    return Case(prices(autoregressive(4, 1_600, 0), 0))


@pytest.fixture(scope="module")
def walks() -> Case:
    return Case(demo.random_walk(3).drop(columns="Volume"))


def test_qlike_is_zero_for_the_truth_and_asks_for_the_mean():
    variance = np.array([1.0, 2.0, 6.0])
    assert task.qlike(variance, variance) == pytest.approx(0)
    assert task.qlike(np.array([2.0]), np.array([1.0])) == pytest.approx(1 - np.log(2))
    losses = [task.qlike(variance, h).mean() for h in (2.9, 3.0, 3.1)]
    assert losses[1] == min(losses)


def test_the_metric_pools_all_rows():
    variance = np.array([1.0, 4.0])
    measures = {"qlike_1d": task.qlike(variance, 2.0), "har_qlike_1d": task.qlike(variance, 1.0)}
    metric = task.TASK.metrics(None)["qlike_ratio_har_1d"](measures)
    expected = (0.5 - np.log(0.5) - 1 + 2 - np.log(2) - 1) / (0 + 4 - np.log(4) - 1)
    assert metric(np.ones(2)) == pytest.approx(expected)


def test_every_baseline_forecasts_a_finite_variance_for_each_horizon(planted):
    for name, forecast in planted.forecasts.items():
        assert forecast.shape == (len(planted.test), 3), name
        assert np.isfinite(forecast).all(), name
        assert (forecast > 0).all(), name


def test_simple_forecasts_equal_a_computation_by_hand(planted):
    rows = planted.test.rows[[0, 500, -1]]
    part = planted.part(rows)
    for position, row in enumerate(rows):
        record = planted.records.iloc[row]
        own = planted.records[planted.records["ticker"] == record["ticker"]]
        past = own["variance"][own["time"] <= record["time"]].to_numpy()[1:]
        weighted = past[0]
        for value in past[1:]:
            weighted = 0.94 * weighted + 0.06 * value
        frame = planted.train.frame
        training = frame[frame["ticker"] == record["ticker"]]
        expected = {"last_value": past[-1], "month_mean": past[-22:].mean(), "ewma": weighted}
        for name, value in expected.items():
            np.testing.assert_allclose(planted.ladder[name](part)[position], value, rtol=1e-4, err_msg=name)
        constant = training[["variance_1d", "variance_5d", "variance_21d"]].mean()
        np.testing.assert_allclose(planted.ladder["constant"](part)[position], constant)
        quantiles = np.quantile(training["return_5d"], LEVELS)
        np.testing.assert_allclose(planted.quantiles(part)[position, 1], quantiles)


def test_har_is_the_least_squares_fit_of_each_ticker(planted):
    frame, linear = planted.train.frame, planted.train.inputs["linear"][planted.train.rows]
    own = (frame["ticker"] == "T1").to_numpy() & (frame["history"] >= 44).to_numpy()  # the rows whose month is in train
    x = np.column_stack([np.ones(own.sum()), linear[own, :3].astype(float)])
    y = np.log(frame["variance_5d"].to_numpy()[own])
    slopes = np.linalg.lstsq(x, y, rcond=None)[0]
    correction = (y - x @ slopes).var() / 2
    test = planted.test.take((planted.test.frame["ticker"] == "T1").to_numpy())
    mu = slopes[0] + test.inputs["linear"][test.rows, :3] @ slopes[1:]
    np.testing.assert_allclose(planted.ladder["har"](test)[:, 1], np.exp(mu + correction), rtol=1e-3)


def test_garch_equals_its_recursion(planted):
    """Up to the factor that makes close-to-close variance comparable, which is the ticker's own and constant."""
    from arch import arch_model

    last = planted.train.frame["time"].max()
    own = planted.records[planted.records["ticker"] == "T2"]
    returns = 100 * own["return"].to_numpy()[1:]
    fitted = arch_model(returns[: (own["time"] <= last).sum() - 1], mean="Zero", rescale=False).fit(disp="off")
    omega, alpha, beta = fitted.params
    variance, forecasts = (returns[:22] ** 2).mean(), {}
    for day, value in zip(own["time"].to_numpy()[1:], returns, strict=True):
        variance = omega + alpha * value**2 + beta * variance
        month, one = [], variance
        for _ in range(21):
            month.append(one)
            one = omega + (alpha + beta) * one
        forecasts[day] = np.array([month[0], np.mean(month[:5]), np.mean(month)])
    test = planted.test.take((planted.test.frame["ticker"] == "T2").to_numpy())
    ratio = planted.ladder["garch"](test) / np.stack([forecasts[day] for day in test.frame["time"].to_numpy()])
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[0], ratio.shape), rtol=2e-2)


def test_a_planted_autoregression_of_volatility_is_forecast(planted):
    ratios = planted.ratios("constant")
    for name in ("har", "har_market", "trees", "garch"):
        assert ratios[name][0] < 0.85, name
    assert ratios["har"][0] < min(ratios[name][0] for name in ("last_value", "month_mean", "garch"))


def test_where_nothing_can_be_forecast_no_baseline_beats_the_constant(walks):
    for name, ratio in walks.ratios("constant").items():
        assert ratio[0] > 0.995, name  # what sampling noise of a tenth of the excess over HAR's perfect fit allows


def test_a_market_that_moves_together_helps(planted):
    common = np.repeat(autoregressive(1, 1_600, 2), 6, axis=0)
    ratios = Case(prices(common, 2)).ratios("har")
    assert ratios["har_market"][0] < 0.9
    assert planted.ratios("har")["har_market"][0] > 0.97  # independent tickers: there is no market


def test_a_ticker_that_was_not_in_training_gets_what_all_have_in_common(planted):
    table = prices(autoregressive(4, 1_600, 0), 0)
    new = table[table["ticker"] == "T0"].assign(ticker="NEW")
    every = data.parse(pd.concat([table, new]), planted.facts)
    part = Part(every, np.flatnonzero(every.records["ticker"] == "NEW")[-30:], data.encode(every, planted.facts))
    assert (part.x()["ticker"] == 0).all()
    for name, forecast in planted.ladder.items():
        values = forecast(part)
        assert np.isfinite(values).all(), name
        assert (values > 0).all(), name
    pooled = planted.train.labels[:, :3].mean(axis=0)
    np.testing.assert_allclose(planted.ladder["constant"](part)[0], pooled)
    assert planted.quantiles(part).shape == (30, 3, len(LEVELS))


def test_the_future_changes_no_forecast_of_an_earlier_day(planted):
    """Everything from the middle of test on is made wilder: fits and forecasts of the days before must stay."""
    table = prices(autoregressive(4, 1_600, 0), 0)
    middle = planted.records["time"].iloc[planted.test.rows[len(planted.test) // 2]]
    later = table["date"] > middle
    table.loc[later, "high"] *= 1.1
    table.loc[later, ["close", "high"]] *= np.random.default_rng(0).uniform(1, 1.5, (later.sum(), 1))
    other = Case(table)
    early = planted.test.rows[planted.test.frame["time"] <= middle]
    assert len(early) > 400
    for name in planted.ladder:
        one, two = planted.ladder[name](planted.part(early)), other.ladder[name](other.part(early))
        np.testing.assert_array_equal(one, two, err_msg=name)
    np.testing.assert_array_equal(planted.quantiles(planted.part(early)), other.quantiles(other.part(early)))
    late = np.setdiff1d(planted.test.rows, early)
    assert (planted.ladder["har"](planted.part(late)) != other.ladder["har"](other.part(late))).any(
        axis=1
    ).mean() > 0.99


@pytest.mark.real
def test_published_ratios_to_har_are_met(real_data):
    """With linear models fitted on everything to 2013, as the figures on record were."""
    settings = Settings()
    every = data.read(real_data / "stocks" / "djia_2006_2017", settings)
    early = every.records["time"] < "2014-01-01"
    train, test = np.flatnonzero(every.labelled & early), np.flatnonzero(every.labelled & ~early)
    facts = data.learn(every.take(train), settings)
    encoded = data.encode(every, facts)
    part = Part(every, test, encoded)
    nobody = part.take(np.zeros(len(part), bool))
    ladder = dict(
        zip(
            ("last", "month", "ewma", "constant", "har", "market"),
            baselines.baselines(facts, settings, Part(every, train, encoded), nobody),
            strict=False,
        )
    )
    forecasts = {name: forecast(part) for name, (_, forecast) in ladder.items()}
    variance = part.labels[:, :3]
    assert task.qlike(variance, forecasts["har"]).mean(axis=0)[:2] == pytest.approx([0.344, 0.216], rel=0.03)
    for name, expected in {"last": (1.66, 2.62), "ewma": (1.16, 1.17), "market": (0.917, 0.940)}.items():
        ratio = pooled_ratio(variance, forecasts[name], forecasts["har"])[:2]
        assert ratio == pytest.approx(expected, rel=0.02), name
