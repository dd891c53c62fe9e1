"""Identity: how a record is recognised in every file that holds it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from pandas.api import types
from pandas.util import hash_array

from pipelines.core.contract import InputError

BOOLEANS = {"True": 1.0, "False": 0.0}
"""How pandas writes booleans in a column with other cells."""
EXACT = 2.0**53
"""From here on float64 no longer holds every whole number."""
DIGITS = 9
"""Significant digits of a number with a fraction by which it is recognised: less is noise of writing and computing."""
DATE = r"\d{4}-\d\d-\d\d"
"""What a text begins with that is a date or a time."""


def identities(records: pd.DataFrame, key: Sequence[str]) -> np.ndarray:
    """A uint64 digest of the cells in the columns `key` of each record, (n,).

    It does not depend on other columns, on the order of rows or columns, nor on how a number is written: 1, 1.0, "1"
    and True are the same cell, as are equal times, fractions that agree in DIGITS digits, and all missing values.

    Raises:
        InputError: if a column of the key is missing.

    Example:
        >>> one, other = pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"b": ["x", "y"], "a": ["2", "1.0"]})
        >>> bool((identities(one, ["a"]) == identities(other, ["a"])[::-1]).all())
        True
    """
    if absent := sorted(set(key) - set(records)):
        raise InputError(f"Expected the column '{absent[0]}', by which records are recognised. Received: none.")
    total = np.zeros(len(records), np.uint64)
    for name in sorted(key):
        total = hash_array(total * np.uint64(31) ^ cell_hashes(records[name]))
    return total


def cell_hashes(column: pd.Series) -> np.ndarray:
    """A uint64 hash of each cell, (n,), equal for cells that mean the same; see `identities`."""
    if types.is_datetime64_any_dtype(column):
        times = column.dt.tz_convert(None) if isinstance(column.dtype, pd.DatetimeTZDtype) else column
        hashed = hash_array(times.to_numpy("datetime64[us]").view(np.int64))
        return np.where(column.isna(), _hashed_numbers(np.array([np.nan])), hashed)
    if types.is_integer_dtype(column) and not column.hasnans:
        whole = column.to_numpy()
        return _hashed_numbers(whole.astype(np.float64), lambda large: whole[large].astype(str))
    if types.is_numeric_dtype(column) and not types.is_integer_dtype(column):  # booleans too
        return _hashed_numbers(column.to_numpy(np.float64, na_value=np.nan))
    codes, values = pd.factorize(column)
    texts = pd.Series(values, dtype=object).astype(str)
    numbers = pd.to_numeric(texts.replace(BOOLEANS), errors="coerce").to_numpy(np.float64)
    as_numbers = _hashed_numbers(numbers, lambda large: texts.to_numpy(object)[large])
    hashed = np.where(np.isnan(numbers), hash_array(texts.to_numpy(object)), as_numbers)
    if (dates := texts.str.match(DATE)).any():  # what Parquet holds as a time, CSV holds as text
        times = pd.to_datetime(texts[dates], errors="coerce", utc=True, format="ISO8601")
        hashed[times.index[times.notna()]] = cell_hashes(times.dropna())
    return np.append(hashed, _hashed_numbers(np.array([np.nan])))[codes]  # the last for the code -1, a missing cell


def _hashed_numbers(values: np.ndarray, digits: Callable[[np.ndarray], np.ndarray] | None = None) -> np.ndarray:
    """Hashes of float64 values; of those beyond their 53 bits by `digits`, which gives texts for a mask."""
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = 10.0 ** (DIGITS - 1 - np.floor(np.log10(np.abs(values))))
        rounded = np.round(values * scale) / scale
    fractional = (values != np.trunc(values)) & np.isfinite(rounded)
    values = np.where(fractional, rounded, values)
    hashed = hash_array(np.where(np.isnan(values), np.nan, values + 0.0))  # one NaN, and no negative zero
    large = np.abs(values) >= EXACT
    if digits is not None and large.any():
        hashed[large] = hash_array(digits(large).astype(object))
    return hashed
