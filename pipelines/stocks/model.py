"""The volatility network: a linear forecast, and a correction by a small encoder of past days.

Variance: its logarithm as expected by HAR with leverage and market, fitted to all tickers together, plus a correction
whose last layer starts at zero: the network begins as the strongest linear baseline and learns the rest.
Returns: quantiles of the return in units of the forecast volatility, which start at those of the training returns
(filtered historical simulation, Barone-Adesi, Giannopoulos and Vosper 1999) and cannot cross.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import keras
import numpy as np
from keras import KerasTensor, layers, ops

from pipelines.stocks import Settings
from pipelines.stocks.features import HAR_POOLED, HORIZONS

if TYPE_CHECKING:
    from pipelines.stocks.data import Facts

LEVELS = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
"""Of the quantiles of returns."""
MEDIAN = LEVELS.index(0.5)
WIDTH, HIDDEN = 16, 32  # of the encoder; of the layer behind it
KERNEL, DILATIONS = 3, (1, 2, 4, 8)  # days; together they reach 33 days back
EMBEDDING = 4
UNKNOWN = 0.2
"""Share of training rows whose ticker is taken as unseen, so that the network copes with unseen tickers."""
DROPOUT = 0.4
TRUST = (1.0, 0.75, 0.25)
"""Share of the learnt correction that enters the forecast of each horizon. Targets of a month overlap: ten years have
about a hundred that do not, and above all their level is learnt from a single crisis."""


def build(facts: Facts, settings: Settings, x: Mapping[str, np.ndarray], y: np.ndarray) -> keras.Model:
    """The network: `past`, `linear`, `har` and `ticker` in, see `features.inputs`; float32 (n, 3 + 3 * 7) out.

    Outputs are the expected log of the mean daily variance over each horizon (plus `excess` of the facts it is the log
    of the expected variance), then for each horizon the quantiles of the log return at LEVELS, ascending.

    Args:
        facts: `tickers` and `excess`, as learnt from the training records.
        settings: not used.
        x: training inputs, whose means and deviations standardise all inputs.
        y: their targets (n, 6), whose standardised returns give the quantiles to start from.
    """
    past = keras.Input(x["past"].shape[1:], name="past", dtype="float32")
    linear = keras.Input(x["linear"].shape[1:], name="linear", dtype="float32")
    har = keras.Input(x["har"].shape[1:], name="har", dtype="float32")
    ticker = keras.Input((), name="ticker", dtype="int32")

    days = past[..., :1] * _standardised(past, x["past"][x["past"][..., 0] > 0])
    regressors = _standardised(linear, x["linear"])
    excess = np.array(facts.excess, np.float32)
    start = har[:, HAR_POOLED] - excess
    standard = y[:, len(HORIZONS) :] / (np.exp((x["har"][:, HAR_POOLED] - excess) / 2) * np.sqrt(HORIZONS))
    quantiles = np.quantile(standard, LEVELS, axis=0).T

    embedded = layers.Embedding(len(facts.tickers) + 1, EMBEDDING)(ticker)
    known = layers.Dropout(UNKNOWN)(ops.cast(ticker > 0, embedded.dtype)[:, None])
    hidden = layers.Concatenate()([_encoded(days), regressors, embedded * known])
    hidden = layers.Dense(HIDDEN, activation="gelu")(hidden)
    hidden = layers.Dropout(DROPOUT)(hidden)

    correction = layers.Dense(len(HORIZONS), kernel_initializer="zeros", dtype="float32")(hidden)
    log_variance = start + correction * np.array(TRUST, np.float32)
    shape = layers.Dense(quantiles.size, kernel_initializer="zeros", dtype="float32")
    standard = _ascending(ops.reshape(shape(hidden), (-1, *quantiles.shape)))
    shape.bias.assign(_unordered(quantiles).ravel())
    returns = ops.reshape(standard * _scale(log_variance), (-1, quantiles.size))
    inputs = {"past": past, "linear": linear, "har": har, "ticker": ticker}
    return keras.Model(inputs, ops.concatenate([log_variance, returns], axis=1), name="stocks")


def _standardised(values: KerasTensor, of: np.ndarray) -> KerasTensor:
    flat = of.reshape(-1, of.shape[-1]).astype(np.float64)
    return layers.Normalization(mean=flat.mean(axis=0), variance=flat.var(axis=0) + 1e-12, dtype="float32")(values)


def _encoded(days: KerasTensor) -> KerasTensor:
    """Residual dilated convolutions (Bai, Kolter and Koltun 2018), (n, WIDTH): their output for the last day.

    Each layer computes no more positions than that day needs, half of those of causal padding.
    """
    reach = 1 + (KERNEL - 1) * (1 + sum(DILATIONS))
    days = layers.ZeroPadding1D((max(reach - days.shape[1], 0), 0))(days)[:, -reach:]
    hidden = layers.Conv1D(WIDTH, KERNEL)(days)
    for dilation in DILATIONS:
        residual = layers.Conv1D(WIDTH, KERNEL, dilation_rate=dilation, activation="gelu")(hidden)
        hidden = hidden[:, (KERNEL - 1) * dilation :] + layers.Dropout(DROPOUT)(residual)
    return hidden[:, 0]


def _scale(log_variance: KerasTensor) -> KerasTensor:
    """Standard deviation of the return over each horizon were the days alike, (n, 3, 1); no gradient passes.

    The variance learns from QLIKE alone: returns say less about it than the day's range does.
    """
    total = ops.stop_gradient(log_variance) + np.log(HORIZONS).astype(np.float32)
    return ops.exp(total / 2)[..., None]


def _ascending(values: KerasTensor) -> KerasTensor:
    """Quantiles from unbounded numbers along the last axis: the median as it is, the others by positive steps."""
    steps = ops.softplus(values)
    median = values[..., MEDIAN : MEDIAN + 1]
    below = ops.flip(ops.cumsum(ops.flip(steps[..., :MEDIAN], axis=-1), axis=-1), axis=-1)
    above = ops.cumsum(steps[..., MEDIAN + 1 :], axis=-1)
    return ops.concatenate([median - below, median, median + above], axis=-1)


def _unordered(quantiles: np.ndarray) -> np.ndarray:
    """The inverse of `_ascending`."""
    steps = np.log(np.expm1(np.maximum(np.diff(quantiles, axis=-1), 1e-6)))
    return np.concatenate([steps[:, :MEDIAN], quantiles[:, MEDIAN : MEDIAN + 1], steps[:, MEDIAN:]], axis=-1)


def LOSS(y_true: KerasTensor, y_pred: KerasTensor) -> KerasTensor:  # noqa: N802
    """QLIKE of the variance to second order plus pinball of standardised returns, each a mean over horizons; (n,).

    QLIKE is e^d - d - 1 of d = ln(v/h), to second order d^2 / 2. The exponential would let the days of one crisis set
    the level of all forecasts: in earlier periods of both data sets it did worse, see the model card.
    """
    y_true = ops.cast(y_true, "float32")
    horizons = len(HORIZONS)
    log_variance = y_pred[:, :horizons]
    error = ops.log(y_true[:, :horizons]) - log_variance
    quantiles = ops.reshape(y_pred[:, horizons:], (-1, horizons, len(LEVELS)))
    beyond = (y_true[:, horizons:, None] - quantiles) / _scale(log_variance)
    levels = np.array(LEVELS, np.float32)
    pinball = ops.maximum(levels * beyond, (levels - 1) * beyond)
    return ops.mean(ops.square(error), axis=1) / 2 + ops.mean(pinball, axis=(1, 2))
