"""Tables that people have: CSV or Parquet in, checked cells out.

Every fault is one sentence that names the table, the row as the table's index counts it, the column and the value.
"""

import difflib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from pandas.api import types

from pipelines.core.contract import InputError

T = TypeVar("T")
COMPRESSED = {".gz", ".bz2", ".xz", ".zip", ".zst"}
WORDS = {"false": "0", "no": "0", "n": "0", "true": "1", "yes": "1", "y": "1"}
CHUNK = 200_000  # rows read at once where a table may be larger than memory
MOST_CATEGORIES = 1_000  # more distinct texts name things rather than describe them
EPOCH = pd.Timestamp("1970-01-01")
ZONE = r"[T ]\d\d.*(?:Z|[+-]\d\d(?::?\d\d)?)$"
"""How a time of ISO 8601 with a zone ends."""
MOST_SECONDS = 1e11  # a larger number counts milliseconds or less, and would stretch every span of time


def load(path: Path, names: Sequence[str] = ()) -> pd.DataFrame:
    """The table in a CSV (also compressed) or Parquet file; its index counts rows as the file does, header included.

    The columns `names`, where a CSV has them, name things: they are kept as they are written, 007 as 007.

    Raises InputError for a folder, an empty file, one without rows, or one that is neither.
    """
    with _opened(path) as parquet:
        table = pd.read_parquet(path) if parquet else pd.read_csv(path, **_layout(path, names), low_memory=False)
    table.columns = table.columns.astype(str)
    _refuse_empty(table, path)
    first = 1 if parquet else 2
    return table.set_axis(pd.RangeIndex(first, first + len(table)))


def chunks(
    path: Path, columns: Mapping[str, bool] | None = None, names: Sequence[str] = (), rows: int = CHUNK
) -> Iterator[pd.DataFrame]:
    """The same table, some rows at a time.

    With `columns`, it has those of them alone that the file has; True stands for one that the file must have.

    Raises InputError as `load` does, and for a column that is missing.
    """
    with _opened(path) as parquet:
        file = pq.ParquetFile(path) if parquet else None
        header = file.schema_arrow.empty_table().to_pandas() if file else pd.read_csv(path, nrows=0, **_layout(path))
        wanted = [column for column in header if columns is None or column in columns]
        for column, needed in (columns or {}).items():
            if needed and column not in wanted:
                raise InputError(f"{path.name}: expected the column '{column}'. Received: {listed(header, column)}.")
        if file:
            batches = (batch for batch in file.iter_batches(rows, columns=wanted) if batch.num_rows)
            # An integer stays one beside an empty cell, so that 7 is the same name in every chunk.
            begin, found = 1, (batch.to_pandas(integer_object_nulls=True) for batch in batches)
        else:
            begin, found = 2, pd.read_csv(path, usecols=wanted, chunksize=rows, **_layout(path, names))
        empty = True
        for table in found:
            yield table.set_axis(pd.RangeIndex(begin, begin + len(table)))
            begin, empty = begin + len(table), False
        if empty:
            _refuse_empty(header, path)


@contextmanager
def _opened(path: Path) -> Iterator[bool]:
    """Whether the file is Parquet, else CSV; inside, a reader's error on one that is neither becomes InputError."""
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
        yield parquet
    except (ValueError, OSError, EOFError, zlib.error) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(f"{path.name} is neither CSV text in UTF-8 nor Parquet. Received: {reason}.") from None


def _layout(path: Path, names: Sequence[str] = ()) -> dict[str, Any]:
    """How to read a CSV file."""
    header = pd.read_csv(path, nrows=0, encoding="utf-8-sig").columns
    separator = next((mark for mark in ";\t|" if len(header) == 1 and mark in header[0]), ",")
    return {"sep": separator, "encoding": "utf-8-sig", "dtype": dict.fromkeys(names, str)}


def _refuse_empty(table: pd.DataFrame, path: Path) -> None:
    if table.empty:
        raise InputError(f"{path.name} holds no rows: expected some below the header. Received: {listed(table)}.")


