"""Baselines from trivial to strong: forecasts of variance and of return quantiles.

All are fitted on training rows alone and frozen; later days only move their state along. Forecasts are of the mean
daily variance over each horizon, float64 (n, 3). A ticker that was not seen in training gets what all have in common.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.signal import lfilter
from sklearn.ensemble import HistGradientBoostingRegressor

from pipelines.core.contract import Settings
from pipelines.core.data.arrays import Part
from pipelines.stocks.features import HAR, HAR_MARKET, HAR_POOLED, HORIZONS, MONTH, Days, Window, channels, rolling_mean

if TYPE_CHECKING:
    from pipelines.stocks.data import Facts

Forecast = Callable[[Part], np.ndarray]

DECAY = 0.94
"""Of the exponentially weighted mean: RiskMetrics (1996) for daily data."""
TREES = {"learning_rate": 0.05, "max_iter": 300, "max_leaf_nodes": 15, "min_samples_leaf": 500}
"""Chosen on validation days of both demo and DJIA prices; leaves are large since the tickers of a day are alike."""
LATEST = 5
"""Past days that trees read one by one, beside the averages."""
PATIENCE = 20
"""Rounds without a lower loss on the validation rows before no more trees are added."""
FEWEST_RETURNS = 500
"""Training returns below which a ticker gets the common GARCH, about the least that its likelihood needs."""


def baselines(facts: Facts, settings: Settings, train: Part, validation: Part) -> Iterator[tuple[str, Forecast]]:
    """Pairs of name and forecast, which gives the mean variance over each horizon, float64 (n, 3)."""
    yield "last_value", lambda part: _everywhere(_variance(_days(part), facts), part)
    yield "month_mean", lambda part: _everywhere(_month_mean(_days(part), facts), part)
    yield "ewma", lambda part: _everywhere(_ewma(_days(part), facts), part)
    yield "constant", _constant(train)
    yield "har", lambda part: np.exp(_linear(part, HAR))
    yield "har_market", lambda part: np.exp(_linear(part, HAR_MARKET))
    yield "har_pooled", lambda part: np.exp(_linear(part, HAR_POOLED))
    yield "garch", _garch(facts, train)
    yield "trees", _trees(facts, settings, train, validation)


def historical_quantiles(train: Part, levels: Sequence[float]) -> Forecast:
    """Quantiles of each ticker's training returns, as a function from a part to float64 (n, 3, levels)."""
    returns, ticker = train.labels[:, len(HORIZONS) :], _ticker(train)
    return _looked_up(returns, ticker, lambda rows: np.quantile(rows, levels, axis=0).T)


# ------------------------------------------------------------------------------------------------- without a parameter


def _constant(train: Part) -> Forecast:
    """Each ticker's mean training variance."""
    return _looked_up(train.labels[:, : len(HORIZONS)], _ticker(train), lambda rows: rows.mean(axis=0))


def _looked_up(values: np.ndarray, ticker: np.ndarray, learn: Callable[[np.ndarray], np.ndarray]) -> Forecast:
    """A statistic of each ticker's training rows, or of all rows for a ticker without any."""
    common = learn(values)
    table = {number: learn(values[ticker == number]) for number in np.unique(ticker)}

    def forecast(part: Part) -> np.ndarray:
        numbers, place = np.unique(_ticker(part), return_inverse=True)
        return np.stack([table.get(number, common) for number in numbers])[place]

    return forecast


def _days(part: Part) -> Days:
    past: Any = part.inputs["past"]
    assert isinstance(past, Window)
    return past.days


def _ticker(part: Part) -> np.ndarray:
    return part.inputs["ticker"][part.rows]


def _channel(days: Days, facts: Facts, name: str) -> np.ndarray:
    """A channel of every ticker-day, float64 by position, NaN on a ticker's first day."""
    values = days.values[:, channels(facts.features).index(name)].astype(np.float64)
    return np.where(np.arange(len(values)) >= days.begin, values, np.nan)


def _variance(days: Days, facts: Facts) -> np.ndarray:
    return np.exp(_channel(days, facts, "log variance"))


def _month_mean(days: Days, facts: Facts) -> np.ndarray:
    return rolling_mean(_variance(days, facts), MONTH, days.code)


def _ewma(days: Days, facts: Facts) -> np.ndarray:
    variance, means = _variance(days, facts), np.full(len(days.order), np.nan)
    for of_ticker in _spans(days):
        past = variance[of_ticker]
        means[of_ticker] = _recursion((1 - DECAY) * past, DECAY, past[0])
    return means


def _everywhere(values: np.ndarray, part: Part) -> np.ndarray:
    """The same forecast for every horizon, from values by position, (n, 3)."""
    return np.repeat(values[_days(part).place[part.rows]][:, None], len(HORIZONS), axis=1)


def _spans(days: Days) -> list[slice]:
    """The positions of each ticker's history, where it has one."""
    ends = np.flatnonzero(np.diff(days.code, append=-1)) + 1
    return [slice(begin, end) for begin, end in zip(days.begin[ends - 1], ends, strict=True) if begin < end]


