"""Drift of a column: bins, the population stability index, and tests of whether two samples differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types
from scipy.special import kolmogorov
from scipy.stats import chi2_contingency

MOST_VALUES = 20  # of a text column, the most frequent; the others share a bin
DECILES = np.arange(1, 10) / 10


def binned(column: pd.Series) -> dict[str, Any]:
    """The bins of a column and how many records each holds.

    The last bin is for what is missing, that before it, of a column of texts, for any other text.
    """
    if types.is_numeric_dtype(column):
        known = column.dropna().to_numpy(float)
        deciles = np.quantile(known, DECILES) if len(known) else np.empty(0)
        bins = {"edges": np.unique(deciles).tolist(), "median": float(np.median(known)) if len(known) else None}
    else:
        bins = {"values": column.dropna().astype(str).value_counts().index[:MOST_VALUES].tolist()}
    return bins | {"counts": counts(column, bins).tolist()}


def counts(column: pd.Series, bins: Mapping[str, Any]) -> np.ndarray:
    """How many cells fall in each bin, int64 (bins,)."""
    if "edges" in bins:
        values, held = column.to_numpy(float), len(bins["edges"]) + 1
        at = np.searchsorted(bins["edges"], values, side="left")  # an edge belongs to the bin below it
    else:
        values, held = column.astype(str), len(bins["values"]) + 1
        at = pd.Index(bins["values"]).get_indexer(values) % held  # -1, any other, becomes the last
    return np.bincount(np.where(column.isna(), held, at), minlength=held + 1)


def psi(expected: np.ndarray, actual: np.ndarray) -> float:
    """Population stability index of counts in the same bins, each (bins,)."""
    return float(contributions(expected, actual).sum())


def contributions(expected: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """What each bin adds to the index, (bins,); nothing where both counts are 0."""
    used = (expected > 0) | (actual > 0)
    e, a = expected[used] + 0.5, actual[used] + 0.5
    e, a = e / e.sum(), a / a.sum()
    found = np.zeros(len(expected))
    found[used] = (a - e) * np.log(a / e)
    return found


def p_value(expected: np.ndarray, actual: np.ndarray, ordered: bool) -> tuple[float, str]:
    """P-value that two samples are of one population, by their counts in the same bins, and the name of the test.

    The last bin holds what is missing, which the Kolmogorov-Smirnov test of `ordered` bins leaves out.
    """
    if not ordered:
        used = (expected > 0) | (actual > 0)
        return float(chi2_contingency(np.stack([expected, actual])[:, used]).pvalue), "chi square"
    e, a = expected[:-1], actual[:-1]
    n, m = e.sum(), a.sum()
    if not (n and m):
        return float("nan"), "KS"
    apart = np.abs(e.cumsum() / n - a.cumsum() / m).max()
    return float(kolmogorov(apart * np.sqrt(n * m / (n + m)))), "KS"


# --------------------------------------------------------------------------------------------------------------- drift


def columns(scores: np.ndarray) -> list[pd.Series]:
    """Scores (n,) or (n, columns), column by column."""
    return [pd.Series(values) for values in np.atleast_2d(scores.T)]
