"""Tables that people have: CSV or Parquet in, checked cells out.

Every fault is one sentence that names the table, the row as the table's index counts it, the column and the value.
"""

import difflib
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api import types

from pipelines.core.pipeline import InputError

COMPRESSED = {".gz", ".bz2", ".xz", ".zip", ".zst"}
WORDS = {"false": "0", "no": "0", "true": "1", "yes": "1"}
MOST_CATEGORIES = 1_000  # more distinct texts name things rather than describe them
EPOCH = pd.Timestamp("1970-01-01")
MOST_SECONDS = 1e11  # a larger number counts milliseconds or less, and would stretch every span of time


def load(path: Path, names: Sequence[str] = ()) -> pd.DataFrame:
    """The table in a CSV (also compressed) or Parquet file; its index counts rows as the file does, header included.

    The columns `names`, where a CSV has them, name things: they are kept as they are written, 007 as 007.

    Raises InputError for a folder, an empty file, one without rows, or one that is neither.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder: expected a CSV or Parquet file.")
    try:
        with path.open("rb") as file:
            begin = file.read(4096)
        if not begin:
            raise InputError(f"{path.name} is empty: expected a CSV or Parquet file.")
        parquet = begin.startswith(b"PAR1")
        if b"\0" in begin and path.suffix not in COMPRESSED and not parquet:
            raise ValueError("binary data")
        table = pd.read_parquet(path) if parquet else _read_csv(path, names)
    except (ValueError, OSError, EOFError, zlib.error) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(f"{path.name} is neither CSV text in UTF-8 nor Parquet. Received: {reason}.") from None
    table.columns = table.columns.astype(str)
    if table.empty:
        raise InputError(f"{path.name} holds no rows: expected some below the header. Received: {listed(table)}.")
    first = 1 if parquet else 2
    return table.set_axis(pd.RangeIndex(first, first + len(table)))


def _read_csv(path: Path, names: Sequence[str]) -> pd.DataFrame:
    header = pd.read_csv(path, nrows=0, encoding="utf-8-sig").columns
    separator = next((mark for mark in ";\t|" if len(header) == 1 and mark in header[0]), ",")
    return pd.read_csv(path, sep=separator, encoding="utf-8-sig", low_memory=False, dtype=dict.fromkeys(names, str))


def listed(table: pd.DataFrame, *wanted: str) -> str:
    """The names of the columns, at most thirty, those close to a wanted name first."""
    known = {str(column).lower(): str(column) for column in reversed(table.columns)}
    close = dict.fromkeys(known[name] for w in wanted for name in difflib.get_close_matches(w.lower(), known))
    names = [str(column) for column in table.columns[:30]] + ["..."] * (len(table.columns) > 30)
    return f"columns {', '.join(names)}" + (f" (close: {', '.join(close)})" if close else "")


def refuse(column: pd.Series, bad: pd.Series, expected: str, origin: str) -> None:
    """Raises InputError for the first cell of `column` that is `bad`."""
    if bad.any():
        row = bad.idxmax()
        value = column[row]
        told = "an empty cell" if pd.isna(value) else repr(value) if isinstance(value, str) else value
        more = f" ({bad.sum():,} such rows)" if bad.sum() > 1 else ""
        raise InputError(f"{origin}, row {row}, column '{column.name}': expected {expected}. Received: {told}{more}.")


def is_numeric(column: pd.Series) -> bool:
    """Whether a column is made of numbers: also one of text, if more than half of its cells are and the rest slips."""
    if types.is_numeric_dtype(column):
        return True
    if types.is_datetime64_any_dtype(column):
        return False
    return pd.to_numeric(column.astype("str"), errors="coerce").notna().sum() > column.notna().sum() / 2


def numbers(column: pd.Series, origin: str, required: bool = False) -> pd.Series:
    """The cells as finite float64, NaN where empty, which `required` forbids; raises InputError for any other cell."""
    raw = column if types.is_numeric_dtype(column) else column.astype("str")
    values = pd.to_numeric(raw, errors="coerce").astype("float64")
    bad = (values.isna() & (column.notna() | required)) | np.isinf(values)
    refuse(column, bad, "a number", origin)
    return values


def texts(column: pd.Series) -> pd.Series:
    """The cells as text, NaN where empty; dates stay dates."""
    return column if types.is_datetime64_any_dtype(column) else column.astype("str")


def flags(column: pd.Series, expected: str, origin: str) -> pd.Series:
    """Cells of 0 and 1, false and true, or no and yes as int8, -1 where empty; raises InputError for any other."""
    raw = column
    if not types.is_numeric_dtype(column):
        raw = column.astype("str").str.strip().str.lower().replace(WORDS)
    values = pd.to_numeric(raw, errors="coerce").astype("float64")
    refuse(column, column.notna() & ~values.isin([0, 1]), expected, origin)
    return values.fillna(-1).astype(np.int8)


def times(column: pd.Series, origin: str) -> pd.Series:
    """Times as datetime64[us] without a zone, in UTC where the column has one; numbers are seconds since 1970.

    Text must be ISO 8601: in any other order of day and month, a guess can be wrong without a trace.
    """
    if is_numeric(column):
        seconds = numbers(column, origin, required=True)
        refuse(column, seconds.abs() > MOST_SECONDS, "seconds", origin)
        return EPOCH + pd.to_timedelta(seconds, unit="s").astype("timedelta64[us]")
    raw = column if types.is_datetime64_any_dtype(column) else column.astype("str")
    values = pd.to_datetime(raw, errors="coerce", utc=True, format="ISO8601")
    refuse(column, values.isna(), "a date such as 2024-01-31 or 2024-01-31 12:30:00", origin)
    return values.dt.tz_localize(None).astype("datetime64[us]")


def identifiers(table: pd.DataFrame, name: str, origin: str) -> pd.Series:
    """The cells of the column `name`; raises InputError if one is empty or stands twice."""
    column = table[name]
    refuse(column, column.isna(), "an identifier", origin)
    twice = column.duplicated()
    if twice.any():
        first, second = column.index[column == column[twice.idxmax()]][:2]
        raise InputError(
            f"{origin}, column '{name}': expected each identifier once. Received: {column[first]!r} in rows {first} "
            f"and {second} ({twice.sum():,} such rows)."
        )
    return column.astype("str") if column.dtype == object else column


def useless(records: pd.DataFrame, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Those of the feature columns `names` that cannot help a network, with the reason."""
    order = records["time"].rank() if "time" in records else pd.Series(np.arange(len(records)))
    sample = records.index[:: 1 + len(records) // 20_000]  # enough to tell a trend
    for name in names:
        column = records[name]
        if column.nunique(dropna=False) <= 1:
            yield name, "it is constant"
        elif types.is_datetime64_any_dtype(column):
            yield name, "it is a date"
        elif types.is_numeric_dtype(column):
            ranks = column[sample].rank()
            if column.nunique() > len(column) / 100 and abs(ranks.corr(order[sample])) > 0.999:
                yield name, "it grows with time or with the rows, as identifiers do"
        elif pd.to_datetime(column[sample], errors="coerce", utc=True, format="ISO8601").notna().mean() > 0.5:
            yield name, "it is a date"
        elif column.nunique() > min(MOST_CATEGORIES, len(column) / 2):
            yield name, f"its {column.nunique():,} different texts name things rather than describe them"