def _recursion(shocks: np.ndarray, decay: float, start: float) -> np.ndarray:
    """s_t = shock_t + decay s_(t-1), from s_(-1) = `start`."""
    return lfilter([1.0], [1.0, -decay], shocks, zi=[decay * start])[0]


# -------------------------------------------------------------------------------------------------------------- fitted


def _garch(facts: Facts, train: Part) -> Forecast:
    """GARCH(1,1) of Bollerslev (1986), by normal likelihood on each ticker's returns up to its last training day.

    It forecasts the close-to-close variance, so each ticker's forecasts are rescaled to the target variance, by the
    factor that is best for QLIKE on the training rows: the mean of v/h.
    """
    from arch import arch_model

    days = _days(train)
    returns = 100 * _channel(days, facts, "return")  # in percent, where the optimiser does best
    position, ticker = days.place[train.rows], _ticker(train)
    parameters = {}
    for number in np.unique(ticker):
        last = position[ticker == number].max()
        past = returns[days.begin[last] : last + 1]
        if len(past) >= FEWEST_RETURNS:
            model, usual = arch_model(past, mean="Zero", rescale=False), past.var() * 0.02
            # The likelihood can have two peaks, so it is climbed from two sides.
            tries = [
                model.fit(starting_values=start, disp="off", show_warning=False)
                for start in (None, [usual, 0.06, 0.92])
            ]
            parameters[number] = max(tries, key=lambda fitted: fitted.loglikelihood).params.to_numpy()
    own = list(parameters.values()) or [np.array([0.02, 0.05, 0.93])]  # a common fit of daily returns in percent
    common = np.median(own, axis=0)

    def unscaled(part: Part) -> np.ndarray:
        days = _days(part)
        learnt = [parameters.get(number, common) for number in part.inputs["ticker"][days.order]]
        percent = 100 * _channel(days, facts, "return")
        return _garch_forecasts(days, percent, np.stack(learnt))[days.place[part.rows]] / 100**2

    ratio = train.labels[:, : len(HORIZONS)] / unscaled(train)
    scale = _looked_up(ratio, ticker, lambda rows: rows.mean(axis=0))
    return lambda part: scale(part) * unscaled(part)


def _garch_forecasts(days: Days, returns: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """Mean variance over each horizon after every position, (positions, 3), from `parameters` (positions, 3)."""
    forecasts = np.full((len(days.order), len(HORIZONS)), np.nan)
    for of_ticker in _spans(days):
        constant, arch, persistence = parameters[of_ticker.start]
        past = returns[of_ticker] ** 2
        ahead = _recursion(constant + arch * past, persistence, past[:MONTH].mean())
        total = np.zeros(len(past))
        for step in range(1, max(HORIZONS) + 1):
            total += ahead
            if step in HORIZONS:
                forecasts[of_ticker, HORIZONS.index(step)] = total / step
            ahead = constant + (arch + persistence) * ahead
    return forecasts


def _trees(facts: Facts, settings: Settings, train: Part, validation: Part) -> Forecast:
    """Boosted trees on the network's inputs, one model a horizon; as the network they correct the pooled forecast.

    The loss is the squared error of the logarithm of variance, as for the network; training stops where the loss on the
    validation rows does, as there.
    """
    columns = {"train": _flat(train), "validation": _flat(validation) if len(validation) else None}
    models = []
    for horizon in range(len(HORIZONS)):

        def error(part: Part, horizon: int = horizon) -> np.ndarray:
            logs = np.log(part.labels[:, horizon]) + facts.excess[horizon]
            return logs - _linear(part, HAR_POOLED)[:, horizon]

        model = HistGradientBoostingRegressor(
            **TREES,
            categorical_features=[0] if len(facts.tickers) < 255 else None,
            early_stopping=len(validation) > 0,
            n_iter_no_change=PATIENCE,
            random_state=settings.seed,
        )
        held_out = {"X_val": columns["validation"], "y_val": error(validation)} if len(validation) else {}
        models.append(model.fit(columns["train"], error(train), **held_out))

    def forecast(part: Part) -> np.ndarray:
        flat = _flat(part)
        return np.exp(_linear(part, HAR_POOLED) + np.stack([model.predict(flat) for model in models], axis=1))

    return forecast


def _linear(part: Part, which: slice) -> np.ndarray:
    """Logarithms of a linear model's forecasts, float64 (n, 3)."""
    return part.inputs["har"][part.rows][:, which].astype(np.float64)


def _flat(part: Part) -> np.ndarray:
    """Ticker, regressors, linear forecasts and the latest days of each row side by side, float32 (n, columns)."""
    days = _days(part)
    now = days.place[part.rows]
    position = np.maximum(now[:, None] + np.arange(1 - LATEST, 1), days.begin[now][:, None])
    latest = days.values[position][:, :, 1:].reshape(len(part), -1)
    ticker = _ticker(part).astype(np.float32)
    return np.column_stack([ticker, part.inputs["linear"][part.rows], part.inputs["har"][part.rows], latest])