def listed(table: pd.DataFrame, *wanted: str) -> str:
    """The names of the columns, at most thirty, those close to a wanted name first."""
    known = {str(column).lower(): str(column) for column in reversed(table.columns)}
    close = dict.fromkeys(known[name] for w in wanted for name in difflib.get_close_matches(w.lower(), known))
    names = [str(column) for column in table.columns[:30]] + ["..."] * (len(table.columns) > 30)
    return f"columns {', '.join(names)}" + (f" (close: {', '.join(close)})" if close else "")


def refuse(column: pd.Series, bad: pd.Series, expected: str, origin: str) -> None:
    """Raise InputError for the cells of `column` that are `bad`; it says the first of them."""
    faults = {
        row: f"{origin}, row {row}, column '{column.name}': expected {expected}. Received: {_shown(value)}."
        for row, value in column[bad].items()
    }
    refuse_rows(faults)


def refuse_rows(faults: Mapping[Any, str]) -> None:
    """Raise InputError for rows at fault, each with its sentence, if there are any; it says the first of them."""
    if faults:
        first = next(iter(faults.values()))
        more = f" ({len(faults):,} such rows)." if len(faults) > 1 else "."
        raise InputError(first.removesuffix(".") + more, faults)


def _shown(value: Any) -> str:
    return "an empty cell" if pd.isna(value) else repr(value) if isinstance(value, str) else str(value)


def parse_valid_rows(
    parse: Callable[[pd.DataFrame], T], table: pd.DataFrame, names: pd.Series
) -> tuple[T, pd.DataFrame]:
    """Parse those rows of a table that can be parsed, and list the others.

    Args:
        parse: makes records of a table, or raises InputError with faults.
        table: raw columns.
        names: what each row of the table is called, by the same index.

    Returns:
        The records, and a table of `id` and `error` with the index of the rows at fault, ascending.

    Raises:
        InputError: where it is no rows that are at fault, or no records can be made without them.
    """
    faults: dict[Any, str] = {}
    while True:
        try:
            records = parse(table)
            break
        except InputError as error:
            if table.empty:
                refuse_rows(faults)
            if not error.faults:
                raise
            faults |= error.faults
            table = table.drop(index=list(error.faults))
    return records, faulty(faults, names)


def faulty(faults: Mapping[Any, str], names: pd.Series) -> pd.DataFrame:
    """The rows at fault as a table of `id` and `error`, in order of their index; `names` has every row's."""
    rows = sorted(faults)
    return pd.DataFrame({"id": names.loc[rows], "error": pd.Series(faults, dtype="str").loc[rows]}, index=rows)


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

    Text must be ISO 8601: in any other order of day and month, a guess can be wrong without a trace. For the same
    reason all times must have a zone or none: those that differ from most are refused.
    """
    if is_numeric(column):
        seconds = numbers(column, origin, required=True)
        refuse(column, seconds.abs() > MOST_SECONDS, "seconds", origin)
        return EPOCH + pd.to_timedelta(seconds, unit="s").astype("timedelta64[us]")
    raw = column if types.is_datetime64_any_dtype(column) else column.astype("str")
    values = pd.to_datetime(raw, errors="coerce", utc=True, format="ISO8601")
    refuse(column, values.isna(), "a date such as 2024-01-31 or 2024-01-31 12:30:00", origin)
    if not types.is_datetime64_any_dtype(raw):
        zoned = raw.str.contains(ZONE)
        most = zoned.mean() >= 0.5
        refuse(column, zoned != most, f"a time {'with' if most else 'without'} a zone, as most have it", origin)
    return values.dt.tz_localize(None).astype("datetime64[us]")


def identifiers(table: pd.DataFrame, name: str, origin: str) -> pd.Series:
    """The cells of the column `name`; raises InputError if one is empty or stands twice."""
    column = table[name]
    refuse(column, column.isna(), "an identifier", origin)
    twice = column.duplicated()
    if twice.any():
        first = pd.Series(column.index, column).loc[column[twice].unique()]
        first = first[~first.index.duplicated()]
        refuse_rows(
            {
                row: f"{origin}, column '{name}': expected each identifier once. Received: {_shown(value)} in rows "
                f"{first[value]} and {row}."
                for row, value in column[twice].items()
            }
        )
    return column.astype("str") if column.dtype == object else column


def useless(records: pd.DataFrame, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Those of the feature columns `names` that cannot help a network, with the reason."""
    order = records["time"].rank() if "time" in records else pd.Series(np.arange(len(records)), records.index)
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
